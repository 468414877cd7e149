"""Reading a store: searches, trials, fronts, and the model that fits the budgets. No torch, no Ray."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from autoprune.analysis.front import Front, build_front
from autoprune.analysis.selection import Selection
from autoprune.analysis.selection import select as best_trial
from autoprune.api.stores import open_at, store_url
from autoprune.config.expressions import parse_constraint
from autoprune.errors import ConfigError, did_you_mean
from autoprune.types import Constraint, Objective, SearchRecord, Trial, TrialState

__all__ = ["front", "report", "searches", "select", "trials"]


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


def front(name: str, *, x: str = "macs", y: str = "top1", where: Sequence[str] = (), store: str | None = None) -> Front:
    """The Pareto front of two metrics among the complete trials that meet every ``where``.

    ``where`` takes expressions such as ``macs <= 0.5 * baseline``. Stopped trials are estimates and never on a front.
    Raises NotFound for an unknown search, ConfigError for an expression or a metric that no trial has.
    """
    constraints = _constraints(where)
    with open_at(store_url(store), read_only=True) as opened:
        record = opened.search(name)
        complete = opened.trials(name, states=[TrialState.COMPLETE])
    return build_front(name, complete, baseline=record.baseline, x=x, y=y, constraints=constraints)


def select(
    name: str,
    *,
    where: Sequence[str] = (),
    maximize: str | None = None,
    minimize: str | None = None,
    store: str | None = None,
) -> Selection:
    """The best trial under all budgets at once; ``top1`` is maximised unless another metric is named.

    Raises NothingFeasible with the nearest miss, NotFound, and ConfigError (also for metrics of the test split:
    choosing by them would make the test images part of the search).
    """
    if maximize is not None and minimize is not None:
        raise ConfigError(f"got both maximize {maximize!r} and minimize {minimize!r}; expected one of them.")
    objective = Objective(minimize, "min") if minimize else Objective(maximize or "top1", "max")
    constraints = _constraints(where)
    _refuse_test_metrics([objective.metric, *(item.metric for item in constraints)])
    with open_at(store_url(store), read_only=True) as opened:
        record = opened.search(name)
        complete = opened.trials(name, states=[TrialState.COMPLETE])
    trial = best_trial(complete, constraints, record.baseline, objective)
    return Selection(search=name, trial=trial, baseline=record.baseline, considered=len(complete))


def report(name: str, *, store: str | None = None, out: str | Path | None = None) -> Path:
    """Write front.csv, front.png and report.html of a stored search; returns their folder."""
    from autoprune.api.reporting import write_files

    with open_at(store_url(store), read_only=True) as opened:
        record = opened.search(name)
        folder = Path(out) if out is not None else Path(str(record.config.get("output", "results"))) / name
        write_files(record, opened.trials(name), folder)
    return folder


def _constraints(where: Sequence[str]) -> list[Constraint]:
    return [constraint for text in where for constraint in parse_constraint(text)]


def _refuse_test_metrics(metrics: Sequence[str]) -> None:
    for metric in metrics:
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
