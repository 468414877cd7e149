"""The best trial under several budgets at once, or by how much the nearest one misses them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from autoprune.analysis.metrics import finite, format_difference, format_value, require_known
from autoprune.errors import ConfigError, NothingFeasible
from autoprune.types import Constraint, Objective, Trial, TrialState

__all__ = ["Selection", "meets", "select"]


@dataclass(frozen=True)
class Selection:
    """The trial that was selected, and out of how many."""

    search: str
    trial: Trial
    baseline: Mapping[str, float]
    considered: int
    """Complete trials of the search."""


def meets(trial: Trial, constraints: Sequence[Constraint], baseline: Mapping[str, float]) -> bool:
    """Every constraint holds. Raises ConfigError when one is relative to a metric that the baseline lacks."""
    return _total_miss(trial, constraints, baseline) == 0.0


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
    complete = [trial for trial in trials if trial.state is TrialState.COMPLETE]
    if not complete:
        raise NothingFeasible(
            "there is no complete trial to select from.", "Run or resume the search, then select again."
        )
    measured = {name for trial in complete for name in trial.metrics}
    require_known([objective.metric, *(constraint.metric for constraint in constraints)], measured)
    ranked = [trial for trial in complete if finite(trial.metrics, objective.metric)]
    feasible = [trial for trial in ranked if meets(trial, constraints, baseline)]
    if feasible:
        return min(feasible, key=lambda trial: _order(trial, objective))
    raise _nothing(ranked, constraints, baseline, objective)


def _order(trial: Trial, objective: Objective) -> tuple[float, float, int]:
    macs = trial.metrics["macs"] if finite(trial.metrics, "macs") else math.inf
    return objective.sign * trial.metrics[objective.metric], macs, trial.number


def _total_miss(trial: Trial, constraints: Sequence[Constraint], baseline: Mapping[str, float]) -> float:
    return sum(_miss(constraint, trial, baseline) for constraint in constraints)


def _miss(constraint: Constraint, trial: Trial, baseline: Mapping[str, float]) -> float:
    if constraint.relative and not finite(baseline, constraint.metric):
        raise ConfigError(
            f"constraint '{constraint}' is relative to the baseline, which has no {constraint.metric!r}.",
            "Write the bound as a number.",
        )
    return constraint.miss(trial.metrics, baseline)


def _nothing(
    trials: Sequence[Trial], constraints: Sequence[Constraint], baseline: Mapping[str, float], objective: Objective
) -> NothingFeasible:
    budgets = " and ".join(f"'{constraint}'" for constraint in constraints)
    if not trials:
        return NothingFeasible(f"no complete trial has a finite {objective.metric!r}.", "Choose another objective.")
    nearest = min(trials, key=lambda trial: (_total_miss(trial, constraints, baseline), _order(trial, objective)))
    misses = [
        _describe(constraint, nearest, baseline) for constraint in constraints if _miss(constraint, nearest, baseline)
    ]
    return NothingFeasible(
        f"none of {len(trials)} complete trials meets {budgets}. Nearest: trial {nearest.number} misses "
        + "; ".join(misses)
        + ".",
        "Loosen a budget by that much, or search longer with the budgets as constraints.",
    )


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
