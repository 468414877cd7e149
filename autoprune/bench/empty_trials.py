"""What an executor costs by itself: trials whose evaluation does nothing, and a session that lives in memory."""

from __future__ import annotations

import time
from collections.abc import Iterator
from itertools import pairwise

from autoprune.types import Candidate, Measurement, Outcome, Trial, TrialState

__all__ = ["CountingSession", "EmptyEvaluator"]


class EmptyEvaluator:
    """Built from anything; answers at once."""

    def __init__(self, assets: object = None) -> None:
        del assets

    def evaluate(self, candidate: Candidate) -> Iterator[Measurement]:
        yield Measurement({"top1": 0.5}, step=1, seconds=0.0, final=True)


class CountingSession:
    """``trials`` equal trials of twenty groups, and when each was told (``time.perf_counter``, and processor time of
    this process)."""

    wants_estimates = False

    def __init__(self, trials: int) -> None:
        self._trials = trials
        self._asked = 0
        self.told_at: list[float] = []
        self.busy_at: list[float] = []

    @property
    def done(self) -> bool:
        return len(self.told_at) == self._trials

    def ask(self) -> Trial | None:
        if self._asked == self._trials:
            return None
        self._asked += 1
        return Trial(self._asked, Candidate({f"group{i}": 16 for i in range(20)}), TrialState.RUNNING)

    def report(self, number: int, measurement: Measurement) -> bool:
        return True

    def tell(self, number: int, outcome: Outcome) -> None:
        self.busy_at.append(time.process_time())
        self.told_at.append(time.perf_counter())

    def stop(self, reason: str) -> None:
        self._trials = self._asked

    def seconds_each(self, parts: int = 1) -> list[float]:
        """Mean seconds of one trial in each of ``parts`` stretches. The first tenth, which warms up, is left out."""
        told = self.told_at[len(self.told_at) // 10 :]
        length = (len(told) - 1) // parts
        ends = told[:: max(length, 1)][: parts + 1]
        return [(later - earlier) / length for earlier, later in pairwise(ends)]
