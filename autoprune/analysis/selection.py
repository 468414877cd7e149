"""The best trial under several budgets at once, or by how much the nearest one misses them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from autoprune.analysis.metrics import finite, format_difference, format_value, require_known
from autoprune.analysis.pareto import metric_columns
from autoprune.errors import ConfigError, NothingFeasible
from autoprune.types import Constraint, Objective, Trial, TrialState

__all__ = ["Choice", "Selection", "choose", "meets", "nothing_complete", "nothing_feasible", "select"]


@dataclass(frozen=True)
class Selection:
    """The trial that was selected, and out of how many."""

    search: str
    trial: Trial
    baseline: Mapping[str, float]
    considered: int
    """Complete trials of the search."""


@dataclass(frozen=True)
class Choice:
    """A row of metric columns: the best one within the budgets, or else the nearest to them."""

    row: int
    feasible: bool
    ranked: int
    """Rows with a finite objective."""


def meets(
    metrics: Mapping[str, np.ndarray], constraints: Sequence[Constraint], baseline: Mapping[str, float]
) -> np.ndarray:
    """Whether every constraint holds, by row: (N,) bool. A constraint on a missing metric (NaN) does not hold.

    Args:
        metrics: at least one column (N,), and those that the constraints name.

    Raises ConfigError when a constraint is relative to a metric that the baseline lacks.
    """
    held = np.ones(len(next(iter(metrics.values()))), dtype=bool)
    for constraint in constraints:
        held &= _over(constraint, metrics, baseline) <= 0
    return held


def choose(
    metrics: Mapping[str, np.ndarray],
    constraints: Sequence[Constraint],
    baseline: Mapping[str, float],
    objective: Objective,
) -> Choice:
    """The best row by ``objective`` among those that meet every constraint, or the nearest miss.

    Args:
        metrics: columns (N,) float64 in the order of trial numbers, NaN where a trial is not COMPLETE or lacks the
            metric: the objective's, ``macs`` (for ties) and those of the constraints.

    Raises NothingFeasible when no row has a finite objective, ConfigError as ``meets`` does.
    """
    finite_rows = np.isfinite(metrics[objective.metric])
    ranked = int(np.count_nonzero(finite_rows))
    if not ranked:
        raise NothingFeasible(f"no complete trial has a finite {objective.metric!r}.", "Choose another objective.")
    rows = np.flatnonzero(finite_rows & meets(metrics, constraints, baseline))
    feasible = len(rows) > 0
    if not feasible:
        rows = np.flatnonzero(finite_rows)
        misses = _total_miss(metrics, constraints, baseline)[rows]
        rows = rows[misses == misses.min()]
    return Choice(_best(rows, metrics, objective), feasible, ranked)


def select(
    trials: Sequence[Trial],
    constraints: Sequence[Constraint],
    baseline: Mapping[str, float],
    objective: Objective,
) -> Trial:
    """The COMPLETE trial that is best by ``objective`` among those that meet every constraint.

    Ties go to fewer macs, then to the lower number.

    Raises ConfigError for a metric that no trial measured, NothingFeasible when no trial meets all constraints; its
    message names the trial with the smallest sum of relative misses and each constraint that it misses.
    """
    complete = sorted((t for t in trials if t.state is TrialState.COMPLETE), key=lambda trial: trial.number)
    if not complete:
        raise nothing_complete()
    asked = [objective.metric, *(constraint.metric for constraint in constraints)]
    require_known(asked, {name for trial in complete for name in trial.metrics})
    choice = choose(metric_columns(complete, [*asked, "macs"]), constraints, baseline, objective)
    chosen = complete[choice.row]
    if not choice.feasible:
        raise nothing_feasible(chosen, choice.ranked, constraints, baseline)
    return chosen


def nothing_complete() -> NothingFeasible:
    return NothingFeasible("there is no complete trial to select from.", "Run or resume the search, then select again.")


def nothing_feasible(
    nearest: Trial, ranked: int, constraints: Sequence[Constraint], baseline: Mapping[str, float]
) -> NothingFeasible:
    """Says which of ``ranked`` trials came nearest, and what it misses."""
    budgets = " and ".join(f"'{constraint}'" for constraint in constraints)
    missed = [constraint for constraint in constraints if constraint.miss(nearest.metrics, baseline)]
    return NothingFeasible(
        f"none of {ranked} complete trials meets {budgets}. Nearest: trial {nearest.number} misses "
        + "; ".join(_describe(constraint, nearest, baseline) for constraint in missed)
        + ".",
        "Loosen a budget by that much, or search longer with the budgets as constraints.",
        nearest={"trial": nearest.number, "misses": [_miss(constraint, nearest, baseline) for constraint in missed]},
    )


def _miss(constraint: Constraint, trial: Trial, baseline: Mapping[str, float]) -> dict[str, object]:
    value, bound = trial.metrics.get(constraint.metric, math.nan), constraint.bound(baseline)
    return {
        "constraint": str(constraint),
        "metric": constraint.metric,
        "value": value if math.isfinite(value) else None,
        "bound": bound,
    }


def _over(constraint: Constraint, metrics: Mapping[str, np.ndarray], baseline: Mapping[str, float]) -> np.ndarray:
    """By how much each row is beyond the bound; NaN where that is not known."""
    if constraint.relative and not finite(baseline, constraint.metric):
        raise ConfigError(
            f"constraint '{constraint}' is relative to the baseline, which has no {constraint.metric!r}.",
            "Write the bound as a number.",
        )
    values, bound = metrics[constraint.metric], constraint.bound(baseline)
    with np.errstate(invalid="ignore"):  # infinity minus infinity
        return values - bound if constraint.op == "<=" else bound - values


def _total_miss(
    metrics: Mapping[str, np.ndarray], constraints: Sequence[Constraint], baseline: Mapping[str, float]
) -> np.ndarray:
    """The sum of ``Constraint.miss`` over the constraints, by row."""
    total = np.zeros(len(next(iter(metrics.values()))))
    for constraint in constraints:
        over, bound = _over(constraint, metrics, baseline), abs(constraint.bound(baseline))
        with np.errstate(invalid="ignore"):
            missed = over / bound if bound else np.full(len(over), np.inf)
        total += np.where(over > 0, missed, np.where(np.isnan(over), np.inf, 0.0))
    return total


def _best(rows: np.ndarray, metrics: Mapping[str, np.ndarray], objective: Objective) -> int:
    """Among ``rows`` (ascending), by the objective, then by fewer macs, then the first."""
    values = objective.sign * metrics[objective.metric][rows]
    rows = rows[values == values.min()]
    macs = metrics["macs"][rows]
    macs = np.where(np.isfinite(macs), macs, np.inf)
    return int(rows[macs == macs.min()][0])


def _describe(constraint: Constraint, trial: Trial, baseline: Mapping[str, float]) -> str:
    """``macs <= 0.3 * baseline by 1.25M (5.3 %): 24.8M, allowed 23.5M``."""
    name, value = constraint.metric, trial.metrics.get(constraint.metric, math.nan)
    if not math.isfinite(value):
        return f"'{constraint}' (not measured)"
    bound = constraint.bound(baseline)
    sign = "at most" if constraint.op == "<=" else "at least"
    relative = constraint.miss(trial.metrics, baseline)
    share = f" ({100 * relative:.2g} %)" if math.isfinite(relative) else ""
    return (
        f"'{constraint}' by {format_difference(name, abs(value - bound))}{share}: "
        f"it has {format_value(name, value)}, wanted {sign} {format_value(name, bound)}"
    )
