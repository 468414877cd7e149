"""Where a worker's time goes between two evaluations: ``wait`` and ``report`` of a trial's timings.

Only the driver's clock is read, since those of two machines differ; from the worker comes a duration, the seconds in
which it was busy with the trial. For one worker, busy + report + wait of its trials add up to the time that passed.
"""

from __future__ import annotations

import time
from collections.abc import Callable

__all__ = ["Turnaround"]


class Turnaround:
    """One worker as the driver sees it: free, given a trial, heard of again.

    ``wait``: the worker was free and had no trial (the controller proposes, the store records it, or nothing is to be
    done). ``report``: from the trial's handing over to its outcome in the driver, without the seconds in which the
    worker was busy, and the taking in of the outcome before it on the same worker (controller and commit), since its
    own is not over when the trial is written.
    """

    def __init__(self, clock: Callable[[], float] = time.perf_counter) -> None:
        self._clock = clock
        self._free_since = self._handed_at = clock()
        self._taking_in = self._wait = 0.0

    def free(self) -> None:
        """The worker is ready for its first trial."""
        self._free_since = self._clock()
        self._taking_in = 0.0

    def handed(self) -> None:
        """The worker is given a trial."""
        self._handed_at = self._clock()
        self._wait = max(self._handed_at - self._free_since, 0.0)

    def heard(self, busy_seconds: float) -> dict[str, float]:
        """The trial's outcome is here; ``busy_seconds`` is the worker's own duration. Call ``told`` afterwards."""
        self._free_since = self._clock()
        carried = max(self._free_since - self._handed_at - busy_seconds, 0.0)
        return {"report": round(carried + self._taking_in, 6), "wait": round(self._wait, 6)}

    def told(self) -> None:
        """The session has taken the outcome in."""
        now = self._clock()
        self._taking_in, self._free_since = now - self._free_since, now
