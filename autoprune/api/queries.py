"""Reading a store: searches, trials, fronts, and the model that fits the budgets. No torch, no Ray."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from autoprune.analysis.axes import search_axes
from autoprune.analysis.front import Front, front_axes, front_rows
from autoprune.analysis.history import History, build_history
from autoprune.analysis.metrics import require_known
from autoprune.analysis.nodes import NodeFigures
from autoprune.analysis.selection import Selection, choose, nothing_complete, nothing_feasible
from autoprune.api.preset_points import with_points
from autoprune.api.stores import open_at, store_url
from autoprune.config.expressions import parse_constraint, parse_objective
from autoprune.errors import ConfigError, did_you_mean
from autoprune.types import Constraint, Objective, SearchRecord, Trial, TrialState

if TYPE_CHECKING:
    from autoprune.store import MetricColumns

__all__ = [
    "Source",
    "choosing_by",
    "front",
    "history",
    "nodes",
    "own_axes",
    "plot",
    "read_front",
    "read_history",
    "read_select",
    "report",
    "require_measured",
    "searches",
    "select",
    "trials",
]


class Source(Protocol):
    """What the queries below read of a store, or of something that remembers what it read."""

    def baseline(self, name: str) -> Mapping[str, float]: ...

    def config(self, name: str) -> Mapping[str, Any]: ...

    def metric_columns(self, name: str, names: Collection[str]) -> MetricColumns: ...

    def measured(self, name: str) -> set[str]: ...

    def trial(self, name: str, number: int) -> Trial: ...

    def trials(self, name: str, *, numbers: Collection[int]) -> list[Trial]: ...


def searches(store: str | None = None) -> list[SearchRecord]:
    """All searches of the store, newest first. Raises NotFound when there is no store."""
    with open_at(store_url(store), read_only=True) as opened:
        return opened.searches()


def trials(name: str, *, states: Sequence[TrialState | str] | None = None, store: str | None = None) -> list[Trial]:
    """The trials of a search by number. Raises NotFound for an unknown search, ConfigError for an unknown state."""
    wanted = None if states is None else [_state(item) for item in states]
    with open_at(store_url(store), read_only=True) as opened:
        opened.search(name)
        return opened.trials(name, states=wanted)


def front(
    name: str,
    *,
    x: str | None = None,
    y: str | None = None,
    where: Sequence[str] = (),
    presets: bool = False,
    store: str | None = None,
) -> Front:
    """The Pareto front of two metrics among the complete trials that meet every ``where``.

    The axes are the search's own objectives unless named: ``x`` a cost, ``y`` a quality.
    ``where`` takes expressions such as ``macs <= 0.5 * baseline``. Stopped trials are estimates and never on a front.
    ``presets`` puts beside it, as its ``points``, what ``prune(..., search=name)`` made.
    Raises NotFound for an unknown search, ConfigError for an expression or a metric that no trial has.
    """
    with open_at(store_url(store), read_only=True) as opened:
        axes = front_axes(*own_axes(opened, name, x, y))
        found = read_front(opened, name, axes, _constraints(where))
        return with_points(opened, found) if presets else found


def read_front(
    opened: Source, name: str, axes: tuple[Objective, Objective], constraints: Sequence[Constraint] = ()
) -> Front:
    """``front`` from an open store."""
    baseline = opened.baseline(name)
    asked = [*(each.metric for each in axes), *(each.metric for each in constraints)]
    found = opened.metric_columns(name, asked)
    members, considered = [], 0
    if found.complete.any():
        require_measured(opened, name, asked, found)
        rows, considered = front_rows(found.values, axes, constraints, baseline)
        members = _in_order(opened, name, found.numbers[rows])
    return Front(name, axes[0], axes[1], baseline, tuple(members), considered, tuple(constraints))


def plot(front: Front, path: str | Path, *, store: str | None = None) -> Path:
    """Draw a front over the other trials of its search: ``.png``, ``.svg`` or ``.html``; returns the file.

    Of more than 10,000 trials off the front some are drawn, and the legend says so. Raises ConfigError for another
    suffix.
    """
    from autoprune.analysis.plots import plot_front
    from autoprune.api.reporting import drawn_trials

    with open_at(store_url(store), read_only=True) as opened:
        trials, others = drawn_trials(opened, front)
    return plot_front(front, path, trials=trials, others=others)


def history(name: str, *, x: str | None = None, y: str | None = None, store: str | None = None) -> History:
    """The hypervolume of two metrics after each trial, in the order of their numbers; by default the search's own two.

    The reference lies a tenth of the range beyond the worst complete trial. A trial that is not COMPLETE or lacks a
    metric repeats the value before it, or is left out.
    Raises NotFound for an unknown search, ConfigError for a metric that no trial has.
    """
    with open_at(store_url(store), read_only=True) as opened:
        return read_history(opened, name, front_axes(*own_axes(opened, name, x, y)))


def read_history(opened: Source, name: str, objectives: Sequence[Objective]) -> History:
    """``history`` from an open store, of one to three objectives."""
    opened.baseline(name)
    asked = [each.metric for each in objectives]
    found = opened.metric_columns(name, asked)
    if found.complete.any():
        require_measured(opened, name, asked, found)
    return build_history(name, found.numbers, found.values, objectives)


def select(
    name: str,
    *,
    where: Sequence[str] = (),
    maximize: str | None = None,
    minimize: str | None = None,
    store: str | None = None,
) -> Selection:
    """The best trial under all budgets at once, by the search's own measure of quality (``top1``) unless another
    metric is named.

    Raises NothingFeasible with the nearest miss, NotFound, and ConfigError (also for metrics of the test split:
    choosing by them would make the test images part of the search).
    """
    constraints = _constraints(where)
    objective = choosing_by(maximize, minimize, constraints)
    with open_at(store_url(store), read_only=True) as opened:
        return read_select(opened, name, constraints, objective)


def read_select(
    opened: Source, name: str, constraints: Sequence[Constraint], objective: Objective | None = None
) -> Selection:
    """``select`` from an open store; by the search's own quality unless ``objective`` is given."""
    objective = objective or search_axes(_objectives(opened, name))[1]
    baseline = opened.baseline(name)
    asked = [objective.metric, *(item.metric for item in constraints)]
    found = opened.metric_columns(name, [*asked, "macs"])
    if not found.complete.any():
        raise nothing_complete()
    require_measured(opened, name, asked, found)
    choice = choose(found.values, constraints, baseline, objective)
    trial = opened.trial(name, int(found.numbers[choice.row]))
    if not choice.feasible:
        raise nothing_feasible(trial, choice.ranked, constraints, baseline)
    return Selection(search=name, trial=trial, baseline=baseline, considered=int(found.complete.sum()))


def choosing_by(maximize: str | None, minimize: str | None, constraints: Sequence[Constraint]) -> Objective | None:
    """The objective that a caller names. Raises ConfigError for two of them, and for metrics of the test split."""
    if maximize is not None and minimize is not None:
        raise ConfigError(f"got both maximize {maximize!r} and minimize {minimize!r}; expected one of them.")
    named = Objective(minimize, "min") if minimize else Objective(maximize, "max") if maximize else None
    _refuse_test_metrics([named.metric] if named else [], constraints)
    return named


def report(name: str, *, store: str | None = None, out: str | Path | None = None) -> Path:
    """Write front.csv, front.png and report.html of a stored search; returns their folder."""
    from autoprune.api.reporting import write_stored

    with open_at(store_url(store), read_only=True) as opened:
        record = opened.search(name)
        folder = Path(out) if out is not None else Path(str(record.config.get("output", "results"))) / name
        write_stored(opened, record, folder)
    return folder


def nodes(name: str, *, store: str | None = None) -> list[NodeFigures]:
    """What each node did for a search: trials, failures, seconds at work, trials a minute; the busiest first."""
    from autoprune.api.reporting import nodes_of

    with open_at(store_url(store), read_only=True) as opened:
        return nodes_of(opened, name)


def require_measured(opened: Source, name: str, asked: Sequence[str], found: MetricColumns) -> None:
    """Raise ConfigError for the first metric that no complete trial has; the store is asked only when in doubt."""
    if any(np.isnan(found.values[metric]).all() for metric in asked):
        require_known(asked, opened.measured(name))


def _in_order(opened: Source, name: str, numbers: np.ndarray) -> list[Trial]:
    by_number = {trial.number: trial for trial in opened.trials(name, numbers=numbers.tolist())}
    return [by_number[number] for number in numbers.tolist()]


def _constraints(where: Sequence[str]) -> list[Constraint]:
    return [constraint for text in where for constraint in parse_constraint(text)]


def _objectives(opened: Source, name: str) -> list[Objective]:
    return [parse_objective(text) for text in opened.config(name).get("objectives", ())]


def own_axes(opened: Source, name: str, x: str | None, y: str | None) -> tuple[str, str]:
    """The axes asked for; the search's own where none is named."""
    if x is not None and y is not None:
        return x, y
    cost, quality = search_axes(_objectives(opened, name))
    return x or str(cost), y or str(quality)


def _refuse_test_metrics(metrics: Sequence[str], constraints: Sequence[Constraint]) -> None:
    for metric in [*metrics, *(item.metric for item in constraints)]:
        if metric.startswith("test_"):
            raise ConfigError(
                f"{metric!r} is measured on the test split and cannot choose a model.",
                "Choose by top1 (search-val); the report shows the test accuracy of what was chosen.",
            )


def _state(text: TrialState | str) -> TrialState:
    try:
        return TrialState(text)
    except ValueError:
        known = [state.value for state in TrialState]
        raise ConfigError(f"there is no trial state {str(text)!r}.", did_you_mean(str(text), known)) from None
