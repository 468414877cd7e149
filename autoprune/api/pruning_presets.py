"""A paper's whole pruning procedure on a base model: one call, one smaller trained network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from autoprune.api.stores import open_at, store_url
from autoprune.driver.observers import Silent
from autoprune.errors import ConfigError

if TYPE_CHECKING:
    from autoprune.config.schema import SearchConfig
    from autoprune.procedures.phases import Preset
    from autoprune.procedures.progress import Row
    from autoprune.protocols import Progress

__all__ = ["PresetInfo", "PruneResult", "preset_list", "prune"]


@dataclass(frozen=True)
class PresetInfo:
    """A procedure that :func:`prune` knows."""

    name: str
    paper: str
    steps: str
    deviations: str
    """Where it differs from the paper."""


@dataclass(frozen=True)
class PruneResult:
    """What a procedure made."""

    preset: str
    label: str
    """As a front names it: the preset, and what was left out of it or taken by table."""
    widths: Mapping[str, int]
    kept: Mapping[str, tuple[int, ...]]
    """Group -> the units of the base model that are left."""
    metrics: Mapping[str, float]
    """``top1`` and ``loss`` on search-val, ``test_top1`` and ``test_loss``, and the costs."""
    baseline: Mapping[str, float]
    """The same of the base model."""
    rows: tuple[Row, ...]
    """Round by round: costs, top1 on search-val before and after the training that followed."""
    seconds: float
    digest: str
    """Of all that decides the result."""
    output: Path | None
    """The folder of the exported model."""
    search: str | None
    """The search that has it among its preset points."""


def preset_list() -> list[PresetInfo]:
    """All presets, with paper, steps, and where they differ from it."""
    from autoprune.procedures.presets import PRESETS

    return [PresetInfo(each.name, each.paper, each.steps, each.deviations) for each in PRESETS.values()]


def prune(
    preset: str,
    config: str | Path | Mapping[str, Any] | SearchConfig | None = None,
    *,
    budget: Sequence[str] = (),
    table: str | None = None,
    search: str | None = None,
    overrides: Sequence[str] = (),
    recipe: Sequence[str] = (),
    epochs: float | None = None,
    finetune: bool = True,
    seed: int = 0,
    out: str | Path | None = None,
    licence: str = "unknown",
    store: str | None = None,
    progress: Progress | None = None,
) -> PruneResult:
    """Prune a base model as a paper did, to a budget.

    Args:
        config: a launch file or a search space file, or a mapping of either's shape.
        budget: upper bounds such as ``macs <= 0.5 * baseline``, ``keep_ratio <= 0.6``.
        table: instead, a network that the paper pruned by hand, such as ``vgg16-a``.
        search: instead of ``config``, a stored search: its base model, images and evaluation; the result is kept
            beside its front.
        overrides: of the file, such as ``space.data.root=PATH``.
        recipe: settings of all trainings, such as ``lr=0.01``.
        epochs: of the last training; the others keep their proportion to it.
        finetune: False leaves out all fine-tuning, between rounds too.
        out: folder for the model, which ``autoprune.load_model`` reads.

    A call that was killed goes on from its last round, or inside a training; a finished one is not run again. Raises
    ConfigError, NothingFeasible for a budget out of reach, Conflict, NotFound, SearchAborted when a training diverges.
    """
    from autoprune.api.pruning_presets_setup import (
        check_network,
        checked_budgets,
        config_of,
        export,
        searched,
        setting_of,
    )
    from autoprune.driver.assemble import prepare
    from autoprune.exporters.staging import writable
    from autoprune.procedures.engine import Procedure
    from autoprune.procedures.presets import preset as preset_named

    chosen, shown = preset_named(preset), progress or Silent()
    if (config is None) == (search is None):
        raise ConfigError("give either a launch or space file, or --search NAME: one of them says what to prune.")
    budgets = checked_budgets(chosen, budget, table)
    if seed < 0 or (epochs is not None and not 0 < epochs < 1e6):
        raise ConfigError(f"seed must not be negative and epochs must be above 0, got {seed} and {epochs}.")
    if out is not None:
        writable(Path(out))
    record = None if search is None else searched(search, store, overrides)
    loaded = config_of(config if record is None else record.config, overrides, budgets, searched=record is not None)
    check_network(chosen, loaded)
    prepared = prepare(loaded, shown)
    setting = setting_of(
        chosen, prepared, record, table=table, recipe=recipe, epochs=epochs, trains=finetune, seed=seed
    )
    procedure = Procedure(chosen, setting, shown)
    course = procedure.run()
    label = _label(chosen, table, finetune)
    folder = None if out is None else export(course, procedure, label, prepared, record, Path(out), licence)
    if record is not None:
        from autoprune.store.points import PresetPoint, save_point

        with open_at(store_url(store)) as opened:
            widths = course.standing.widths
            point = PresetPoint(procedure.digest, label, procedure.content(), widths, course.metrics)
            save_point(opened, record.name, point)
    return PruneResult(
        preset=chosen.name,
        label=label,
        widths=course.standing.widths,
        kept={name: tuple(map(int, units)) for name, units in course.standing.kept.items()},
        metrics=course.metrics,
        baseline=course.baseline,
        rows=tuple(course.rows),
        seconds=course.seconds,
        digest=procedure.digest,
        output=folder,
        search=None if record is None else record.name,
    )


def _label(chosen: Preset, table: str | None, finetune: bool) -> str:
    table_named = f" {table}" if table else ""
    return f"{chosen.name}{table_named}{'' if finetune else ' (not fine-tuned)'}"
