"""A serial search in a process of its own, to be killed: ``python cut_search.py URL LOG TRIALS``."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator

from toy_search import ToyEvaluator, open_session

from autoprune.executors import SerialExecutor
from autoprune.store import open_store
from autoprune.types import Candidate, Measurement


class Logging(ToyEvaluator):
    """Notes every run in a file that outlives the process."""

    def __init__(self, log: int) -> None:
        super().__init__(seconds=0.002)
        self.log = log

    def evaluate(self, candidate: Candidate) -> Iterator[Measurement]:
        os.write(self.log, f"{candidate.digest}\n".encode())
        yield from super().evaluate(candidate)


if __name__ == "__main__":
    url, path, trials = sys.argv[1:]
    log = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    with open_store(url) as store, open_session(store, trials=int(trials)) as session:
        os.write(log, b"resumed\n")
        SerialExecutor(lambda: Logging(log), 10).run(session)
