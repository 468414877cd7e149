"""What finished trials teach a controller, as losses: for each objective smaller is better."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from autoprune.controllers.digests import Digests
from autoprune.space.decoding import METRICS
from autoprune.types import Objective, Trial, TrialState

__all__ = ["Losses", "measured"]


class Losses:
    """FAILED trials teach nothing; of equal candidates the first measurement counts; STOPPED ones teach estimates."""

    def __init__(self, objectives: Sequence[Objective]) -> None:
        self._objectives = tuple(objectives)
        self._seen = Digests()

    def of(self, trial: Trial) -> np.ndarray | None:
        """(objectives,) float64; infinite for a candidate known to be bad; None where there is nothing to learn.

        The second call with the same candidate returns None.
        """
        if not trial.state.finished or trial.state is TrialState.FAILED or not self._seen.add(trial.candidate.digest):
            return None
        values = np.array([item.sign * trial.metrics.get(item.metric, math.nan) for item in self._objectives])
        bad = trial.state in (TrialState.INFEASIBLE, TrialState.DIVERGED) or not np.isfinite(values).all()
        return np.full(len(values), np.inf) if bad else values


def measured(objectives: Sequence[Objective]) -> int:
    """Position of the first objective that only a measurement tells (top1), or of the first one."""
    unknown = (at for at, item in enumerate(objectives) if item.metric not in METRICS)
    return next(unknown, 0)
