"""Runs are handed out once, however many processes want them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from autoprune.api import comparing_session
from autoprune.api.comparing_session import RunSession
from autoprune.config.recipes import Recipe
from autoprune.driver.observers import Silent
from autoprune.executors.serial import SerialExecutor
from autoprune.retraining.runs import RUN, Run
from autoprune.store import Store, new_owner, open_store
from autoprune.types import Candidate, Measurement, Outcome, OutcomeKind

RUNS = tuple(Run({"a": 4}, "scratch_e", "scratch", Recipe(epochs=2, seed=seed), 0, "x") for seed in range(4))
DONE = Outcome(OutcomeKind.MEASURED, {"top1": 0.5, "test_top1": 0.5})
CLAIM = """
import sys, time
from autoprune.store import new_owner, open_store
store = open_store(sys.argv[1])
store.claim_retraining(sys.argv[2:], new_owner(), 3600)
print("claimed", flush=True)
time.sleep(600)
"""


class Notes(Silent):
    def __init__(self) -> None:
        self.texts: list[str] = []

    def note(self, text: str) -> None:
        self.texts.append(text)


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/a.db"


@pytest.fixture
def store(url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Store]:
    monkeypatch.setattr(comparing_session, "_LOOK_SECONDS", 0.02)
    with open_store(url) as opened:
        opened.create_search("one", config={}, digest="d", evaluation_digest="e", baseline={})
        yield opened


def session(store: Store, progress: Silent | None = None, runs: tuple[Run, ...] = RUNS) -> RunSession:
    return RunSession(store, "one", runs, 1, progress or Silent())


def test_two_sessions_share_the_runs(store: Store) -> None:
    with session(store) as first, session(store) as second:
        mine, theirs = first.ask(), second.ask()
        assert mine is not None
        assert theirs is not None
        assert mine.number != theirs.number
        first.tell(mine.number, DONE)
        for each in (first, first):
            trial = each.ask()
            assert trial is not None
            each.tell(trial.number, DONE)
        notes = Notes()
        with session(store, notes) as third:
            assert third.ask() is None, "what is left is being trained"
            assert not third.done
            assert f"process {os.getpid()}" in notes.texts[0]
            second.tell(theirs.number, DONE)
            assert not third.await_work(), "it ended elsewhere"
            assert third.done
        assert second.ask() is None
        assert (first.ended, second.ended, third.ended) == (3, 1, 0)


def test_sessions_on_executors_train_each_run_once(store: Store) -> None:
    trained: list[int] = []

    class Slow:
        def evaluate(self, candidate: Candidate) -> Iterator[Measurement]:
            trained.append(candidate.widths[RUN])
            time.sleep(0.02)
            yield Measurement(DONE.metrics, 2, 0.0, True)

    def drive() -> None:
        with session(store) as mine:
            while mine.await_work():
                SerialExecutor(Slow, 60.0).run(mine)

    threads = [threading.Thread(target=drive) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=30)
    assert sorted(trained) == [0, 1, 2, 3]
    assert len(store.retrainings([run.digest for run in RUNS])) == 4


def test_claims_are_given_back(store: Store) -> None:
    with session(store) as first:
        assert first.ask() is not None
        first.stop("interrupted")
    with session(store) as second:
        trials = [second.ask() for _ in RUNS]
        assert all(trial is not None for trial in trials)


def test_a_run_that_is_given_up_is_free(store: Store) -> None:
    with session(store, runs=RUNS[:1]) as first:
        for _ in range(2):
            trial = first.ask()
            assert trial is not None
            first.tell(trial.number, Outcome(OutcomeKind.ACCIDENT, reason="no disk"))
        assert first.failed == {0: "no disk"}
        with session(store, runs=RUNS[:1]) as second:
            assert second.ask() is not None


def test_claims_of_a_killed_process_are_free_at_once(store: Store, url: str) -> None:
    digests = [run.digest for run in RUNS[:1]]
    with subprocess.Popen([sys.executable, "-c", CLAIM, url, *digests], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        assert store.claim_retraining(digests, new_owner(), 60)[0] is None
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        assert store.claim_retraining(digests, new_owner(), 60)[0] == digests[0]


def test_a_claim_runs_out_unless_it_is_renewed(store: Store) -> None:
    """Of an owner of another machine, of whom nothing else is known."""
    digests = [RUNS[0].digest]
    assert store.claim_retraining(digests, "elsewhere:1:0.0", 0.05)[0] == digests[0]
    store.renew_retrainings("elsewhere:1:0.0", 60)
    time.sleep(0.1)
    assert store.claim_retraining(digests, new_owner(), 60)[0] is None
    store.renew_retrainings("elsewhere:1:0.0", 0.0)
    time.sleep(0.01)
    assert store.claim_retraining(digests, new_owner(), 60)[0] == digests[0]
