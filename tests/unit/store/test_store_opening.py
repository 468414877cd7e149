"""Opening stores: bad URLs, files and folders, and what the user is told."""

from __future__ import annotations

import os
import re
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from autoprune.errors import AutopruneError, ConfigError, NotFound, StoreError
from autoprune.store import new_owner, open_store, schema, sqlite
from autoprune.types import Candidate, SearchState, Trial, TrialState


def url(path: Path) -> str:
    return f"sqlite:///{path}"


def fill(path: Path) -> None:
    with open_store(url(path)) as store:
        store.create_search("one", config={}, digest="d", evaluation_digest="e", baseline={})
        lease = store.claim("one", owner=new_owner(), ttl_seconds=60)
        store.start_trial(lease, Trial(0, Candidate({"a": 1}), TrialState.RUNNING))
        store.release(lease)


@contextmanager
def as_nobody() -> Iterator[None]:
    """Permissions do not bind root: act as another user meanwhile."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


@pytest.fixture
def open_folder(tmp_path: Path) -> Path:
    """A folder that any user may reach."""
    for folder in (tmp_path, *tmp_path.parents):
        if folder.stat().st_uid == os.geteuid() and folder != Path("/"):
            folder.chmod(folder.stat().st_mode | 0o755)
    return tmp_path


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("results/a.db", "is not a URL: expected sqlite:///PATH"),
        ("sqlite://", "names no file"),
        ("sqlite:///:memory:", "names no file"),
        ("sqlite://host/a.db", "names no file"),
        ("sqlite:///a.db?timeout=1", "options after '?'"),
        ("mysql://me:secret@host/db", "scheme 'mysql' is not supported"),
        ("sqlte:///a.db", "scheme 'sqlte' is not supported"),
    ],
)
def test_a_url_that_is_no_store_is_explained(text: str, said: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(said)) as caught:
        open_store(text)
    assert "sqlite:///results/autoprune.db" in caught.value.hint
    assert "secret" not in str(caught.value)


def test_missing_folders_are_made(tmp_path: Path) -> None:
    with open_store(url(tmp_path / "new folder" / "deeper" / "50% of #1 é.db")) as store:
        assert store.searches() == []
    assert (tmp_path / "new folder" / "deeper" / "50% of #1 é.db").exists()


def test_nothing_to_read_is_not_found_and_not_created(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match=r"no store at .*missing\.db'.*autoprune search.*--store"):
        open_store(url(tmp_path / "missing.db"), read_only=True)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_made_is_a_store_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match=r"Not a directory|File exists"):
        open_store(url(tmp_path / "file" / "a.db"))


def test_a_folder_in_place_of_the_file_is_a_store_error(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="cannot be opened"):
        open_store(url(tmp_path))
    with pytest.raises(StoreError, match=r"cannot be opened|refused to read"):
        open_store(url(tmp_path), read_only=True)


@pytest.mark.parametrize("read_only", [False, True])
def test_a_file_that_is_no_database_is_said_to_be_none(tmp_path: Path, read_only: bool) -> None:
    (tmp_path / "a.db").write_bytes(b"name,top1\n" * 1000)
    with pytest.raises(StoreError, match="is not an SQLite database"):
        open_store(url(tmp_path / "a.db"), read_only=read_only)
    assert (tmp_path / "a.db").read_bytes() == b"name,top1\n" * 1000


def test_a_damaged_file_is_said_to_be_damaged(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    fill(path)
    content = bytearray(path.read_bytes())
    content[4096:] = b"\xff" * (len(content) - 4096)
    path.write_bytes(content)
    with pytest.raises(StoreError, match="damaged"), open_store(url(path), read_only=True) as store:
        store.trials("one")


def test_a_truncated_file_is_said_to_be_damaged(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    fill(path)
    path.write_bytes(path.read_bytes()[:5000])
    with pytest.raises(StoreError, match="damaged"), open_store(url(path)) as store:
        store.trials("one")


@pytest.mark.parametrize("read_only", [False, True])
def test_another_programs_database_is_refused(tmp_path: Path, read_only: bool) -> None:
    with sqlite3.connect(tmp_path / "a.db") as other:
        other.execute("CREATE TABLE studies (id INTEGER)")
    other.close()
    with pytest.raises(StoreError, match="not an autoprune store: it has the tables studies"):
        open_store(url(tmp_path / "a.db"), read_only=read_only)


def test_an_empty_file_becomes_a_store_but_is_none_to_read(tmp_path: Path) -> None:
    (tmp_path / "a.db").touch()
    with pytest.raises(StoreError, match="it is empty"):
        open_store(url(tmp_path / "a.db"), read_only=True)
    open_store(url(tmp_path / "a.db")).close()
    open_store(url(tmp_path / "a.db"), read_only=True).close()


@pytest.mark.parametrize("read_only", [False, True])
def test_a_newer_schema_is_refused_and_left_alone(tmp_path: Path, read_only: bool) -> None:
    path = tmp_path / "a.db"
    fill(path)
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE schema_version SET version = 99")
    connection.close()
    with pytest.raises(StoreError, match=r"schema version 99; .* up to 3.*upgrade"):
        open_store(url(path), read_only=read_only)


def test_an_older_schema_is_migrated_step_by_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.db"
    fill(path)
    steps = {
        3: lambda connection: connection.exec_driver_sql("ALTER TABLE trials ADD COLUMN colour TEXT"),
        4: lambda connection: connection.exec_driver_sql("UPDATE trials SET colour = 'blue'"),
    }
    monkeypatch.setattr(schema.tables, "SCHEMA_VERSION", 5)
    monkeypatch.setattr(schema.tables, "OLDEST_READABLE", 4)
    monkeypatch.setattr(schema.tables, "MIGRATIONS", steps)
    with pytest.raises(StoreError, match="Open it once for writing"):
        open_store(url(path), read_only=True)
    open_store(url(path)).close()
    connection = sqlite3.connect(path)
    assert connection.execute("SELECT colour FROM trials").fetchall() == [("blue",)]
    assert connection.execute("SELECT version FROM schema_version").fetchall() == [(5,)]
    connection.close()


def test_a_migration_that_fails_leaves_the_store_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.db"
    fill(path)
    steps = {
        3: lambda connection: connection.exec_driver_sql("ALTER TABLE trials ADD COLUMN colour TEXT"),
        4: lambda connection: connection.exec_driver_sql("UPDATE nothing SET colour = 'blue'"),
    }
    with monkeypatch.context() as patched:
        patched.setattr(schema.tables, "SCHEMA_VERSION", 5)
        patched.setattr(schema.tables, "MIGRATIONS", steps)
        with pytest.raises(StoreError):
            open_store(url(path))
    with open_store(url(path)) as store:
        assert [trial.number for trial in store.trials("one")] == [0]


# --- permissions -----------------------------------------------------------------------------------------------------


def test_a_read_only_file_is_read_and_refuses_writing(open_folder: Path) -> None:
    path = open_folder / "a.db"
    fill(path)
    path.chmod(0o444)
    open_folder.chmod(0o555)
    with as_nobody():
        with open_store(url(path), read_only=True) as store:
            assert [trial.number for trial in store.trials("one")] == [0]
        with pytest.raises(StoreError, match=r"cannot be (written|opened).*permissions") as caught:
            open_store(url(path)).create_search("x", config={}, digest="", evaluation_digest="", baseline={})
        assert str(path) in caught.value.message
    open_folder.chmod(0o755)
    assert sorted(item.name for item in open_folder.iterdir()) == ["a.db"]


def test_a_store_left_by_a_kill_is_read_without_permission_to_write(open_folder: Path) -> None:
    """The write-ahead log then holds what the main file lacks."""
    path = open_folder / "a.db"
    script = (
        "import os, sys; sys.path.insert(0, sys.argv[2]);"
        "from test_store_opening import *;"
        "fill_and_keep_open = open_store(url(Path(sys.argv[1])));"
        "fill(Path(sys.argv[1]));"
        "os._exit(9)"
    )
    subprocess.run([sys.executable, "-c", script, str(path), str(Path(__file__).parent)], check=False, timeout=60)
    assert (open_folder / "a.db-wal").stat().st_size > 0
    for item in open_folder.iterdir():
        item.chmod(0o444)
    open_folder.chmod(0o555)
    with as_nobody(), open_store(url(path), read_only=True) as store:
        assert [trial.number for trial in store.trials("one")] == [0]
    open_folder.chmod(0o755)


def test_a_folder_without_permission_is_a_store_error(open_folder: Path) -> None:
    locked = open_folder / "locked"
    locked.mkdir(mode=0o555)
    with as_nobody():
        with pytest.raises(StoreError, match=r"cannot be opened.*entered and written"):
            open_store(url(locked / "a.db"))
        with pytest.raises(StoreError, match=r"Permission denied.*--store"):
            open_store(url(locked / "deeper" / "a.db"))


def test_writing_to_a_store_opened_for_reading_is_refused(tmp_path: Path) -> None:
    fill(tmp_path / "a.db")
    with (
        open_store(url(tmp_path / "a.db"), read_only=True) as store,
        pytest.raises(StoreError, match="open for reading only"),
    ):
        store.add_metrics("one", 0, {"top1": 1.0})


# --- other processes, and the disk -----------------------------------------------------------------------------------


def test_a_lock_held_too_long_is_explained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.db"
    fill(path)
    monkeypatch.setattr(sqlite, "BUSY_SECONDS", 0.2)
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with (
        open_store(url(path), patience=0.3) as store,
        pytest.raises(StoreError, match="another process has kept it locked"),
    ):
        store.set_search_state("one", SearchState.ABORTED)
    with open_store(url(path), read_only=True) as store:
        assert store.search("one").name == "one", "readers do not wait for writers"
    other.close()


def test_a_short_lock_is_waited_for(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    fill(path)
    script = (
        "import sqlite3, sys, time; c = sqlite3.connect(sys.argv[1], isolation_level=None);"
        "c.execute('BEGIN EXCLUSIVE'); print('locked', flush=True); time.sleep(1.0); c.execute('COMMIT')"
    )
    with subprocess.Popen([sys.executable, "-c", script, str(path)], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        with open_store(url(path)) as store:
            store.create_search("two", config={}, digest="", evaluation_digest="", baseline={})
            assert len(store.searches()) == 2


@pytest.mark.parametrize("fault", ["no space left on device", "quota"])
def test_a_full_disk_while_making_the_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: str) -> None:
    def full(*args: object, **kwargs: object) -> None:
        import errno

        raise OSError(errno.ENOSPC if fault.startswith("no") else errno.EDQUOT, fault)

    monkeypatch.setattr(Path, "mkdir", full)
    with pytest.raises(StoreError, match=r"the disk is full.*free some space"):
        open_store(url(tmp_path / "x" / "a.db"))


def test_every_message_says_where_and_what_next(tmp_path: Path) -> None:
    (tmp_path / "a.db").write_bytes(b"x" * 5000)
    for given in (url(tmp_path), url(tmp_path / "a.db")):
        with pytest.raises(AutopruneError) as caught:
            open_store(given)
        assert str(tmp_path) in caught.value.message
        assert caught.value.hint.endswith(".")


def test_importing_the_store_is_cheap() -> None:
    script = (
        "import sys, autoprune.store; print([m for m in ('torch', 'ray', 'optuna', 'pydantic') if m in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60)
    assert result.stdout.strip() == "[]"
