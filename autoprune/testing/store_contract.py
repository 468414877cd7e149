"""What every store must do. Subclass StoreContract, and give it a URL of an empty store.

class TestSqlite(StoreContract):
    @pytest.fixture()
    def store_url(self, tmp_path):
        return f"sqlite:///{tmp_path}/store.db"
"""

from __future__ import annotations

import dataclasses
import math
import threading
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from autoprune.errors import ConfigError, Conflict, NotFound
from autoprune.store import Lease, Store, new_owner, open_store
from autoprune.types import Candidate, Constraint, SearchState, Trial, TrialState

__all__ = ["StoreContract", "finished", "started"]

ANOTHER = "another-machine/1:1:0.00000000"
"""An owner whose life cannot be asked for from here."""


def started(number: int, **widths: int) -> Trial:
    return Trial(
        number, Candidate(widths or {"a": number + 1}), TrialState.RUNNING, note={"n": number}, started_at=100.0
    )


def finished(trial: Trial, state: TrialState = TrialState.COMPLETE, **metrics: float) -> Trial:
    return dataclasses.replace(
        trial,
        state=state,
        metrics=metrics,
        reason="because",
        timings={"evaluate": 0.5},
        worker="w",
        finished_at=200.0 + trial.number,
    )


def create(store: Store, name: str = "one", **changes: Any) -> None:
    values: dict[str, Any] = {
        "config": {"seed": 1},
        "digest": "d",
        "evaluation_digest": "e",
        "baseline": {"macs": 100.0},
    }
    store.create_search(name, **{**values, **changes})


class StoreContract:
    """The promises of ``autoprune.store.Store``."""

    @pytest.fixture
    def store_url(self) -> str:
        raise NotImplementedError

    @pytest.fixture
    def store(self, store_url: str) -> Iterator[Store]:
        with open_store(store_url) as store:
            yield store

    @pytest.fixture
    def lease(self, store: Store) -> Lease:
        create(store)
        return store.claim("one", owner=new_owner(), ttl_seconds=60)

    # --- searches ------------------------------------------------------------------------------------------------

    def test_a_search_comes_back_as_it_was_created(self, store: Store) -> None:
        create(store, config={"space": {"rules": [1, None, "x"]}}, baseline={"macs": 0.1 + 0.2})
        found = store.search("one")
        assert found.config == {"space": {"rules": [1, None, "x"]}}
        assert found.baseline == {"macs": 0.1 + 0.2}
        assert (found.digest, found.evaluation_digest, found.trial_counts) == ("d", "e", {})

    def test_creating_again_finds_the_search_and_keeps_its_baseline(self, store: Store) -> None:
        create(store)
        create(store, baseline={"macs": 5.0})
        assert store.search("one").baseline == {"macs": 100.0}
        assert len(store.searches()) == 1

    def test_another_configuration_under_the_same_name_conflicts(self, store: Store) -> None:
        create(store)
        with pytest.raises(Conflict, match="another configuration"):
            create(store, digest="other")

    def test_an_unknown_search_names_the_nearest(self, store: Store) -> None:
        create(store, "resnet20")
        with pytest.raises(NotFound, match="Did you mean 'resnet20'"):
            store.search("resnet2")

    def test_searches_are_listed_youngest_first_with_their_counts(self, store: Store, lease: Lease) -> None:
        create(store, "two")
        store.start_trial(lease, started(0))
        assert [(item.name, item.trial_counts) for item in store.searches()] == [("two", {}), ("one", {"running": 1})]

    def test_state_and_config_can_be_set_under_the_lease(self, store: Store, lease: Lease) -> None:
        store.set_search_state("one", SearchState.ABORTED, lease=lease)
        store.set_config(lease, {"seed": 2})
        found = store.search("one")
        assert (found.state, found.config) == (SearchState.ABORTED, {"seed": 2})

    def test_metrics_are_added_to_the_baseline(self, store: Store) -> None:
        create(store)
        store.add_baseline_metrics("one", {"test_top1": 0.5})
        assert store.search("one").baseline == {"macs": 100.0, "test_top1": 0.5}

    # --- trials --------------------------------------------------------------------------------------------------

    def test_a_finished_trial_comes_back_equal(self, store: Store, lease: Lease) -> None:
        trial = started(0, b=4, a=2)
        store.start_trial(lease, trial)
        assert store.trial("one", 0) == trial
        done = finished(trial, top1=0.1 + 0.2, macs=1e9)
        assert store.finish_trial(lease, done, {"generation": 3})
        assert store.trial("one", 0) == done
        assert store.controller_state("one") == {"generation": 3}

    def test_metrics_that_are_not_finite_come_back(self, store: Store, lease: Lease) -> None:
        store.start_trial(lease, started(0))
        store.finish_trial(lease, finished(started(0), TrialState.DIVERGED, loss=math.nan, top1=math.inf), {})
        metrics = store.trial("one", 0).metrics
        assert math.isnan(metrics["loss"])
        assert metrics["top1"] == math.inf

    def test_a_second_finish_changes_nothing(self, store: Store, lease: Lease) -> None:
        store.start_trial(lease, started(0))
        assert store.finish_trial(lease, finished(started(0), top1=0.5), {"told": 1})
        assert not store.finish_trial(lease, finished(started(0), TrialState.FAILED, top1=0.9), {"told": 2})
        assert store.trial("one", 0).metrics == {"top1": 0.5}
        assert store.trial("one", 0).state is TrialState.COMPLETE
        assert store.controller_state("one") == {"told": 1}

    def test_finishing_what_never_began_writes_nothing(self, store: Store, lease: Lease) -> None:
        assert not store.finish_trial(lease, finished(started(7), top1=0.5), {"told": 1})
        assert store.trials("one") == []
        assert store.controller_state("one") is None

    def test_the_controllers_state_can_be_written_with_a_start(self, store: Store, lease: Lease) -> None:
        store.start_trial(lease, started(0), {"asked": 1})
        store.start_trial(lease, started(1))
        assert store.controller_state("one") == {"asked": 1}

    def test_a_retry_is_the_next_attempt_of_a_running_trial(self, store: Store, lease: Lease) -> None:
        store.start_trial(lease, started(0))
        assert store.retry_trial(lease, 0)
        assert store.trial("one", 0).attempt == 2
        store.finish_trial(lease, finished(started(0)), {})
        assert not store.retry_trial(lease, 0)

    def test_trials_can_be_chosen_by_state_and_number(self, store: Store, lease: Lease) -> None:
        for number in range(1200):
            store.start_trial(lease, started(number))
        store.finish_trial(lease, finished(started(5), top1=0.5), {})
        assert [trial.number for trial in store.trials("one", states=[TrialState.COMPLETE])] == [5]
        assert store.trials("one", states=[TrialState.COMPLETE])[0].metrics == {"top1": 0.5}
        wanted = list(range(1199, 0, -1))
        assert [trial.number for trial in store.trials("one", numbers=wanted)] == sorted(wanted)

    def test_an_unknown_trial_is_not_found(self, store: Store, lease: Lease) -> None:
        with pytest.raises(NotFound, match="no trial 3"):
            store.trial("one", 3)

    # --- looking up ----------------------------------------------------------------------------------------------

    def test_look_up_finds_equal_candidates_of_equal_evaluations_only(self, store: Store, lease: Lease) -> None:
        store.start_trial(lease, started(0, a=4))
        digest = Candidate({"a": 4}).digest
        assert store.lookup("e", digest) is None, "still running"
        store.finish_trial(lease, finished(started(0, a=4), top1=0.5), {})
        found = store.lookup("e", digest)
        assert found is not None
        assert (found[0], found[1].number, found[1].metrics) == ("one", 0, {"top1": 0.5})
        assert store.lookup("another evaluation", digest) is None
        assert store.lookup("e", Candidate({"a": 5}).digest) is None

    @pytest.mark.parametrize("state", [TrialState.FAILED, TrialState.STOPPED])
    def test_look_up_ignores_what_is_no_measurement(self, store: Store, lease: Lease, state: TrialState) -> None:
        store.start_trial(lease, started(0, a=4))
        store.finish_trial(lease, finished(started(0, a=4), state, top1=0.5), {})
        assert store.lookup("e", Candidate({"a": 4}).digest) is None

    def test_look_up_leaves_out_metrics_added_later(self, store: Store, lease: Lease) -> None:
        store.start_trial(lease, started(0, a=4))
        store.finish_trial(lease, finished(started(0, a=4), top1=0.5), {})
        store.add_metrics("one", 0, {"test_top1": 0.4})
        store.add_metrics("one", 0, {"test_top1": 0.3})
        assert store.trial("one", 0).metrics == {"top1": 0.5, "test_top1": 0.3}
        found = store.lookup("e", Candidate({"a": 4}).digest)
        assert found is not None
        assert found[1].metrics == {"top1": 0.5}

    # --- columns and fronts --------------------------------------------------------------------------------------

    def test_columns_agree_with_filtering_in_python(self, store: Store, lease: Lease) -> None:
        rng = np.random.default_rng(0)
        for number in range(300):
            trial = started(number)
            store.start_trial(lease, trial)
            if number % 7 == 0:
                continue
            metrics = {"top1": float(rng.random()), "macs": float(rng.integers(1, 200))}
            if number % 5:
                metrics["latency_ms"] = math.nan if number % 11 == 0 else float(rng.random())
            state = TrialState.COMPLETE if number % 3 else TrialState.INFEASIBLE
            store.finish_trial(lease, finished(trial, state, **metrics), {})
        bounds = [Constraint("macs", "<=", 1.0, relative=True), Constraint("macs", ">=", 10.0)]
        expected = [
            (t.number, t.metrics["top1"], t.metrics["latency_ms"])
            for t in store.trials("one", states=[TrialState.COMPLETE])
            if 10 <= t.metrics["macs"] <= 100 and not math.isnan(t.metrics.get("latency_ms", math.nan))
        ]
        assert len(expected) > 20
        numbers, values = store.columns("one", ["top1", "latency_ms"], bounds, {"macs": 100.0})
        assert [(n, *row) for n, row in zip(numbers.tolist(), values.tolist(), strict=True)] == expected

    def test_columns_of_an_empty_search_are_empty(self, store: Store, lease: Lease) -> None:
        numbers, values = store.columns("one", ["top1", "macs"])
        assert (numbers.shape, values.shape) == ((0,), (0, 2))

    def test_a_relative_bound_without_baseline_is_named(self, store: Store, lease: Lease) -> None:
        with pytest.raises(ConfigError, match="baseline has no metric 'latency_ms'"):
            store.columns("one", ["top1"], [Constraint("latency_ms", "<=", 0.5, relative=True)], {"macs": 1.0})

    # --- leases --------------------------------------------------------------------------------------------------

    def test_a_held_search_refuses_a_second_driver(self, store: Store, lease: Lease) -> None:
        with pytest.raises(Conflict, match=r"is being run by process \d+ on .* since .*Ctrl-C"):
            store.claim("one", owner=new_owner(), ttl_seconds=60)

    def test_a_released_search_is_free_and_the_epoch_rises(self, store: Store, lease: Lease) -> None:
        store.release(lease)
        assert store.claim("one", owner=new_owner(), ttl_seconds=60).epoch > lease.epoch

    def test_a_lease_that_ran_out_is_free(self, store: Store) -> None:
        create(store)
        store.claim("one", owner=ANOTHER, ttl_seconds=0.0)
        store.claim("one", owner=new_owner(), ttl_seconds=60)

    def test_renewing_keeps_a_lease(self, store: Store) -> None:
        create(store)
        short = store.claim("one", owner=ANOTHER, ttl_seconds=0.0)
        store.renew(dataclasses.replace(short, ttl_seconds=60))
        with pytest.raises(Conflict, match="another-machine"):
            store.claim("one", owner=new_owner(), ttl_seconds=60)

    def test_driving_time_adds_up_over_leases(self, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
        now = 1000.0
        monkeypatch.setattr(Store, "now", lambda self: now)
        create(store)
        first = store.claim("one", owner=ANOTHER, ttl_seconds=60)
        now += 20
        store.renew(first)
        now += 10
        store.release(first)
        now += 5000
        second = store.claim("one", owner=ANOTHER, ttl_seconds=60)
        now += 3600  # asleep: counts for one lease
        store.renew(second)
        assert store.active_seconds("one") == pytest.approx(20 + 10 + 60)

    def test_a_driver_that_was_replaced_cannot_write(self, store: Store) -> None:
        create(store)
        zombie = store.claim("one", owner=ANOTHER, ttl_seconds=0.0)
        store.start_trial(zombie, started(0))
        alive = store.claim("one", owner=new_owner(), ttl_seconds=60)
        writes = [
            lambda: store.start_trial(zombie, started(1)),
            lambda: store.finish_trial(zombie, finished(started(0), top1=0.9), {"zombie": True}),
            lambda: store.retry_trial(zombie, 0),
            lambda: store.set_search_state("one", SearchState.ABORTED, lease=zombie),
            lambda: store.set_config(zombie, {}),
            lambda: store.renew(zombie),
            lambda: store.release(zombie),
        ]
        for write in writes:
            with pytest.raises(Conflict, match="taken over"):
                write()
        assert store.trials("one") == [started(0)]
        assert store.controller_state("one") is None
        assert store.finish_trial(alive, finished(started(0), top1=0.1), {})

    def test_of_many_claims_at_once_one_wins(self, store: Store, store_url: str) -> None:
        create(store)
        won: list[Lease] = []
        barrier = threading.Barrier(8)

        def claim() -> None:
            with open_store(store_url) as own:
                barrier.wait()
                try:
                    won.append(own.claim("one", owner=new_owner(), ttl_seconds=60))
                except Conflict:
                    return

        threads = [threading.Thread(target=claim) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(won) == 1

    # --- sums over all trials ------------------------------------------------------------------------------------

    def test_sums_are_those_over_the_trials(self, store: Store, lease: Lease) -> None:
        notes: list[dict[str, object]] = [
            {"origin": "uniform"},
            {"origin": "uniformly"},
            {},
            {"n": 1, "origin": "uniform"},
            {"origin_": "uniform"},
        ]
        states = [TrialState.COMPLETE, *(TrialState.STOPPED,) * 3, TrialState.RUNNING]
        for number, (note, state) in enumerate(zip(notes, states, strict=True)):
            trial = dataclasses.replace(started(number), note=note)
            store.start_trial(lease, trial)
            if state.finished:
                done = finished(trial, state, images=(math.nan, 100.0, 400.0, math.nan)[number])
                store.finish_trial(lease, dataclasses.replace(done, duplicate_of="two/1" if number < 2 else ""), {})
        assert store.noted("one", "origin", "uniform") == [0, 3]
        assert store.reused("one") == 2
        assert store.mean_metric("one", TrialState.STOPPED, "images") == 250.0
        assert store.mean_metric("one", TrialState.COMPLETE, "images") is None
        assert [trial.number for trial in store.trials("one", limit=2)] == [0, 1]
        assert [trial.number for trial in store.trials("one", states=[TrialState.STOPPED], limit=1)] == [1]

    # --- several at once -----------------------------------------------------------------------------------------

    def test_drivers_of_several_searches_write_at_once(self, store: Store, store_url: str) -> None:
        def drive(name: str) -> None:
            with open_store(store_url) as own:
                lease = own.claim(name, owner=new_owner(), ttl_seconds=60)
                for number in range(40):
                    own.start_trial(lease, started(number))
                    own.finish_trial(lease, finished(started(number), top1=0.5), {"n": number})

        names = [f"s{index}" for index in range(4)]
        for name in names:
            create(store, name)
        threads = [threading.Thread(target=drive, args=(name,)) for name in names]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert [store.search(name).trial_counts for name in names] == [{"complete": 40}] * 4

    def test_a_reader_sees_what_is_committed(self, store: Store, store_url: str, lease: Lease) -> None:
        store.start_trial(lease, started(0))
        with open_store(store_url, read_only=True) as reader:
            assert reader.trials("one") == [started(0)]
            store.finish_trial(lease, finished(started(0), top1=0.5), {})
            assert reader.trial("one", 0).state is TrialState.COMPLETE
