"""Latency: a table of a space on this machine, or one model timed."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from autoprune.driver.observers import Silent

if TYPE_CHECKING:
    import torch
    from torch import nn

    from autoprune.config.schema import RuleConfig
    from autoprune.latency.advice import Advice
    from autoprune.latency.measure import Latency
    from autoprune.latency.table import LatencyTable
    from autoprune.protocols import Progress

__all__ = ["latency", "latency_table", "multiples"]


def latency_table(
    spec: str,
    out: str | Path,
    *,
    settings: Mapping[str, Any] | None = None,
    effort: Mapping[str, int] | None = None,
    input_shape: tuple[int, int, int] | None = None,
    progress: Progress | None = None,
) -> LatencyTable:
    """Measure a latency table on this machine and write it to ``out`` (JSON).

    ``spec``: a search space file, a launch file, or a model as :func:`autoprune.api.space` takes it, whose widths are
    then multiples of 4 from a quarter up. ``settings``: fields of :class:`autoprune.latency.settings.LatencySettings`;
    ``effort``: of :class:`autoprune.latency.build.Effort`. No data is read and nothing trained: weights do not matter.
    Raises ConfigError.
    """
    from autoprune.latency.build import Effort, build_table
    from autoprune.latency.files import save_table
    from autoprune.latency.settings import LatencySettings
    from autoprune.space.space import SearchSpace

    chosen = LatencySettings(**(settings or {}))
    tried = Effort.suited(chosen, **(effort or {}))
    shown = progress or Silent()
    shown.phase("groups")
    model, example, rules = _model(spec, input_shape)
    space = SearchSpace.from_module(model, example, rules)
    begun = False

    def on_visit(done: int, total: int) -> None:
        nonlocal begun
        if not begun:
            shown.phase("timing networks", total)
            begun = True
        shown.advance()

    table = build_table(model, example, space, chosen, effort=tried, name=spec, on_progress=on_visit)
    save_table(table, out)
    return table


def latency(
    spec: str,
    *,
    settings: Mapping[str, Any] | None = None,
    input_shape: tuple[int, int, int] | None = None,
    repeats: int = 50,
    min_seconds: float = 1.0,
) -> Latency:
    """Time one network on this machine: what :func:`latency_table` takes, or the folder of an exported model.

    Raises ConfigError for a network that does not run on an image of the shape.
    """
    from autoprune.latency.measure import measure_latency
    from autoprune.latency.settings import LatencySettings

    chosen = LatencySettings(**(settings or {}))
    model, example = _exported(spec, input_shape) if Path(spec).is_dir() else _model(spec, input_shape)[:2]
    return measure_latency(model, example, chosen, repeats=repeats, min_seconds=min_seconds)


def multiples(table: LatencyTable) -> tuple[Advice, dict[str, Advice]]:
    """Which multiple widths should be rounded to on the table's device: over all layers, and group by group."""
    from autoprune.latency.advice import advice_by_group, overall_advice

    return overall_advice(table), advice_by_group(table)


def _model(
    spec: str, input_shape: tuple[int, int, int] | None
) -> tuple[nn.Module, torch.Tensor, tuple[RuleConfig, ...]]:
    """Model with random weights, an image and the rules for widths."""
    import torch

    from autoprune.api.spaces import resolved
    from autoprune.config.loading import load_search
    from autoprune.config.reading import read_yaml
    from autoprune.config.schema import SpaceConfig
    from autoprune.data.shapes import shape_and_classes
    from autoprune.models import registry

    if spec.endswith((".yaml", ".yml")) and "space" in read_yaml(Path(spec)).data:
        space = load_search(spec).space
        shape, classes = shape_and_classes(space.data)
        config, rules = space.model, space.rules
    else:
        config, shape, classes, rules = resolved(spec)
        rules = rules or SpaceConfig.model_fields["rules"].default
    shape = input_shape or shape
    torch.manual_seed(0)
    model = registry.build(config, num_classes=classes, in_channels=shape[0]).eval()
    return model, torch.rand((1, *shape)), rules


def _exported(folder: str, input_shape: tuple[int, int, int] | None) -> tuple[nn.Module, torch.Tensor]:
    import torch

    from autoprune.errors import ConfigError
    from autoprune.exporters.bundle import load_model

    if input_shape is None:
        raise ConfigError("the image shape of an exported model is not known.", "Write for example --input 3x32x32.")
    return load_model(folder), torch.rand((1, *input_shape))
