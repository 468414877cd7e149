"""What a measurement means for a trial: complete, diverged, infeasible, or not to be used."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence

from autoprune.types import Constraint, Objective, Outcome, OutcomeKind, Trial, TrialState

__all__ = ["Judge"]

_ROUNDING = 1e-9
"""Relative excess over a bound that is put down to floating point."""


class Judge:
    """Decides a finished attempt's state from its metrics.

    ``baseline`` holds the unpruned model's metrics, which relative bounds multiply.
    """

    def __init__(
        self, objectives: Sequence[Objective], constraints: Sequence[Constraint], baseline: Mapping[str, float]
    ) -> None:
        self._constraints = tuple(constraints)
        self._baseline = baseline
        named = [item.metric for item in objectives] + [item.metric for item in constraints]
        self._needed = tuple(dict.fromkeys(named))

    def lacking(self, metrics: Mapping[str, float]) -> list[str]:
        """The metrics that objectives and constraints name and that were not measured."""
        return [name for name in self._needed if name not in metrics]

    def broken(self, metrics: Mapping[str, float]) -> Constraint | None:
        """The first constraint that these metrics, as far as they go, do not meet."""
        for constraint in self._constraints:
            if constraint.metric in metrics and constraint.miss(metrics, self._baseline) > _ROUNDING:
                return constraint
        return None

    def finished(self, trial: Trial, outcome: Outcome) -> Trial:
        """The trial as it ends with this outcome; an ACCIDENT ends as FAILED."""
        state, reason = self._verdict(outcome)
        return dataclasses.replace(
            trial,
            state=state,
            reason=reason,
            metrics=dict(outcome.metrics),
            timings=dict(outcome.timings),
            worker=outcome.worker,
        )

    def _verdict(self, outcome: Outcome) -> tuple[TrialState, str]:
        if outcome.kind is OutcomeKind.MEASURED:
            return self._measured(outcome.metrics)
        states = {
            OutcomeKind.STOPPED: TrialState.STOPPED,
            OutcomeKind.INFEASIBLE: TrialState.INFEASIBLE,
            OutcomeKind.ACCIDENT: TrialState.FAILED,
            OutcomeKind.OUT_OF_MEMORY: TrialState.FAILED,
        }
        if outcome.kind is OutcomeKind.STOPPED and (diverged := _not_finite(outcome.metrics)):
            return TrialState.DIVERGED, diverged  # an estimate that stopped it for what it is not
        return states[outcome.kind], outcome.reason

    def _measured(self, metrics: Mapping[str, float]) -> tuple[TrialState, str]:
        if diverged := _not_finite(metrics):
            return TrialState.DIVERGED, diverged
        lacking = self.lacking(metrics)
        if lacking:
            given = ", ".join(sorted(metrics)) or "nothing"
            return TrialState.FAILED, f"the evaluator does not measure {', '.join(lacking)}; it measures {given}"
        broken = self.broken(metrics)
        if broken is not None:
            bound = broken.bound(self._baseline)
            return TrialState.INFEASIBLE, f"{broken.metric} {metrics[broken.metric]:.6g} breaks {broken} ({bound:.6g})"
        return TrialState.COMPLETE, ""


def _not_finite(metrics: Mapping[str, float]) -> str:
    """The first metric that is NaN or infinite, in words; empty where all are numbers."""
    return next((f"{name} is {value}" for name, value in metrics.items() if not math.isfinite(value)), "")
