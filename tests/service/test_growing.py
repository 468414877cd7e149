"""What the server keeps of a search that goes on: at every moment it answers as if it had read all of it anew."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from autoprune.api.reader import Reader
from autoprune.api.views import FrontView, front_view, ranked_numbers
from autoprune.service.bodies import Bodies
from autoprune.store import Store, new_owner, open_store, packs
from autoprune.store.removal import remove_search
from autoprune.testing.pack_contract import drive
from autoprune.testing.store_contract import create, finished, started
from autoprune.types import TrialState

WHERE = ["macs <= 6"]
SORTS = ("number", "top1", "macs")


@pytest.fixture
def url(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setattr(packs, "SIZE", 8)
    return f"sqlite:///{tmp_path / 'a.db'}"


def answers(reader: Reader, bodies: Bodies) -> list[object]:
    """Fronts, rankings and trials of the search ``one``."""
    views = [front_view(reader, "one", x="macs", y="top1", where=where, others=5) for where in ([], WHERE)]
    views.append(front_view(reader, "one", x="macs", y="top1 min", z="latency_ms"))
    ranked = [
        ranked_numbers(reader, "one", where=where, sort=sort, descending=descending).tolist()
        for where in ([], WHERE)
        for sort in SORTS
        for descending in (False, True)
    ]
    return [[plain(view) for view in views], ranked, bodies.of("one", range(100))]


def plain(view: FrontView) -> object:
    points = [(each.numbers.tolist(), each.values.tolist()) for each in (view.members, view.others)]
    return points, view.considered, view.others_total


def assert_nothing_is_stale(store: str, reader: Reader, bodies: Bodies) -> None:
    fresh = Reader(store)
    assert answers(reader, bodies) == answers(fresh, Bodies(fresh))
    fresh.close()


@pytest.mark.parametrize("seed", range(2))
def test_what_is_kept_follows_the_store(url: str, seed: int) -> None:
    """Trials end in any order and state, metrics are added and replaced, packs are written."""
    rng, running, reader = np.random.default_rng(seed), [], Reader(url)
    with open_store(url) as store:
        create(store)
        lease = store.claim("one", owner=new_owner(), ttl_seconds=60)
        drive(store, lease, rng, range(20), running=running)
        bodies = Bodies(reader, most_bytes=6_000)  # of about 20 trials
        for begin in range(20, 60, 5):
            drive(store, lease, rng, range(begin, begin + 5), added=begin % 2 == 0, running=running)
            assert_nothing_is_stale(url, reader, bodies)
        remove(store, lease)
        create(store)  # another search of its name, and of its id
        lease = store.claim("one", owner=new_owner(), ttl_seconds=60)
        drive(store, lease, rng, range(30))
        assert_nothing_is_stale(url, reader, bodies)
    reader.close()


def remove(store: Store, lease: object) -> None:
    store.release(lease)  # type: ignore[arg-type]
    remove_search(store, "one")


def test_a_new_trial_costs_a_look_at_what_is_new(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    reader = Reader(url)
    with open_store(url) as store:
        create(store)
        lease = store.claim("one", owner=new_owner(), ttl_seconds=60)

        def finish(number: int) -> None:
            store.start_trial(lease, started(number))
            store.finish_trial(lease, finished(started(number), top1=number / 100, macs=number), {})

        for number in range(20):
            finish(number)
        bodies = Bodies(reader)
        before = bodies.of("one", range(20))
        columns = reader.columns("one", ["top1", "macs"])
        finish(20)
        now = reader.columns("one", ["top1", "macs"])
        assert now.unchanged(columns.version) == 20
        asked: list[int] = []
        read = reader.trials
        monkeypatch.setattr(
            reader, "trials", lambda name, numbers: asked.extend(numbers) or read(name, numbers=numbers)
        )
        assert bodies.of("one", range(21))[:20] == before
        assert asked == [20]
        store.add_metrics("one", 3, {"top1": 0.5})
        assert json.loads(bodies.of("one", [3, 4])[0])["metrics"]["top1"] == 0.5
        assert asked == [20, 3]
        assert reader.columns("one", ["top1", "macs"]).unchanged(now.version) == 0, "a value behind it is another one"
    reader.close()


def test_a_running_trial_is_read_each_time(url: str) -> None:
    reader = Reader(url)
    with open_store(url) as store:
        create(store)
        lease = store.claim("one", owner=new_owner(), ttl_seconds=60)
        store.start_trial(lease, started(0))
        bodies = Bodies(reader)
        assert json.loads(bodies.of("one", [0])[0])["state"] == "running"
        store.finish_trial(lease, finished(started(0), TrialState.FAILED), {})
        assert json.loads(bodies.of("one", [0])[0])["state"] == "failed"
    reader.close()
