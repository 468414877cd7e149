"""A server that goes away, a commit whose fate is unknown, a lock that lasts: repeated, and written once."""

from __future__ import annotations

import random
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from autoprune.errors import AutopruneError, Conflict, StoreError
from autoprune.store import Retraining, Store, new_owner, open_store, patience, sqlite, tables
from autoprune.store.points import PresetPoint, save_point
from autoprune.store.queue import LaunchQueue
from autoprune.store.removal import remove_search
from autoprune.testing.postgres_server import PostgresServer
from autoprune.testing.store_contract import create, finished, started
from autoprune.types import Candidate, LaunchState, SearchState, Trial, TrialState

# --- the fate of a commit --------------------------------------------------------------------------------------------


def everything(store: Store, commit: Callable[[], Any]) -> Iterator[Any]:
    """Calls every method that writes, one a step; what each returns. ``commit`` prepares the fate of the next one."""

    driver, worker = new_owner(), new_owner()

    def one(act: Callable[[], Any]) -> Any:
        commit()
        try:
            return act()
        except AutopruneError as error:
            return type(error)

    def trial(number: int) -> Trial:
        return started(number, a=number + 1)

    yield one(lambda: create(store)), one(lambda: create(store, digest="other"))
    lease = one(lambda: store.claim("one", owner=driver, ttl_seconds=60))
    yield lease.epoch
    yield one(lambda: store.claim("one", owner=worker, ttl_seconds=60))
    yield one(lambda: store.set_search_state("one", SearchState.RUNNING, lease=lease))
    yield one(lambda: store.set_config(lease, {"seed": 2}))
    for number in range(3):
        yield one(lambda number=number: store.start_trial(lease, trial(number), {"asked": number}))
    yield one(lambda: store.start_trial(lease, trial(2)))
    yield one(lambda: store.retry_trial(lease, 1))
    yield one(lambda: store.finish_trial(lease, finished(trial(1), top1=0.5, macs=3.0), {"told": 1}))
    yield one(lambda: store.finish_trial(lease, finished(trial(1), TrialState.FAILED), {"told": 2}))
    yield one(lambda: store.finish_trial(lease, finished(trial(7), top1=0.5), {"told": 7}))
    yield one(
        lambda: store.finish_trial(lease, finished(trial(0), TrialState.DIVERGED, top1=float("nan")), {"told": 3})
    )
    yield one(lambda: store.retry_trial(lease, 0))
    yield one(lambda: store.add_metrics("one", 1, {"test_top1": 0.4}))
    yield one(lambda: store.add_baseline_metrics("one", {"test_top1": 0.6}))
    yield one(lambda: store.renew(lease))
    yield one(lambda: store.rebuild_packs(lease))
    yield one(lambda: store.save_audit("one", "arm", {"tau": 0.5}))
    yield one(lambda: save_point(store, "one", PresetPoint("p", "li2016", {"a": 1}, {"conv": 8}, {"top1": 0.5})))
    yield one(lambda: store.claim_retraining(["r", "s"], driver, 60.0))[:2]
    yield one(lambda: store.claim_retraining(["r", "s"], worker, 60.0))[:2]
    yield one(lambda: store.save_retraining("one", Retraining("r", {"epochs": 1}, {"top1": 0.7})))
    yield one(lambda: store.release_retrainings(worker, "s"))
    queue = LaunchQueue(store)
    made = one(lambda: queue.add("two", {"name": "two"}))
    yield replace(made, id=0, created_at=0.0), one(lambda: queue.add("two", {}))
    claim = one(lambda: queue.claim(worker, 60.0))
    yield claim.epoch, one(lambda: queue.claim(worker, 60.0))
    yield one(lambda: queue.started(claim, "driver")), one(lambda: queue.renew(claim))
    yield one(lambda: queue.put_back(claim, "again")), one(lambda: queue.put_back(claim))
    claim = one(lambda: queue.claim(worker, 60.0))
    yield claim.epoch, one(lambda: queue.finish(claim, LaunchState.COMPLETE)), one(lambda: queue.stop(claim.launch.id))
    waiting = one(lambda: queue.add("three", {}))
    yield one(lambda: queue.stop(waiting.id).state), one(lambda: queue.stop(waiting.id))
    yield one(lambda: store.release(lease))
    yield one(lambda: store.release(lease))
    yield one(lambda: create(store, "two")), one(lambda: remove_search(store, "two")), one(lambda: store.search("two"))


def content(store: Store) -> dict[str, list[tuple[Any, ...]]]:
    """All rows, without times and owners, and without ids, of which a transaction that was lost takes one."""
    left_out = {"at", "until", "seconds", "id", "owner"}
    with store._reading() as connection:
        return {
            table.name: [
                tuple(value for name, value in row.items() if name.rsplit("_", 1)[-1] not in left_out)
                for row in connection.execute(table.select().order_by(*table.primary_key.columns)).mappings()
            ]
            for table in tables.metadata.sorted_tables
        }


@pytest.mark.parametrize("written", [False, True], ids=["lost", "written"])
def test_a_connection_that_breaks_while_committing_changes_nothing(
    postgres: PostgresServer, monkeypatch: pytest.MonkeyPatch, written: bool
) -> None:
    import psycopg

    breaks = threading.Event()
    broken = 0
    commit = psycopg.Connection.commit

    def breaking(connection: psycopg.Connection[Any]) -> None:
        nonlocal broken
        if breaks.is_set() and not connection.read_only:
            breaks.clear()
            broken += 1
            if written:
                commit(connection)
            connection.close()
            raise psycopg.OperationalError("server closed the connection unexpectedly")
        commit(connection)

    with open_store(postgres.new_database()) as calm, open_store(postgres.new_database()) as disturbed:
        expected = list(everything(calm, lambda: None))
        monkeypatch.setattr(psycopg.Connection, "commit", breaking)
        assert list(everything(disturbed, breaks.set)) == expected
        assert broken > 30
        assert content(disturbed) == content(calm)


def test_a_commit_that_is_still_under_way_is_waited_for(postgres_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The network is cut on our side alone: the server ends the transaction later."""
    import psycopg

    cut: list[threading.Timer] = []
    commit = psycopg.Connection.commit

    def cutting(connection: psycopg.Connection[Any]) -> None:
        if cut or connection.read_only:
            return commit(connection)
        connection.close = connection.rollback = lambda: None  # type: ignore[method-assign]
        cut.append(threading.Timer(0.4, lambda: (commit(connection), psycopg.Connection.close(connection))))
        cut[0].start()
        raise psycopg.errors.ConnectionFailure("no route to host")

    with open_store(postgres_url) as store:
        create(store)
        lease = store.claim("one", owner=new_owner(), ttl_seconds=60)
        store.start_trial(lease, started(0))
        monkeypatch.setattr(psycopg.Connection, "commit", cutting)
        monkeypatch.setattr(store._engine.dialect, "is_disconnect", lambda error, *_: "no route" in str(error))
        assert store.finish_trial(lease, finished(started(0), top1=0.5), {"told": 0})
        assert not cut[0].is_alive(), "the row was locked until then"
        assert store.trial("one", 0).metrics == {"top1": 0.5}
        assert store.controller_state("one") == {"told": 0}


# --- servers that go away --------------------------------------------------------------------------------------------


def drive(store: Store, name: str, count: int, done: list[int]) -> None:
    """Trials from the first to the last; ``done`` gets the numbers of those that the store took as finished now."""
    create(store, name)
    lease = store.claim(name, owner=new_owner(), ttl_seconds=60)
    for number in range(count):
        store.start_trial(lease, started(number), {"asked": number})
        if store.finish_trial(lease, finished(started(number), top1=number / count, macs=1.0), {"told": number}):
            done.append(number)
    store.release(lease)


def test_drivers_whose_connections_are_cut_all_the_time_lose_and_repeat_nothing(
    postgres: PostgresServer, postgres_url: str
) -> None:
    count, cuts, seen = 60, 0, -1
    done: dict[str, list[int]] = {f"s{index}": [] for index in range(3)}
    rng = random.Random(0)
    with open_store(postgres_url) as store:
        threads = [threading.Thread(target=drive, args=(store, name, count, done[name])) for name in done]
        for thread in threads:
            thread.start()
        while any(thread.is_alive() for thread in threads):
            now = sum(map(len, done.values()))
            if now > seen:  # a busy machine may need longer for a trial than for a cut
                seen, cuts = now, cuts + postgres.cut_connections(postgres_url)
            time.sleep(rng.uniform(0.0, 0.05))
        assert cuts > 10
        assert done == {name: list(range(count)) for name in done}
        for name in done:
            trials = store.trials(name)
            assert [(trial.number, trial.state) for trial in trials] == [(n, TrialState.COMPLETE) for n in range(count)]
            assert [trial.metrics for trial in trials] == [{"top1": n / count, "macs": 1.0} for n in range(count)]


@contextmanager
def gone_for(server: PostgresServer, seconds: float) -> Iterator[None]:
    server.stop(immediate=True)
    back = threading.Timer(seconds, server.start)
    back.start()
    yield
    back.join()


def test_writers_wait_for_a_server_and_readers_give_up_sooner(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(patience, "_SAID_AFTER", 0.3)
    with PostgresServer() as server, open_store(server.url) as store:
        create(store)
        lease = store.claim("one", owner=new_owner(), ttl_seconds=1.0)
        with open_store(server.url, read_only=True, patience=0.2) as reader, gone_for(server, 2.5):
            began = time.monotonic()
            for _ in range(2):  # it may be asked again
                with pytest.raises(StoreError, match="does not answer") as caught:
                    reader.search("one")
            assert 0.4 <= time.monotonic() - began < 2.4
            store.start_trial(lease, started(0))
            assert time.monotonic() - began > 2.2
        assert store.finish_trial(lease, finished(started(0), top1=0.5), {})
        store.renew(lease)
        assert store.search("one").trial_counts == {"complete": 1}
        assert server.password not in f"{caught.value}{caplog.text}"
        assert "Trying again for up to 300 s" in caplog.text
        assert "the store answers again" in caplog.text


def test_a_lease_that_ran_out_while_nobody_was_answered_is_still_ones_own() -> None:
    with PostgresServer() as server, open_store(server.url) as store, open_store(server.url) as other:
        create(store)
        lease = store.claim("one", owner="elsewhere/1:1:0.0", ttl_seconds=0.5)
        with gone_for(server, 1.0), pytest.raises(StoreError, match="does not answer"):
            store.renew(lease)  # the keeper asks again
        store.renew(replace(lease, ttl_seconds=60.0))
        with pytest.raises(Conflict):
            other.claim("one", owner=new_owner(), ttl_seconds=60.0)


# --- files -----------------------------------------------------------------------------------------------------------


def test_a_lock_that_outlasts_sqlites_own_patience_is_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite, "BUSY_SECONDS", 0.1)
    with open_store(f"sqlite:///{tmp_path}/a.db") as store:
        create(store)
        lease = store.claim("one", owner=new_owner(), ttl_seconds=60)
        store.start_trial(lease, started(0, a=1))
        other = sqlite3.connect(tmp_path / "a.db", isolation_level=None, check_same_thread=False)
        other.execute("BEGIN IMMEDIATE")
        threading.Timer(0.8, other.execute, ["COMMIT"]).start()
        began = time.monotonic()
        assert store.finish_trial(lease, finished(started(0, a=1), top1=0.5), {})
        assert time.monotonic() - began > 0.6
        other.close()
        assert store.lookup("e", Candidate({"a": 1}).digest) is not None
