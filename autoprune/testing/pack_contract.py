"""What every store must do about packs: queries over them say what the rows say, whatever happened in between.

class TestSqlitePacks(PackContract):
    @pytest.fixture()
    def store_url(self, tmp_path):
        return f"sqlite:///{tmp_path}/store.db"
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator

import numpy as np
import pytest

from autoprune.errors import StoreError
from autoprune.store import Lease, MetricColumns, Store, new_owner, open_store, packs
from autoprune.testing.store_contract import create, finished, started
from autoprune.types import Constraint, TrialState

__all__ = ["PackContract", "assert_columns_agree", "drive"]

NAMES = ("top1", "macs", "latency_ms", "test_top1", "never")
SIZE = 8
_ENDS = [state for state in TrialState if state.finished]


def drive(
    store: Store,
    lease: Lease,
    rng: np.random.Generator,
    numbers: range,
    *,
    added: bool = True,
    running: list[int] | None = None,
) -> None:
    """Trials that overlap, are retried, end in every state and in any order; the last few stay in ``running``."""
    running = [] if running is None else running
    for number in numbers:
        store.start_trial(lease, started(number))
        running.append(number)
        if rng.random() < 0.1:
            store.retry_trial(lease, number)
        while len(running) > rng.integers(1, 6):
            _finish(store, lease, rng, running.pop(rng.integers(len(running))), added)


def _finish(store: Store, lease: Lease, rng: np.random.Generator, number: int, added: bool) -> None:
    metrics = {"top1": _value(rng), "macs": float(rng.integers(1, 9))}
    if rng.random() < 0.3:
        metrics["latency_ms"] = _value(rng)
    if rng.random() < 0.1:
        del metrics["macs"]
    state = TrialState.COMPLETE if rng.random() < 0.6 else _ENDS[rng.integers(len(_ENDS))]
    assert store.finish_trial(lease, finished(started(number), state, **metrics), {"n": number})
    if added and rng.random() < 0.2:
        older = int(rng.integers(0, number + 1))
        if store.trial("one", older).state.finished:
            store.add_metrics("one", older, {"test_top1": _value(rng), "macs": float(rng.integers(1, 9))})


def _value(rng: np.random.Generator) -> float:
    return float(rng.choice([math.nan, math.inf, -math.inf, *rng.integers(0, 9, 12) / 8]))


def assert_columns_agree(store: Store, earlier: MetricColumns | None = None) -> MetricColumns:
    """``metric_columns``, ``columns`` and ``measured`` against the trials themselves."""
    complete = store.trials("one", states=[TrialState.COMPLETE])
    found = store.metric_columns("one", NAMES, earlier=earlier)
    assert found.numbers[found.complete].tolist() == [trial.number for trial in complete]
    assert (np.diff(found.numbers) > 0).all()
    for name in NAMES:
        expected = [trial.metrics.get(name, math.nan) for trial in complete]
        np.testing.assert_array_equal(found.values[name][found.complete], expected)
        assert np.isnan(found.values[name][~found.complete]).all()
    states = Counter(trial.state.value for trial in store.trials("one"))
    assert store.search("one").trial_counts == states
    assert {each.name: each.trial_counts for each in store.searches()}["one"] == states
    assert store.measured("one") == {name for trial in complete for name in trial.metrics}
    numbers, values = store.columns("one", ["top1"], [Constraint("macs", "<=", 4.0), Constraint("top1", ">=", 0.25)])
    met = [t for t in complete if t.metrics.get("macs", math.nan) <= 4 and t.metrics["top1"] >= 0.25]
    assert numbers.tolist() == [trial.number for trial in met]
    assert values[:, 0].tolist() == [trial.metrics["top1"] for trial in met]
    return found


class PackContract:
    """The promises of ``autoprune.store.packs``, with packs of a few trials."""

    @pytest.fixture
    def store_url(self) -> str:
        raise NotImplementedError

    @pytest.fixture
    def store(self, store_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Store]:
        monkeypatch.setattr(packs, "SIZE", SIZE)
        with open_store(store_url) as store:
            yield store

    @pytest.fixture
    def lease(self, store: Store) -> Lease:
        create(store)
        return store.claim("one", owner=new_owner(), ttl_seconds=60)

    @pytest.mark.parametrize("seed", range(4))
    def test_packs_say_what_the_rows_say(self, store: Store, lease: Lease, seed: int) -> None:
        rng = np.random.default_rng(seed)
        running: list[int] = []
        earlier = None
        for begin in range(0, 75, 15):
            drive(store, lease, rng, range(begin, begin + 15), running=running)
            assert_columns_agree(store)
            earlier = assert_columns_agree(store, earlier)
        assert len(store.pack_starts("one")) >= 2, "queries read packs"
        assert store.check_packs("one") == []

    def test_a_pack_waits_for_its_last_trial(self, store: Store, lease: Lease) -> None:
        for number in range(3 * SIZE):
            store.start_trial(lease, started(number))
        for number in [n for n in range(3 * SIZE) if n != 3]:
            store.finish_trial(lease, finished(started(number), top1=0.5, macs=number), {})
        assert store.pack_starts("one") == [SIZE, 2 * SIZE]
        assert_columns_agree(store)
        store.finish_trial(lease, finished(started(3), top1=0.75, macs=3), {})
        assert store.pack_starts("one") == [0, SIZE, 2 * SIZE]
        assert_columns_agree(store)

    def test_a_missing_number_keeps_its_pack_from_being_written(self, store: Store, lease: Lease) -> None:
        for number in [n for n in range(3 * SIZE) if n != 5]:
            store.start_trial(lease, started(number))
            store.finish_trial(lease, finished(started(number), top1=0.5), {})
        assert store.pack_starts("one") == [SIZE, 2 * SIZE]
        store.start_trial(lease, started(5))
        assert_columns_agree(store)
        store.finish_trial(lease, finished(started(5), top1=0.5), {})
        assert_columns_agree(store)

    def test_metrics_added_to_packed_trials_are_seen(self, store: Store, lease: Lease) -> None:
        drive(store, lease, np.random.default_rng(1), range(40), added=False)
        assert 0 in store.pack_starts("one")
        states = {trial.number: trial.state for trial in store.trials("one") if trial.number < SIZE}
        for number, value in zip(states, [0.5, math.nan, math.inf, 0.25] * SIZE, strict=False):
            earlier = assert_columns_agree(store)
            store.add_metrics("one", number, {"test_top1": value, "top1": value})
            assert_columns_agree(store, earlier)
        assert set(states.values()) > {TrialState.COMPLETE}
        assert store.check_packs("one") == []

    def test_packs_are_checked_and_made_anew(self, store: Store, lease: Lease, monkeypatch: pytest.MonkeyPatch) -> None:
        drive(store, lease, np.random.default_rng(2), range(40))
        before = store.pack_starts("one")
        complete = next(t.number for t in store.trials("one", states=[TrialState.COMPLETE]))
        with monkeypatch.context() as patched:
            patched.setattr(packs, "amend", lambda *args: None)  # rows change, packs do not
            store.add_metrics("one", complete, {"top1": 123.0})
        assert store.check_packs("one") == [complete - complete % SIZE]
        store.rebuild_packs(lease)
        assert store.pack_starts("one") == before
        assert store.check_packs("one") == []
        assert_columns_agree(store)

    def test_a_fault_while_packing_leaves_the_trial_running(
        self, store: Store, lease: Lease, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for number in range(SIZE):
            store.start_trial(lease, started(number))
        for number in range(SIZE - 1):
            store.finish_trial(lease, finished(started(number), top1=0.5), {})
        write = packs.pack_next

        def fail(*args: object) -> bool:
            assert write(*args)  # type: ignore[arg-type]
            raise StoreError("the disk is full.")

        last = finished(started(SIZE - 1), top1=0.5)
        with monkeypatch.context() as patched:
            patched.setattr(packs, "pack_next", fail)
            with pytest.raises(StoreError, match="full"):
                store.finish_trial(lease, last, {})
        assert store.pack_starts("one") == []
        assert store.trial("one", SIZE - 1).state is TrialState.RUNNING
        assert store.finish_trial(lease, last, {})
        assert store.pack_starts("one") == [0]
        assert_columns_agree(store)

    def test_a_new_driver_packs_what_is_due(self, store: Store, lease: Lease, monkeypatch: pytest.MonkeyPatch) -> None:
        with monkeypatch.context() as patched:
            patched.setattr(packs, "is_time", lambda number: False)
            drive(store, lease, np.random.default_rng(3), range(60))
        assert store.pack_starts("one") == []
        assert_columns_agree(store)
        store.release(lease)
        store.claim("one", owner=new_owner(), ttl_seconds=60)
        assert len(store.pack_starts("one")) >= 5
        assert_columns_agree(store)

    def test_packs_of_several_searches_keep_apart(self, store: Store, lease: Lease) -> None:
        create(store, "two")
        other = store.claim("two", owner=new_owner(), ttl_seconds=60)
        drive(store, lease, np.random.default_rng(4), range(40), added=False)
        for number in range(SIZE):
            store.start_trial(other, started(number))
            store.finish_trial(other, finished(started(number), only_here=1.0), {})
        assert store.pack_starts("two") == [0]
        assert store.measured("two") == {"only_here"}
        assert_columns_agree(store)
