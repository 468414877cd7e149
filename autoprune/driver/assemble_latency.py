"""Composition of a search's latency: a table from a file, or one measured here before the first trial and kept."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from autoprune.config.latency import LatencyMeasure
from autoprune.config.schema import SearchConfig
from autoprune.data.cache import cache_dir
from autoprune.errors import ConfigError
from autoprune.latency.attach import attached, kept_table
from autoprune.latency.build import Effort, build_table
from autoprune.latency.files import load_table
from autoprune.latency.measure import device_label
from autoprune.latency.settings import LatencySettings
from autoprune.latency.table import LatencyTable
from autoprune.space.space import SearchSpace

if TYPE_CHECKING:
    from torch import Tensor, nn

    from autoprune.protocols import Progress

    Network = Callable[[], tuple[nn.Module, Tensor | tuple[Tensor, ...]]]

__all__ = ["with_latency"]

_METRIC = "latency_ms"


def with_latency(space: SearchSpace, config: SearchConfig, progress: Progress, network: Network) -> SearchSpace:
    """The space with ``latency_ms`` among its costs, where the search says where it comes from.

    ``network`` gives the full model and the example of its input, in case it must be measured. Raises ConfigError for a
    table of another space, and when ``latency_ms`` is asked for and nothing provides it; NotFound for a missing file.
    """
    if config.latency is None:
        named = {item.metric for item in config.parsed_objectives()}
        if _METRIC in named | {item.metric for item in config.parsed_constraints()}:
            raise ConfigError(
                "latency_ms is an objective or a constraint, and nothing provides it.",
                "Add 'latency: {measure: {}}', or 'latency: {table: FILE}' with a file of 'autoprune latency-table'.",
            )
        return space
    if config.latency.measure is not None:
        table = _measured(space, config.latency.measure, progress, network)
    else:
        table = load_table(str(config.latency.table))
    progress.note(
        f"latency_ms is predicted for {table.device} ({table.settings}); "
        f"median error on networks held out {100 * table.median_error:.1f} %"
    )
    return attached(space, table)


def _measured(
    space: SearchSpace,
    measure: LatencyMeasure,
    progress: Progress,
    network: Network,
) -> LatencyTable:
    chosen = measure.model_dump(exclude={"levels", "rounds"})
    settings = LatencySettings(**chosen)
    effort = Effort.suited(settings, levels=measure.levels, rounds=measure.rounds)
    begun = False

    def on_visit(done: int, total: int) -> None:
        nonlocal begun
        if not begun:
            progress.phase("timing networks", total)
            begun = True
        progress.advance()

    def make() -> LatencyTable:
        model, image = network()
        return build_table(model, image, space, settings, effort=effort, on_progress=on_visit)

    return kept_table(cache_dir("latency"), space, settings, device_label(settings), effort, make)
