"""What the Ray executor itself costs: seconds to the first trial, and milliseconds for each empty one.

    python tests/benchmarks/ray_overhead.py [TRIALS]      (PYTHONPATH=. before it where autoprune is not installed)

The evaluator yields at once and the session lives in memory, so that what is left is Ray, Tune and the executor.
Run it on a quiet machine; the load average is printed beside the figures.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator

from autoprune.types import Candidate, Measurement, Outcome, Trial, TrialState


class EmptyEvaluator:
    def __init__(self, assets: object) -> None:
        del assets

    def evaluate(self, candidate: Candidate) -> Iterator[Measurement]:
        yield Measurement({"top1": 0.5}, step=1, seconds=0.0, final=True)


class CountingSession:
    """``trials`` equal trials of twenty groups, and when each was told."""

    def __init__(self, trials: int) -> None:
        self._trials = trials
        self._asked = 0
        self.told_at: list[float] = []

    @property
    def done(self) -> bool:
        return len(self.told_at) == self._trials

    wants_estimates = False

    def ask(self) -> Trial | None:
        if self._asked == self._trials:
            return None
        self._asked += 1
        return Trial(self._asked, Candidate({f"group{i}": 16 for i in range(20)}), TrialState.RUNNING)

    def report(self, number: int, measurement: Measurement) -> bool:
        return True

    def tell(self, number: int, outcome: Outcome) -> None:
        self.told_at.append(time.perf_counter())

    def stop(self, reason: str) -> None:
        self._asked = self._trials


def main(trials: int) -> None:
    begun = time.perf_counter()
    from autoprune.config.schema import RayExecutorConfig
    from autoprune.executors.ray_tune import RayTuneExecutor

    imported = time.perf_counter()
    session = CountingSession(trials)
    RayTuneExecutor(RayExecutorConfig(), {}, EmptyEvaluator, 60.0).run(session)
    ended = time.perf_counter()
    # The first tenth warms up; by then the second worker has started as well.
    told = session.told_at[trials // 10 :]
    print(f"import            {imported - begun:8.2f} s")
    print(f"start to first    {session.told_at[0] - imported:8.2f} s")
    print(f"one empty trial   {1000 * (told[-1] - told[0]) / (len(told) - 1):8.2f} ms ({len(told)} trials)")
    print(f"shut down         {ended - session.told_at[-1]:8.2f} s")
    print(f"cpus {os.cpu_count()}, load average {os.getloadavg()[0]:.1f}")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 1000)
