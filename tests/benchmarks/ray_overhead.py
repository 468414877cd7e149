"""What the Ray executor itself costs: seconds to the first trial, and milliseconds for each empty one.

    python tests/benchmarks/ray_overhead.py [TRIALS]      (PYTHONPATH=. before it where autoprune is not installed)

The evaluator yields at once and the session lives in memory, so that what is left is Ray, Tune and the executor.
Run it on a quiet machine; the load average is printed beside the figures.
"""

from __future__ import annotations

import os
import statistics
import sys
import time

from autoprune.bench.empty_trials import CountingSession, EmptyEvaluator


def main(trials: int) -> None:
    begun = time.perf_counter()
    from autoprune.config.schema import RayExecutorConfig
    from autoprune.executors.ray_tune import RayTuneExecutor

    imported = time.perf_counter()
    session = CountingSession(trials)
    RayTuneExecutor(RayExecutorConfig(), {}, EmptyEvaluator, 60.0).run(session)
    ended = time.perf_counter()
    # The first tenth warms up; by then the second worker has started as well.
    each = [1000 * seconds for seconds in session.seconds_each(parts=5)]
    print(f"import            {imported - begun:8.2f} s")
    print(f"start to first    {session.told_at[0] - imported:8.2f} s")
    spread = f"{min(each):.2f} to {max(each):.2f} over five stretches of {trials} trials"
    print(f"one empty trial   {statistics.median(each):8.2f} ms ({spread})")
    warm = trials // 10
    busy = 1000 * (session.busy_at[-1] - session.busy_at[warm]) / (trials - 1 - warm)
    print(f"of it the driver  {busy:8.2f} ms of processor time, all threads")
    print(f"shut down         {ended - session.told_at[-1]:8.2f} s")
    print(f"cpus {os.cpu_count()}, load average {os.getloadavg()[0]:.1f}")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 1000)
