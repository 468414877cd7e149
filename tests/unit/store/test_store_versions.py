"""Stores as earlier versions wrote them (``versions/*.sql``, made by their own code): they open, and keep every row.

Two searches of 20 trials each, in all states, one trial left running; version 2 also has a training, an audit and a
launch.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import sqlite3
from dataclasses import replace
from pathlib import Path

import pytest

from autoprune.store import new_owner, open_store
from autoprune.store.queue import LaunchQueue
from autoprune.store.tables import SCHEMA_VERSION
from autoprune.types import SearchState, TrialState

DUMPS = sorted((Path(__file__).parent / "versions").glob("version-*.sql"))


def test_every_earlier_version_has_a_dump() -> None:
    assert [path.stem for path in DUMPS] == [f"version-{number}" for number in range(1, SCHEMA_VERSION)]


@pytest.fixture(params=DUMPS, ids=lambda path: path.stem)
def old(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    path = tmp_path / "old.db"
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.executescript(request.param.read_text())
        connection.execute("PRAGMA journal_mode=WAL")
    return path


def contents(path: Path, columns: dict[str, list[str]] | None = None) -> dict[str, tuple[int, str]]:
    """Table -> number of rows, and SHA-256 over them, in the columns given or all."""
    found = {}
    with contextlib.closing(sqlite3.connect(path)) as connection:
        for name, names in (columns or layout(path)).items():
            listed = ", ".join(f'"{each}"' for each in names)
            rows = sorted(map(repr, connection.execute(f'SELECT {listed} FROM "{name}"')))
            found[name] = len(rows), hashlib.sha256("\n".join(rows).encode()).hexdigest()
    return found


def layout(path: Path) -> dict[str, list[str]]:
    """The columns of all tables but the one with the version."""
    with contextlib.closing(sqlite3.connect(path)) as connection:
        names = [row[0] for row in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        return {
            name: [column[1] for column in connection.execute(f'PRAGMA table_info("{name}")')]
            for name in names
            if name not in ("schema_version", "sqlite_sequence")
        }


def test_rows_and_checksums_stay(old: Path, caplog: pytest.LogCaptureFixture) -> None:
    columns, before = layout(old), contents(old)
    assert before["trials"][0] == 40
    assert before["metrics"][0] == 109
    with open_store(f"sqlite:///{old}", read_only=True) as store:
        untouched = [store.trials(record.name) for record in store.searches()]
    with caplog.at_level(logging.WARNING), open_store(f"sqlite:///{old}") as store:
        trials = [store.trials(record.name) for record in store.searches()]
    assert repr(trials) == repr(untouched)  # repr: a metric that is not a number equals nothing
    assert contents(old, columns) == before
    assert f"to {SCHEMA_VERSION}" in caplog.text
    (copy,) = old.parent.glob("old.db.version-*")
    assert contents(copy) == before
    with contextlib.closing(sqlite3.connect(old)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        assert connection.execute("SELECT version FROM schema_version").fetchall() == [(SCHEMA_VERSION,)]
    with open_store(f"sqlite:///{old}"):
        pass
    assert contents(old, columns) == before
    assert len(list(old.parent.glob("old.db.version-*"))) == 1


def test_the_search_goes_on(old: Path) -> None:
    with open_store(f"sqlite:///{old}") as store:
        assert {trial.state for trial in store.trials("digits-tpe")} == {*TrialState}
        assert store.controller_state("digits-tpe") == {"asked": 19}
        lease = store.claim("digits-tpe", owner=new_owner(), ttl_seconds=30.0)
        (orphan,) = store.trials("digits-tpe", states=[TrialState.RUNNING])
        ended = replace(orphan, state=TrialState.COMPLETE, metrics={"top1": 0.5, "macs": 1.0}, finished_at=store.now())
        assert store.finish_trial(lease, ended, {"told": 19})
        store.set_search_state("digits-tpe", SearchState.COMPLETE, lease=lease)
        numbers, values = store.columns("digits-tpe", ["top1", "macs"])
        assert (numbers[-1], *values[-1]) == (19, 0.5, 1.0)
        assert store.trial("digits-random", 3).metrics["test_top1"] == 0.91


def test_what_lies_beside_searches_is_read(tmp_path: Path) -> None:
    path = tmp_path / "old.db"
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.executescript(DUMPS[1].read_text())
    with open_store(f"sqlite:///{path}") as store:
        (training,) = store.retrainings(["r" * 64]).values()
        assert training.metrics["top1"] == 0.9
        assert store.audits("digits-random") == [{"tau": 0.4}]
        assert [launch.search for launch in LaunchQueue(store).all()] == ["digits-next"]
