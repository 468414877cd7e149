"""What a session does once for a thousand trials instead of once for each."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from toy_search import ToyController, ToyEvaluator, history, open_session

from autoprune.executors.simulated import SimulatedExecutor
from autoprune.store import Store, open_store
from autoprune.types import Candidate, Outcome, OutcomeKind

SAME = Candidate({"a": 4, "b": 4, "c": 4})


class Saving(ToyController):
    """Its state is another one after every tenth trial told."""

    def state(self) -> dict[str, Any]:
        return {"asked": 0, "score": 0.0, "saved": len(self.told) // 10}


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with open_store(f"sqlite:///{tmp_path}/a.db") as opened:
        yield opened


@pytest.fixture
def written(store: Store, monkeypatch: pytest.MonkeyPatch) -> list[Mapping[str, Any]]:
    """The controller's states that come with trials."""
    states: list[Mapping[str, Any]] = []
    for method in ("start_trial", "finish_trial"):
        inner = getattr(store, method)

        def seen(lease: Any, trial: Any, state: Any = None, inner: Any = inner) -> Any:
            states.extend([] if state is None else [state])
            return inner(lease, trial, state)

        monkeypatch.setattr(store, method, seen)
    return states


def test_a_controllers_state_is_written_where_it_changed(store: Store, written: list[Mapping[str, Any]]) -> None:
    with open_session(store, Saving(), trials=35) as session:
        SimulatedExecutor(ToyEvaluator(seconds=0.0), 4).run(session)
    assert [state["saved"] for state in written] == [0, 1, 2, 3]
    assert store.controller_state("toy") == {"asked": 0, "score": 0.0, "saved": 3}


def test_a_candidate_that_ran_in_vain_may_run_again(store: Store) -> None:
    """It no longer counts as running, so its equal need not wait for it."""
    script = dict.fromkeys(range(3), SAME)
    with open_session(store, ToyController(script=script), trials=3) as session:
        first = session.ask()
        assert first is not None
        session.tell(first.number, Outcome(OutcomeKind.ACCIDENT, reason="gone"))
        again = session.ask()
        assert again is not None
        assert (again.number, again.attempt) == (0, 2)
        assert session.ask() is None, "the others wait for it"
        session.tell(0, Outcome(OutcomeKind.MEASURED, {"top1": 0.5}))
        assert session.done
    assert [trial.duplicate_of for trial in store.trials("toy")] == ["", "toy/0", "toy/0"]


def test_a_search_of_many_slots_resumes_with_its_front(store: Store) -> None:
    with open_session(store, trials=150) as session:
        SimulatedExecutor(ToyEvaluator(), 50).run(session)
        front = session.front
    with open_session(store, trials=200) as session:
        assert session.front == front
        SimulatedExecutor(ToyEvaluator(), 50).run(session)
    assert len(history(store)) == 200
