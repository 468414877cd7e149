"""A driver's memory does not grow with its trials: a search may have a million of them."""

from __future__ import annotations

import gc
import logging
import os
import subprocess
import sys
import tracemalloc
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from toy_search import open_session

from autoprune.executors import SerialExecutor
from autoprune.store import open_store
from autoprune.types import Candidate, Measurement, Proposal, Trial

WARM_UP, MEASURED = 100, 500


class Forgetful:
    """Proposes all of the toy space's 4,096 candidates in turn, and remembers nothing."""

    exhausted = False

    def ask(self, number: int) -> Proposal:
        return Proposal(Candidate({"a": 1 + number % 16, "b": 1 + number // 16 % 16, "c": 1 + number // 256 % 16}))

    def tell(self, trial: Trial) -> None: ...

    def state(self) -> Mapping[str, Any]:
        return {}

    def load_state(self, state: Mapping[str, Any], history: Sequence[Trial]) -> None: ...


class Constant:
    """The same accuracy for all: the front has one member. One trial in ten fails the first time."""

    def __init__(self) -> None:
        self._ran = 0

    def evaluate(self, candidate: Candidate) -> Iterator[Measurement]:
        self._ran += 1
        if self._ran % 10 == 0:
            raise RuntimeError("an accident")
        yield Measurement({"top1": 0.5}, 1, 0.0, True, {"evaluate": 0.1})


class Watcher:
    def __init__(self) -> None:
        self.finished = 0
        self.bytes: dict[int, int] = {}

    def on_trial(self, trial: Trial) -> None:
        self.finished += trial.state.finished
        if trial.state.finished and self.finished in (WARM_UP, WARM_UP + MEASURED):
            gc.collect()
            self.bytes[self.finished] = tracemalloc.get_traced_memory()[0]

    def on_front(self, front: Sequence[Trial]) -> None: ...


def bytes_a_trial(folder: Path) -> float:
    watcher = Watcher()
    tracemalloc.start()
    with (
        open_store(f"sqlite:///{folder}/a.db") as store,
        open_session(store, Forgetful(), trials=WARM_UP + MEASURED, observers=[watcher]) as session,
    ):
        SerialExecutor(Constant, 10.0).run(session)
    tracemalloc.stop()
    return (watcher.bytes[WARM_UP + MEASURED] - watcher.bytes[WARM_UP]) / MEASURED


def test_a_thousand_trials_leave_nothing_behind(tmp_path: Path) -> None:
    """In a process of its own: what other tests left running allocates, too."""
    paths = os.pathsep.join(path for path in sys.path if path)
    command = [sys.executable, __file__, str(tmp_path)]
    done = subprocess.run(command, env={**os.environ, "PYTHONPATH": paths}, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert float(done.stdout) < 40


if __name__ == "__main__":
    logging.disable(logging.ERROR)
    print(bytes_a_trial(Path(sys.argv[1])))
