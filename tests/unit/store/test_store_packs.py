"""Stores of version 1, drivers that are killed, and what packing does to the file of a real size."""

from __future__ import annotations

import os
import random
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from autoprune.errors import StoreError
from autoprune.store import new_owner, open_store, packs, schema
from autoprune.testing.pack_contract import assert_columns_agree, drive
from autoprune.testing.store_contract import create, finished, started
from autoprune.types import Candidate

VERSION_1 = """
CREATE TABLE schema_version (version INTEGER NOT NULL);
CREATE TABLE searches (
    id INTEGER NOT NULL, name VARCHAR(100) NOT NULL, digest VARCHAR(64) NOT NULL,
    evaluation_digest VARCHAR(64) NOT NULL, config TEXT NOT NULL, baseline TEXT NOT NULL, channels TEXT NOT NULL,
    state VARCHAR(20) NOT NULL, controller_state TEXT, created_at FLOAT NOT NULL, updated_at FLOAT NOT NULL,
    owner VARCHAR(200), epoch INTEGER NOT NULL, claimed_at FLOAT NOT NULL, renewed_at FLOAT NOT NULL,
    lease_until FLOAT NOT NULL, active_seconds FLOAT NOT NULL, PRIMARY KEY (id), UNIQUE (name)
);
CREATE INDEX ix_searches_evaluation_digest ON searches (evaluation_digest);
CREATE TABLE trials (
    search_id INTEGER NOT NULL, number INTEGER NOT NULL, digest VARCHAR(16) NOT NULL, widths TEXT NOT NULL,
    state VARCHAR(20) NOT NULL, reason TEXT NOT NULL, attempt INTEGER NOT NULL, note TEXT NOT NULL,
    timings TEXT NOT NULL, worker VARCHAR(200) NOT NULL, duplicate_of VARCHAR(120) NOT NULL,
    started_at FLOAT NOT NULL, finished_at FLOAT, PRIMARY KEY (search_id, number),
    FOREIGN KEY(search_id) REFERENCES searches (id)
) WITHOUT ROWID;
CREATE INDEX trials_by_state ON trials (search_id, state);
CREATE INDEX ix_trials_digest ON trials (digest);
CREATE TABLE metrics (
    search_id INTEGER NOT NULL, number INTEGER NOT NULL, name VARCHAR(100) NOT NULL, value FLOAT,
    added BOOLEAN NOT NULL, PRIMARY KEY (search_id, number, name)
) WITHOUT ROWID;
CREATE INDEX metrics_by_value ON metrics (search_id, name, value, number);
INSERT INTO schema_version VALUES (1);
"""

DRIVE = """
import sys
import numpy as np
from autoprune.store import new_owner, open_store, packs
from autoprune.testing.pack_contract import drive
packs.SIZE = 8
store = open_store(sys.argv[1])
lease = store.claim("one", owner=new_owner(), ttl_seconds=60)
begin = 1 + max((trial.number for trial in store.trials("one")), default=-1)
print("claimed", flush=True)
drive(store, lease, np.random.default_rng(begin), range(begin, begin + 10**6))
"""


@pytest.fixture
def old_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A store of version 1 with trials, as autoprune wrote it before there were packs."""
    monkeypatch.setattr(packs, "SIZE", 8)
    url = f"sqlite:///{tmp_path}/old.db"
    with open_store(url) as store:
        create(store)
        lease = store.claim("one", owner=new_owner(), ttl_seconds=60)
        drive(store, lease, np.random.default_rng(0), range(60))
        store.release(lease)
    rows = sqlite3.connect(tmp_path / "old.db")
    old = sqlite3.connect(tmp_path / "v1.db")
    old.executescript(VERSION_1)
    for table in ("searches", "trials", "metrics"):
        content = rows.execute(f"SELECT * FROM {table}").fetchall()
        old.executemany(f"INSERT INTO {table} VALUES ({','.join('?' * len(content[0]))})", content)
    old.commit()
    old.close()
    rows.close()
    return f"sqlite:///{tmp_path}/v1.db"


def test_a_store_of_version_1_answers_when_it_may_only_be_read(old_store: str) -> None:
    with open_store(old_store, read_only=True) as store:
        assert_columns_agree(store)
        assert store.pack_starts("one") == store.check_packs("one") == []
    assert version(old_store) == 1


def test_a_store_of_version_1_is_upgraded_and_answers_the_same(old_store: str) -> None:
    with open_store(old_store, read_only=True) as store:
        before = store.trials("one")
    with open_store(old_store) as store:
        assert version(old_store) == schema.tables.SCHEMA_VERSION
        assert repr(store.trials("one")) == repr(before)  # NaN differs from itself
        assert_columns_agree(store)
        lease = store.claim("one", owner=new_owner(), ttl_seconds=60)
        assert len(store.pack_starts("one")) >= 5
        assert_columns_agree(store)
        drive(store, lease, np.random.default_rng(9), range(60, 90))
        assert_columns_agree(store)
    with open_store(old_store, read_only=True) as store:
        assert_columns_agree(store)
        assert store.check_packs("one") == []


def test_a_version_that_cannot_be_read_says_what_to_do(old_store: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(schema.tables, "OLDEST_READABLE", 2)
    with pytest.raises(StoreError, match="Open it once for writing"):
        open_store(old_store, read_only=True)


def test_drivers_killed_at_any_moment_leave_packs_that_agree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packs, "SIZE", 8)
    url = f"sqlite:///{tmp_path}/a.db"
    with open_store(url) as store:
        create(store)
        for seed in range(3):
            with subprocess.Popen([sys.executable, "-c", DRIVE, url], stdout=subprocess.PIPE) as process:
                assert process.stdout is not None
                process.stdout.readline()
                time.sleep(0.2 + 0.3 * random.Random(seed).random())
                os.kill(process.pid, signal.SIGKILL)
            assert_columns_agree(store)
            lease = store.claim("one", owner=new_owner(), ttl_seconds=60)
            for trial in [trial for trial in store.trials("one") if not trial.state.finished]:
                store.finish_trial(lease, finished(started(trial.number), top1=0.5, macs=1.0), {})
            store.release(lease)
            assert_columns_agree(store)
        assert store.pack_starts("one")
        assert store.check_packs("one") == []


def test_packs_of_the_real_size(tmp_path: Path) -> None:
    """Behind two packs, only the rows of the last trials are read."""
    path = tmp_path / "a.db"
    count = 2 * packs.SIZE + 10
    with open_store(f"sqlite:///{path}") as store:
        create(store)
        widths = Candidate({"a": 1})
        trials = [(1, n, widths.digest, "{}", "complete", "", 1, "{}", "{}", "", "", 1.0, 2.0) for n in range(count)]
        metrics = [(1, n, name, n / 7, 0) for n in range(count) for name in ("top1", "macs")]
        rows = sqlite3.connect(path)
        rows.executemany(f"INSERT INTO trials VALUES ({','.join('?' * 13)})", trials)
        rows.executemany("INSERT INTO metrics VALUES (?,?,?,?,?)", metrics)
        rows.commit()
        rows.close()
        store.claim("one", owner=new_owner(), ttl_seconds=60)
        assert store.pack_starts("one") == [0, packs.SIZE]
        found = store.metric_columns("one", ["macs"])
        assert found.numbers.tolist() == list(range(count))
        assert found.values["macs"].tolist() == [n / 7 for n in range(count)]


def version(url: str) -> int:
    connection = sqlite3.connect(url.removeprefix("sqlite:///"))
    try:
        return int(connection.execute("SELECT version FROM schema_version").fetchone()[0])
    finally:
        connection.close()
