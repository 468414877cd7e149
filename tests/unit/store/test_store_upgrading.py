"""Stores of every earlier version: brought up to date with all their rows, after a copy, or left as they were."""

from __future__ import annotations

import logging
import os
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import closing
from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest
from sqlalchemy import Connection
from test_store_packs import VERSION_1

from autoprune.errors import NotFound, StoreError
from autoprune.store import Retraining, new_owner, open_store, schema, tables, upgrading
from autoprune.store.queue import LaunchQueue
from autoprune.testing.pack_contract import drive
from autoprune.testing.postgres_server import PostgresServer
from autoprune.testing.store_contract import create

Sums = dict[str, tuple[int, str]]


def sums(path: Path) -> Sums:
    """Table -> count and checksum of its rows, but for the version."""
    found: Sums = {}
    with closing(sqlite3.connect(path)) as connection:
        names = connection.execute("SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY name").fetchall()
        for (name,) in names:
            if name != "schema_version" and not name.startswith("sqlite_"):
                rows = sorted(map(repr, connection.execute(f"SELECT * FROM {name}")))
                found[name] = (len(rows), sha256("\n".join(rows).encode()).hexdigest())
    return found


def rows_in(found: Sums) -> Sums:
    return {name: value for name, value in found.items() if value[0]}


def version(path: Path) -> int:
    with closing(sqlite3.connect(path)) as connection:
        return int(connection.execute("SELECT version FROM schema_version").fetchone()[0])


def copies(path: Path) -> list[str]:
    return sorted(item.name for item in path.parent.iterdir() if item.name.startswith(f"{path.name}.version"))


@pytest.fixture(params=["1", "2", "2 with launches"])
def old(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A store of an earlier version with 60 trials. In version 2, tables beside searches came with their first row."""
    path = tmp_path / "old.db"
    if request.param == "1":
        with closing(sqlite3.connect(path)) as connection:
            connection.executescript(VERSION_1)
    current = sqlite3.connect(":memory:") if request.param == "1" else None
    with open_store(f"sqlite:///{tmp_path}/new.db") as store:
        create(store)
        drive(store, store.claim("one", owner=new_owner(), ttl_seconds=60), np.random.default_rng(3), range(60))
        LaunchQueue(store).add("two", {})
        store.save_retraining("one", Retraining("r", {"epochs": 1}, {"top1": 0.5}))
    with closing(sqlite3.connect(path if current is not None else tmp_path / "new.db")) as connection:
        if current is not None:
            connection.execute("ATTACH ? AS new", (f"{tmp_path}/new.db",))
            for name in ("searches", "trials", "metrics"):
                connection.execute(f"INSERT INTO {name} SELECT * FROM new.{name}")
        else:
            kept = {"launches", "retrainings"} if "launches" in request.param else set()
            for name in {"launches", "retrainings", "retraining_claims", "audits", "preset_points"} - kept:
                connection.execute(f"DROP TABLE {name}")
            connection.execute("UPDATE schema_version SET version = 2")
        connection.commit()
    if current is not None:
        current.close()
    else:
        (tmp_path / "new.db").rename(path)
    return path


def test_every_row_is_kept_and_a_copy_was_made_first(old: Path, caplog: pytest.LogCaptureFixture) -> None:
    before, was = sums(old), version(old)
    with open_store(f"sqlite:///{old}", read_only=True) as store:
        trials = repr(store.trials("one"))
        launches = LaunchQueue(store).all()
        assert store.audits("one") == []
    assert (sums(old), copies(old)) == (before, []), "reading changes nothing"
    with caplog.at_level(logging.WARNING), open_store(f"sqlite:///{old}") as store:
        assert repr(store.trials("one")) == trials
        assert LaunchQueue(store).all() == launches
        assert LaunchQueue(store).add("three", {}).id == len(launches) + 1
    after = sums(old)
    assert {name: after[name] for name in before if name != "launches"} == {
        name: value for name, value in before.items() if name != "launches"
    }
    assert version(old) == tables.SCHEMA_VERSION
    assert copies(old) == [f"old.db.version-{was}"]
    copy = old.with_name(copies(old)[0])
    assert (sums(copy), version(copy)) == (before, was)
    assert f"from schema version {was} to {tables.SCHEMA_VERSION}; a copy as it was is {str(copy)!r}" in caplog.text
    open_store(f"sqlite:///{old}").close()
    assert len(copies(old)) == 1, "only once"


@pytest.mark.parametrize("old", ["2"], indirect=True)
def test_it_is_said_on_stderr(old: Path) -> None:
    script = "import sys; from autoprune.store import open_store; open_store(sys.argv[1]).close()"
    said = subprocess.run(
        [sys.executable, "-c", script, f"sqlite:///{old}"], capture_output=True, text=True, check=True, timeout=60
    )
    assert "is brought from schema version" in said.stderr
    assert said.stdout == ""


def failing(connection: Connection) -> None:
    connection.exec_driver_sql("DELETE FROM trials")
    connection.exec_driver_sql("UPDATE nothing SET colour = 'blue'")


def test_a_step_that_fails_leaves_every_row(old: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before, was = sums(old), version(old)
    monkeypatch.setattr(tables, "MIGRATIONS", {**tables.MIGRATIONS, 2: failing})
    with pytest.raises(StoreError):
        open_store(f"sqlite:///{old}")
    assert (sums(old), version(old)) == (before, was)


def test_without_a_copy_nothing_is_changed(old: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    before, was = sums(old), version(old)
    monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(StoreError, match=r"was not migrated, since no copy .*No space left.*Nothing was changed"):
        open_store(f"sqlite:///{old}")
    assert (sums(old), version(old)) == (before, was)
    assert [item.name for item in old.parent.iterdir() if "part" in item.name] == []


@pytest.mark.parametrize("old", ["2 with launches"], indirect=True)
def test_of_many_openers_one_migrates(old: Path) -> None:
    before = rows_in(sums(old))
    threads = [threading.Thread(target=lambda: open_store(f"sqlite:///{old}").close()) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert rows_in(sums(old)) == before
    assert len(copies(old)) == 1


@pytest.mark.parametrize("old", ["1"], indirect=True)
def test_a_process_killed_while_migrating_leaves_a_store_that_can_be_migrated(old: Path) -> None:
    script = """
import os, sys
from autoprune.store import open_store, tables
steps = dict(tables.MIGRATIONS)
def killed(connection):
    steps[2](connection)
    connection.exec_driver_sql("DELETE FROM trials")
    os.kill(os.getpid(), 9)
tables.MIGRATIONS = {**steps, 2: killed}
open_store(sys.argv[1])
"""
    before = rows_in(sums(old))
    done = subprocess.run([sys.executable, "-c", script, f"sqlite:///{old}"], check=False, timeout=60)
    assert done.returncode == -9
    open_store(f"sqlite:///{old}").close()
    assert rows_in(sums(old)) == before
    assert version(old) == tables.SCHEMA_VERSION


# --- looking after a store -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["file", "server"])
def test_a_store_is_looked_after(kind: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    url = f"sqlite:///{tmp_path}/a.db" if kind == "file" else request.getfixturevalue("postgres_url")
    calls: list[Callable[[str], object]] = [
        upgrading.version_of,
        upgrading.migrate,
        upgrading.vacuum,
        upgrading.integrity,
        upgrading.size_bytes,
    ]
    for call in calls[:2]:
        with pytest.raises(NotFound):
            call(url)
    with open_store(url) as store:
        create(store)
        drive(store, store.claim("one", owner=new_owner(), ttl_seconds=60), np.random.default_rng(3), range(60))
        before = repr(store.trials("one"))
        assert upgrading.version_of(url) == upgrading.CURRENT_VERSION
        assert upgrading.integrity(url) == []
        assert all(size > 10_000 for size in (upgrading.size_bytes(url), *upgrading.vacuum(url)))
        assert upgrading.migrate(url) == (upgrading.CURRENT_VERSION, upgrading.CURRENT_VERSION)
        assert repr(store.trials("one")) == before


def test_a_file_that_shrank_says_so(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/a.db"
    with open_store(url) as store:
        create(store)
        drive(store, store.claim("one", owner=new_owner(), ttl_seconds=60), np.random.default_rng(3), range(300))
        with store._writing() as connection:
            connection.exec_driver_sql("DELETE FROM metrics")
            connection.exec_driver_sql("DELETE FROM trials")
    before, after = upgrading.vacuum(url)
    assert after < 0.8 * before, "an empty store has a page for every table and index"
    assert after == os.path.getsize(tmp_path / "a.db")


def test_versions_are_told_of_stores_that_cannot_be_read(old: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    was = version(old)
    monkeypatch.setattr(tables, "OLDEST_READABLE", 3)
    assert upgrading.version_of(f"sqlite:///{old}") == was
    assert upgrading.migrate(f"sqlite:///{old}") == (was, tables.SCHEMA_VERSION)
    with closing(sqlite3.connect(old)) as connection:
        connection.execute("UPDATE schema_version SET version = 99")
        connection.commit()
    assert upgrading.version_of(f"sqlite:///{old}") == 99
    with pytest.raises(StoreError, match="newer autoprune"):
        upgrading.migrate(f"sqlite:///{old}")


def test_a_server_migrates_in_one_transaction(
    postgres: PostgresServer, postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with open_store(postgres_url) as store:
        create(store)
        drive(store, store.claim("one", owner=new_owner(), ttl_seconds=60), np.random.default_rng(3), range(20))
        before = repr(store.trials("one"))
    postgres.execute("DROP TABLE launches", postgres_url)
    postgres.execute("UPDATE schema_version SET version = 2", postgres_url)
    with monkeypatch.context() as patched:
        patched.setattr(schema.tables, "MIGRATIONS", {**tables.MIGRATIONS, 2: failing})
        with pytest.raises(StoreError):
            upgrading.migrate(postgres_url)
    assert upgrading.version_of(postgres_url) == 2
    assert upgrading.migrate(postgres_url) == (2, tables.SCHEMA_VERSION)
    with open_store(postgres_url) as store:
        assert repr(store.trials("one")) == before
