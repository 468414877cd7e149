"""Stores of PostgreSQL: opening them, what is said when that fails, passwords, the clock, several at once."""

from __future__ import annotations

import logging
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy import Connection

from autoprune.errors import AutopruneError, ConfigError, Conflict, NotFound, StoreError
from autoprune.store import connect, new_owner, open_store, queries, tables, urls
from autoprune.store.postgres import ServerClock
from autoprune.store.queue import LaunchQueue
from autoprune.testing.postgres_server import PostgresServer
from autoprune.testing.store_contract import create, finished, started
from autoprune.types import SearchRecord, TrialState


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connect, "OPENING_SECONDS", 0.0)


# --- URLs ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("postgresql://me:secret@host", "names no database"),
        ("postgresql://me:secret@host:port/db", "is not a URL"),
        ("postgresql://me:sec@ret@host/db", "is written %40"),
        ("postgresql+asyncpg://me:secret@host/db", "scheme 'postgresql+asyncpg' is not supported"),
        ("mysql://me:secret@host/db?password=secret", "scheme 'mysql' is not supported"),
        ("postgresql://me:secret@host/db?colour=blue", "colour"),
        ("postgresql://me@host/db?password=secret&colour=blue", "colour"),
    ],
)
def test_a_url_that_is_no_store_is_explained_without_its_password(text: str, said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        open_store(text)
    assert said in caught.value.message
    assert "sec" not in str(caught.value)


@pytest.mark.parametrize("scheme", ["postgresql", "postgresql+psycopg", "postgres"])
def test_all_names_of_the_scheme_are_known(scheme: str) -> None:
    assert urls.is_server(f"{scheme}://me@host/db")


def test_files_lie_in_a_folder_of_this_machine() -> None:
    assert urls.local_file("postgresql://me:secret@host:1/a db") == Path("results/host-a_db.db")
    assert urls.local_file("postgresql:///db?host=/tmp") == Path("results/local-db.db")


def test_without_the_driver_its_installation_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "psycopg", None)
    with pytest.raises(ConfigError, match=r"needs the package psycopg .*pip install 'autoprune\[postgres\]'"):
        open_store("postgresql://me@host/db")


# --- servers that refuse ---------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("hasty")
def test_what_a_server_refuses_is_said_with_the_next_step(postgres: PostgresServer) -> None:
    refused = {
        postgres.url_of("nowhere"): "no such database .*createdb",
        postgres.url_of("postgres", password="wrong"): "does not accept this user with this password",
        postgres.url_of("postgres", user="nobody"): "does not accept this user",
        postgres.url_of("postgres", port=1): "does not answer .*host and the port",
        postgres.url.replace("127.0.0.1", "no.such.host.invalid"): "no host of that name",
    }
    for url, said in refused.items():
        for read_only in (False, True):
            with pytest.raises(StoreError, match=said) as caught:
                open_store(url, read_only=read_only)
            assert "***" in caught.value.message
            assert postgres.password not in f"{caught.value}{caught.value.__cause__}"
            assert "wrong@" not in str(caught.value)


def test_a_server_that_just_starts_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connect, "OPENING_SECONDS", 30.0)
    with PostgresServer() as server:
        server.stop()
        later = threading.Timer(0.5, server.start)
        later.start()
        open_store(server.url).close()
        later.join()


def test_a_user_without_rights_is_told_which_are_needed(postgres: PostgresServer, postgres_url: str) -> None:
    database = postgres_url.rsplit("/", 1)[1]
    user = f"reader_of_{database}"
    postgres.execute(f"CREATE ROLE {user} LOGIN PASSWORD 'reading'")
    reader = postgres.url_of(database, user=user, password="reading")
    with pytest.raises(StoreError, match=r"may not do that .*permission denied.*grant it CREATE"):
        open_store(reader)
    with open_store(postgres_url) as store:
        create(store)
        lease = store.claim("one", owner=new_owner(), ttl_seconds=60)
        store.start_trial(lease, started(0))
    postgres.execute(f"GRANT SELECT ON ALL TABLES IN SCHEMA public TO {user}", postgres_url)
    with open_store(reader, read_only=True) as store:
        assert store.trials("one") == [started(0)]
    with open_store(reader) as store, pytest.raises(StoreError, match="permission denied for table searches"):
        create(store, "two")
    postgres.execute(f"DROP OWNED BY {user}; DROP ROLE {user}", postgres_url)


def test_nothing_to_read_is_not_found_and_nothing_is_made(postgres: PostgresServer, postgres_url: str) -> None:
    with pytest.raises(NotFound, match=r"no tables of autoprune.*autoprune search"):
        open_store(postgres_url, read_only=True)
    assert postgres.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public'", postgres_url) == []


def test_tables_of_others_are_left_alone(postgres: PostgresServer, postgres_url: str) -> None:
    postgres.execute("CREATE TABLE studies (id int)", postgres_url)
    open_store(postgres_url).close()
    assert postgres.execute("SELECT * FROM studies", postgres_url) == []
    another = postgres.new_database()
    postgres.execute("CREATE TABLE trials (id int)", another)
    for read_only in (False, True):
        with pytest.raises(StoreError, match="not an autoprune store: it has the tables trials"):
            open_store(another, read_only=read_only)


@pytest.mark.parametrize("read_only", [False, True])
def test_a_newer_schema_is_refused(postgres: PostgresServer, postgres_url: str, read_only: bool) -> None:
    open_store(postgres_url).close()
    postgres.execute("UPDATE schema_version SET version = 99", postgres_url)
    with pytest.raises(StoreError, match=r"schema version 99; .*upgrade"):
        open_store(postgres_url, read_only=read_only)


# --- the schema ------------------------------------------------------------------------------------------------------


def test_of_many_first_openers_one_makes_the_tables(postgres: PostgresServer, postgres_url: str) -> None:
    failed: list[BaseException] = []

    def first() -> None:
        try:
            open_store(postgres_url).close()
        except AutopruneError as error:
            failed.append(error)

    _all_at_once([first] * 8)
    assert failed == []
    assert postgres.execute("SELECT count(*) FROM schema_version", postgres_url) == [(1,)]


def test_an_older_schema_is_brought_up_to_date_once(
    postgres: PostgresServer, postgres_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    with open_store(postgres_url) as store:
        create(store)
        before = store.search("one")
    beside = "launches, retrainings, retraining_claims, audits, preset_points"
    postgres.execute(f"DROP TABLE {beside}", postgres_url)
    postgres.execute("UPDATE schema_version SET version = 2", postgres_url)
    with open_store(postgres_url, read_only=True) as store:
        assert store.search("one") == before
        assert (LaunchQueue(store).all(), store.audits("one"), store.retrainings(["d"])) == ([], [], {})
        with caplog.at_level(logging.WARNING):
            _all_at_once([lambda: open_store(postgres_url).close()] * 4)
        with open_store(postgres_url) as writer:
            LaunchQueue(writer).add("two", {})
            assert writer.search("one") == before
        assert [launch.search for launch in LaunchQueue(store).all()] == ["two"], "seen by a reader that was open"
    assert caplog.text.count("is brought from schema version 2 to 3") == 1
    assert postgres.password not in caplog.text


# --- rows ------------------------------------------------------------------------------------------------------------


def test_texts_that_a_server_refuses_are_kept_nearly_as_they_are(postgres_url: str) -> None:
    with open_store(postgres_url) as store:
        create(store)
        lease = store.claim("one", owner=new_owner(), ttl_seconds=60)
        store.start_trial(lease, started(0))
        done = finished(started(0), TrialState.FAILED)
        assert store.finish_trial(lease, replace(done, reason="it said \0 and é"), {"text": "\0"})
        assert store.trial("one", 0).reason == "it said \\0 and é"
        assert store.controller_state("one") == {"text": "\0"}


def test_readers_see_one_state_of_several_tables(postgres: PostgresServer, postgres_url: str) -> None:
    with open_store(postgres_url) as store, open_store(postgres_url, read_only=True) as reader:
        create(store)

        def look(connection: Connection) -> tuple[SearchRecord, SearchRecord]:
            before = queries.search_record(connection, "one")
            store.add_baseline_metrics("one", {"more": 1.0})
            return before, queries.search_record(connection, "one")

        before, after = reader.read(look)
        assert before == after
        assert reader.search("one") != before


# --- the clock -------------------------------------------------------------------------------------------------------


def test_the_clock_is_the_servers(postgres_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    true = time.time()
    monkeypatch.setattr(time, "time", lambda: true - 86_400.0)
    with open_store(postgres_url) as store:
        assert store.now() == pytest.approx(true, abs=30)
        create(store)
        assert store.search("one").created_at == pytest.approx(true, abs=30)
        store.claim("one", owner="elsewhere/1:1:0.0", ttl_seconds=60)
        with open_store(postgres_url) as other, pytest.raises(Conflict):
            other.claim("one", owner=new_owner(), ttl_seconds=60)


def test_the_clock_is_asked_seldom_and_goes_on_without_the_server() -> None:
    ticks = 100.0
    with PostgresServer() as server, open_store(server.url) as store:
        clock = ServerClock(store._engine, 60.0, lambda: ticks)
        first = clock()
        server.stop(immediate=True)
        ticks += 59.0
        assert clock() == pytest.approx(first + 59.0)
        ticks += 2.0
        assert clock() == pytest.approx(first + 61.0), "nobody answers: the last difference stands"
        server.start()
        ticks += 2.0
        assert abs(clock() - time.time()) < 30, "asked again"


# --- several at once -------------------------------------------------------------------------------------------------


def test_a_launch_goes_to_one_worker(postgres_url: str) -> None:
    with open_store(postgres_url) as store:
        for number in range(6):
            LaunchQueue(store).add(f"s{number}", {})
        claimed: list[str] = []
        refused: list[str] = []

        def work() -> None:
            with open_store(postgres_url) as own:
                queue = LaunchQueue(own)
                while (claim := queue.claim(new_owner(), 60.0)) is not None:
                    claimed.append(claim.launch.search)
                try:
                    queue.add("late", {})
                except Conflict:
                    refused.append("late")

        _all_at_once([work] * 6)
        assert sorted(claimed) == sorted([*(f"s{number}" for number in range(6)), *["late"] * claimed.count("late")])
        assert len(refused) == 5
        assert len(LaunchQueue(store).all("late")) == 1


def test_a_training_goes_to_one_process(postgres_url: str) -> None:
    digests = [f"d{number}" for number in range(12)]
    claimed: list[str] = []

    def work() -> None:
        owner, ours = f"elsewhere/1:{threading.get_ident()}:0.0", set[str]()
        with open_store(postgres_url) as store:
            for _ in range(2):
                digest, _, _ = store.claim_retraining([each for each in digests if each not in ours], owner, 60.0)
                assert digest is not None
                ours.add(digest)
                claimed.append(digest)

    _all_at_once([work] * 6)
    assert sorted(claimed) == sorted(digests)


def test_importing_the_store_needs_no_driver() -> None:
    script = "import sys, autoprune.store; print([m for m in ('psycopg', 'torch') if m in sys.modules])"
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60)
    assert result.stdout.strip() == "[]"


def test_every_column_can_hold_what_a_file_holds(postgres_url: str) -> None:
    """SQLite does not look at lengths."""
    with open_store(postgres_url) as store:
        create(store, "s" * 300)
        lease = store.claim("s" * 300, owner="h" * 300 + "/1:1:0.0", ttl_seconds=60)
        store.start_trial(lease, started(0))
        store.finish_trial(lease, finished(started(0), **{"m" * 300: 1.0}), {})
        assert store.trial("s" * 300, 0).metrics == {"m" * 300: 1.0}
    assert not [c for t in tables.metadata.tables.values() for c in t.columns if getattr(c.type, "length", None)]


def _all_at_once(works: Sequence[Callable[[], object]]) -> None:
    barrier = threading.Barrier(len(works))

    def run(work: Callable[[], object]) -> None:
        barrier.wait()
        work()

    threads = [threading.Thread(target=run, args=(work,)) for work in works]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
