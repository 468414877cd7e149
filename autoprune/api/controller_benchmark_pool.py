"""Many runs at once, each in a process of one thread."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing import connection
from typing import TYPE_CHECKING, Any

from autoprune.analysis.controller_benchmark import ArmRun
from autoprune.api.controller_benchmark_runs import Bench, Runner, Task
from autoprune.errors import SearchAborted

if TYPE_CHECKING:
    from autoprune.protocols import Progress

__all__ = ["run_all"]

_LOOK_SECONDS = 0.5
_THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


def run_all(bench: Bench, tasks: Sequence[Task], workers: int, progress: Progress) -> tuple[list[ArmRun], int]:
    """All runs in the order of ``tasks``, and how many candidates were measured for them.

    Raises what a run raises, and SearchAborted when a worker process dies.
    """
    shown = _Shown(progress, len(tasks) * bench.config.trials, bench.config.trials)
    if workers == 1:
        runs = []
        runner = Runner(bench, lambda measured: shown.step(1, measured))
        for task in tasks:
            runs.append(runner.run(task))
            shown.ended(len(runs))
        return runs, shown.measured
    return _in_processes(bench, tasks, workers, shown), shown.measured


class _Shown:
    """Trials so far, how many of them were measured, and the time left; a run may end before its last trial."""

    def __init__(self, progress: Progress, total: int, trials: int) -> None:
        self._progress, self._total, self._trials = progress, total, trials
        self._began = time.monotonic()
        self._done = 0
        self.measured = 0
        progress.phase("benchmark", total)

    def step(self, trials: int, measured: int) -> None:
        self._done += trials
        self.measured += measured
        if trials:
            left = (time.monotonic() - self._began) / self._done * (self._total - self._done)
            self._progress.advance(f"{self.measured} measured, the others recorded; {left / 60:.1f} min left", trials)

    def ended(self, runs: int) -> None:
        self.step(max(runs * self._trials - self._done, 0), 0)


def _in_processes(bench: Bench, tasks: Sequence[Task], workers: int, shown: _Shown) -> list[ArmRun]:
    context = multiprocessing.get_context("spawn")
    counts = context.Array("q", 2)
    stop = context.Event()
    with _one_thread_each():
        pool = ProcessPoolExecutor(min(workers, len(tasks)), context, _begin, (bench, counts, stop))
        try:
            futures = [pool.submit(_run, task) for task in tasks]
            _watch(futures, counts, shown)
            return [future.result() for future in futures]
        except BrokenProcessPool:
            raise SearchAborted(
                "a worker process of the benchmark died (killed, or out of memory).",
                "Run the same command again: what was measured is kept. Fewer --workers need less memory.",
            ) from None
        finally:
            stop.set()
            pool.shutdown(cancel_futures=True)


def _watch(futures: Sequence[Future[ArmRun]], counts: Any, shown: _Shown) -> None:
    """Until all have ended; raises what the first one to fail raises."""
    seen = [0, 0]
    left = set(futures)
    while left:
        done, left = wait(left, timeout=_LOOK_SECONDS, return_when=FIRST_COMPLETED)
        now = list(counts)
        shown.step(now[0] - seen[0], now[1] - seen[1])
        seen = now
        for future in done:
            future.result()


@contextmanager
def _one_thread_each() -> Iterator[None]:
    """Processes that are started inside compute with one thread: the environment is read when libraries load."""
    before = {name: os.environ.get(name) for name in _THREADS}
    os.environ.update(dict.fromkeys(_THREADS, "1"))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


# --- in a worker -----------------------------------------------------------------------------------------------------

_runner: Runner | None = None


def _begin(bench: Bench, counts: Any, stop: Any) -> None:
    global _runner
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's business, which then sets ``stop``
    threading.Thread(target=_end_with_parent, daemon=True).start()

    def on_trial(measured: int) -> None:
        with counts.get_lock():
            counts[0] += 1
            counts[1] += measured

    _runner = Runner(bench, on_trial, stop.is_set)


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        connection.wait([parent.sentinel])
        os._exit(1)


def _run(task: Task) -> ArmRun:
    assert _runner is not None
    return _runner.run(task)
