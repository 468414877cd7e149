"""What the store and the session cost: ``python tests/benchmarks/store_speed.py [TRIALS]``.

Prints the time of one start + finish (20 groups, 6 metrics), of a whole ask + tell through a session, the growth of
memory and file, and the time of queries at that size.
"""

from __future__ import annotations

import dataclasses
import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from autoprune.bench.memory import resident_mb
from autoprune.store import Store, new_owner, open_store
from autoprune.types import Candidate, Constraint, Outcome, OutcomeKind, Trial, TrialState

sys.path.insert(0, str(Path(__file__).parents[1] / "unit" / "driver"))

from toy_search import ToyController, open_session

BOUNDS = [Constraint("macs", "<=", 0.5), Constraint("top1", ">=", 0.5)]


def line(what: str, value: str) -> None:
    print(f"{what:<58}{value}")


def spread(seconds: list[float]) -> str:
    low, median, high = np.percentile(np.array(seconds) * 1e3, [5, 50, 99])
    return f"median {median:.2f} ms, p5 {low:.2f}, p99 {high:.2f} (n = {len(seconds)})"


def write(store: Store, trials: int) -> None:
    rng = np.random.default_rng(0)
    store.create_search("raw", config={}, digest="d", evaluation_digest="e", baseline={})
    lease = store.claim("raw", owner=new_owner(), ttl_seconds=3600)
    seconds = []
    for number in range(trials):
        widths = {f"layer{group}.0.conv1": int(width) for group, width in enumerate(rng.integers(1, 64, 20))}
        trial = Trial(number, Candidate(widths), TrialState.RUNNING, started_at=1.0)
        metrics = {
            "top1": rng.random(),
            "loss": 1.0,
            "macs": rng.random(),
            "flops": 2.0,
            "params": 3.0,
            "keep_ratio": 0.5,
        }
        done = dataclasses.replace(trial, state=TrialState.COMPLETE, metrics=metrics, finished_at=2.0 + number)
        began = time.perf_counter()
        store.start_trial(lease, trial)
        store.finish_trial(lease, done, {"generation": number})
        seconds.append(time.perf_counter() - began)
        if number + 1 in (trials // 10, trials):
            line(f"RSS after {number + 1} trials", f"{resident_mb():.0f} MB")
    line("start + finish of one trial", spread(seconds))


def drive(store: Store, trials: int) -> None:
    script = {n: Candidate({"a": 1 + n % 16, "b": 1 + n // 16 % 16, "c": 1 + n // 256 % 16}) for n in range(trials)}
    seconds = []
    with open_session(store, ToyController(script=script), trials=trials) as session:
        for _ in range(trials):
            began = time.perf_counter()
            trial = session.ask()
            if trial is None:
                break
            session.tell(trial.number, Outcome(OutcomeKind.MEASURED, {"top1": 0.5}))
            seconds.append(time.perf_counter() - began)
    line("ask + tell through a session", spread(seconds))
    began = time.perf_counter()
    with open_session(store, ToyController(), trials=trials + 1) as session:
        session.ask()
        line(f"resume to first trial after {trials}", f"{time.perf_counter() - began:.2f} s")


def timed(what: str, call: Callable[[], Any]) -> None:
    seconds = []
    for _ in range(5):
        began = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - began)
    line(what, f"median {sorted(seconds)[2] * 1e3:.1f} ms (n = 5)")


def main() -> None:
    trials = int(sys.argv[1]) if len(sys.argv) > 1 else 10_000
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.db"
        with open_store(f"sqlite:///{path}") as store:
            line("RSS at the start", f"{resident_mb():.0f} MB")
            write(store, trials)
            line("file", f"{os.path.getsize(path) / trials:.0f} bytes a trial")
            drive(store, min(trials, 4000))
            digest = store.trial("raw", 7).candidate.digest
            timed("look up an equal candidate", lambda: store.lookup("e", digest))
            timed("columns of two axes, two constraints", lambda: store.columns("raw", ["macs", "top1"], BOUNDS))
            timed("all trials", lambda: store.trials("raw"))
            timed("the list of searches with counts", store.searches)


if __name__ == "__main__":
    main()
