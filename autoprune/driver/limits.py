"""When a search ends: its limits, and too many failures."""

from __future__ import annotations

import time
from collections import Counter

from autoprune.config.schema import LimitsConfig
from autoprune.errors import SearchAborted
from autoprune.types import Trial, TrialState

__all__ = ["Clock", "FailureWatch"]

_FIRST = 5
_ENOUGH = 10


class Clock:
    """Counts the hours of a search: what earlier runs spent and this run's own, by a clock that never jumps."""

    def __init__(self, limits: LimitsConfig, spent_seconds: float) -> None:
        self._limit = float("inf") if limits.hours is None else limits.hours * 3600.0
        self._began = time.monotonic() - spent_seconds

    @property
    def out_of_time(self) -> bool:
        return time.monotonic() - self._began >= self._limit


class FailureWatch:
    """Sees a search that cannot succeed: its first five trials failed, or more than half of ten or more.

    Only trials that ran under this driver count: a resume after the cause is mended begins afresh.
    """

    def __init__(self) -> None:
        self._finished = 0
        self._reasons: Counter[str] = Counter()

    def add(self, trial: Trial) -> SearchAborted | None:
        """Count a finished trial; the error to stop with, if it is time."""
        self._finished += 1
        if trial.state is not TrialState.FAILED:
            return None
        self._reasons[trial.reason] += 1
        failed = self._reasons.total()
        hopeless = failed == self._finished == _FIRST or (self._finished >= _ENOUGH and failed > self._finished / 2)
        if not hopeless:
            return None
        reason, count = self._reasons.most_common(1)[0]
        return SearchAborted(
            f"{failed} of {self._finished} trials failed, {count} of them with: {reason}.",
            "Mend the cause and run the same command again: what was measured is kept.",
        )
