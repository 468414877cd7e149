"""A search's trials in the order of finishing, piece by piece; and the front that a resume begins with."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from autoprune.driver.observers import LiveFront
from autoprune.driver.restoring import front_members, undominated
from autoprune.protocols import KnowsDigests
from autoprune.store import History, Lease, Store, history, new_owner, open_store
from autoprune.types import Candidate, Objective, Trial, TrialState

AXES = (Objective("top1", "max"), Objective("macs", "min"), Objective("params", "min"))


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with open_store(f"sqlite:///{tmp_path}/a.db") as opened:
        opened.create_search("one", config={}, digest="d", evaluation_digest="e", baseline={})
        yield opened


def claimed(store: Store) -> Lease:
    return store.claim("one", owner=new_owner(), ttl_seconds=60)


def filled(store: Store, count: int) -> dict[int, Trial]:
    """Trials that finish in another order, two of them not at all."""
    lease, rng, written = claimed(store), random.Random(0), {}
    for number in range(count):
        trial = Trial(number, Candidate({"a": number + 1}), TrialState.RUNNING, started_at=float(number))
        store.start_trial(lease, trial, {})
        written[number] = trial
    order = [number for number in range(count) if number not in (3, 5)]
    rng.shuffle(order)
    for place, number in enumerate(order):
        metrics = {axis.metric: float(rng.randint(0, 9)) for axis in AXES}
        state = TrialState.FAILED if number % 9 == 4 else TrialState.COMPLETE
        written[number] = replace(written[number], state=state, metrics=metrics, finished_at=100.0 + place)
        store.finish_trial(lease, written[number])
    return written


def test_trials_come_in_the_order_of_finishing_and_then_those_that_run(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(history, "_PIECE", 7)
    written = filled(store, 40)
    found = History(store, "one")
    finished = sorted((t for t in written.values() if t.finished_at), key=lambda trial: trial.finished_at or 0.0)
    assert list(found) == list(found) == [*finished, written[3], written[5]]
    assert found.running == [written[3], written[5]]
    assert (len(found), found.finished, found.last_time) == (40, 38, finished[-1].finished_at)
    assert found[0] == finished[0]
    assert found[-1] == written[5]
    assert found[2:4] == finished[2:4]


def test_digests_are_told_without_the_trials(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(history, "_ROWS", 5)
    written = filled(store, 12)
    found = History(store, "one")
    monkeypatch.setattr(History, "_read", None)
    assert isinstance(found, KnowsDigests)
    assert list(found.digests()) == [written[number].candidate.digest for number in range(12)]
    assert list(History(store, "one").digests()) == list(found.digests())


def test_a_search_without_trials_has_no_history(store: Store) -> None:
    found = History(store, "one")
    assert (len(found), list(found), found.running, found.last_time) == (0, [], [], 0.0)


@pytest.mark.parametrize("axes", [AXES[:1], AXES[:2], AXES])
def test_the_front_of_a_resume_is_that_of_the_trials_one_by_one(store: Store, axes: tuple[Objective, ...]) -> None:
    written = filled(store, 60)
    front, restored = LiveFront(axes), LiveFront(axes)
    for trial in History(store, "one"):
        front.add(trial)
    members = front_members(store, "one", axes)
    for trial in members:
        assert restored.add(trial), "no member of the front is dominated by another"
    assert restored.trials == front.trials
    assert all(written[trial.number] == trial for trial in members)


def test_undominated_over_several_blocks() -> None:
    points = np.random.default_rng(0).integers(0, 400, (9000, 2)).astype(float)
    rows = undominated(points)
    best = np.full(401, np.inf)
    for x, y in points:
        best[int(x)] = min(best[int(x)], y)
    lowest = np.minimum.accumulate(best)
    stairs = {(x, lowest[x]) for x in range(401) if np.isfinite(best[x]) and (x == 0 or lowest[x] < lowest[x - 1])}
    assert {tuple(points[row]) for row in rows} == stairs
    firsts = {tuple(point): row for row, point in reversed(list(enumerate(points)))}
    assert [firsts[tuple(points[row])] for row in rows] == rows.tolist(), "of equal ones the first"


def test_a_server_tells_the_same_history(store: Store, postgres_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(history, "_PIECE", 7)
    monkeypatch.setattr(history, "_ROWS", 5)
    with open_store(postgres_url) as server:
        server.create_search("one", config={}, digest="d", evaluation_digest="e", baseline={})
        assert filled(server, 20) == filled(store, 20)
        here, there = History(store, "one"), History(server, "one")
        assert list(there) == list(here)
        assert list(there.digests()) == list(here.digests())
        assert front_members(server, "one", AXES) == front_members(store, "one", AXES)
