"""The serial executor against a real session."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from toy_search import ToyEvaluator, history, open_session

from autoprune.errors import StoreError
from autoprune.executors import SerialExecutor
from autoprune.store import Store, open_store
from autoprune.types import Candidate, Measurement, SearchState, TrialState


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with open_store(f"sqlite:///{tmp_path}/a.db") as store:
        yield store


def run(store: Store, evaluator: ToyEvaluator, *, trials: int = 3, seconds: float = 10.0, retries: int = 0) -> None:
    with open_session(store, trials=trials, retries=retries) as session:
        SerialExecutor(lambda: evaluator, seconds).run(session)


def test_the_final_measurement_is_told_with_its_timings(store: Store) -> None:
    run(store, ToyEvaluator(steps=3), trials=4)
    assert store.search("toy").trial_counts == {"complete": 4}
    trial = store.trial("toy", 3)
    assert (trial.worker, trial.timings["evaluate"]) == ("serial", 0.1)
    assert set(trial.timings) == {"evaluate", "report", "wait"}
    assert 0 <= trial.timings["report"] + trial.timings["wait"] < 5


def test_an_exception_is_an_accident_with_its_type(store: Store) -> None:
    def score(candidate: Candidate) -> float:
        if len(evaluator.ran) == 1:
            raise ValueError("odd width")
        return 0.5

    evaluator = ToyEvaluator(score=score)
    run(store, evaluator, trials=2)
    assert store.trial("toy", 0).reason == "ValueError: odd width"
    assert store.trial("toy", 1).state is TrialState.COMPLETE


def test_an_accident_is_retried(store: Store) -> None:
    evaluator = ToyEvaluator(score=lambda _: 0.5 if len(evaluator.ran) > 2 else 1 / 0)
    run(store, evaluator, trials=1, retries=2)
    assert (store.trial("toy", 0).state, store.trial("toy", 0).attempt) == (TrialState.COMPLETE, 3)


def test_a_trial_over_its_time_is_an_accident(store: Store) -> None:
    run(store, ToyEvaluator(seconds=0.03, steps=5), trials=1, seconds=0.05)
    assert store.trial("toy", 0).reason == "took longer than 0.05 s: raise limits.trial_seconds"


def test_an_evaluator_without_a_final_measurement_is_an_accident(store: Store) -> None:
    class Endless(ToyEvaluator):
        def evaluate(self, candidate: Candidate) -> Iterator[Measurement]:
            yield Measurement({"top1": 0.5}, 1, 0.0, False)

    run(store, Endless(), trials=1)
    assert "ended without a final measurement" in store.trial("toy", 0).reason


def test_stopping_early_closes_the_evaluators_generator(store: Store) -> None:
    closed: list[bool] = []

    class Long(ToyEvaluator):
        def evaluate(self, candidate: Candidate) -> Iterator[Measurement]:
            try:
                for step in range(10):
                    session.stop("now", hard=True)
                    yield Measurement({"top1": 0.5}, step, 0.0, False)
            finally:
                closed.append(True)

    with open_session(store) as session:
        SerialExecutor(Long, 10).run(session)
    assert closed == [True]
    assert store.search("toy").trial_counts == {"running": 1}


def test_no_evaluator_is_built_for_a_finished_search(store: Store) -> None:
    run(store, ToyEvaluator(), trials=2)

    def never() -> ToyEvaluator:
        raise AssertionError("built")

    with open_session(store, trials=2) as session:
        SerialExecutor(never, 10).run(session)


def test_ctrl_c_leaves_the_running_trial_for_a_resume(store: Store) -> None:
    with open_session(store, name="uncut", evaluation_digest="u", trials=8) as session:
        SerialExecutor(ToyEvaluator, 10).run(session)

    def score(candidate: Candidate) -> float:
        if len(evaluator.ran) == 4:
            threading.Timer(0.05, os.kill, (os.getpid(), signal.SIGINT)).start()
            time.sleep(5)
        return ToyEvaluator().score(candidate)

    evaluator = ToyEvaluator(score=score)
    with open_session(store, trials=8) as session:
        SerialExecutor(lambda: evaluator, 10).run(session)
        assert session.stop_reason == "interrupted"
    assert store.search("toy").state is SearchState.INTERRUPTED
    assert store.search("toy").trial_counts["running"] == 1
    run(store, ToyEvaluator(), trials=8)
    assert history(store) == history(store, "uncut")


def test_an_error_of_the_store_ends_the_run(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*args: object) -> None:
        raise StoreError("store: the disk is full.")

    monkeypatch.setattr(Store, "finish_trial", full)
    session = open_session(store)
    with pytest.raises(StoreError, match="full"):
        SerialExecutor(ToyEvaluator, 10).run(session)
    session.close()
    assert store.search("toy").trial_counts == {"running": 1}
