"""Connections to a file of SQLite."""

from __future__ import annotations

import os
import sqlite3
import tempfile
import threading
from pathlib import Path
from urllib.parse import quote

from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.pool import QueuePool

from autoprune.errors import StoreError

__all__ = ["BUSY_SECONDS", "engines_of"]

_LOG_PAGES = 256
"""Of 4 kB, after which the log is merged into the file: SQLite's 1,000 want 4 MB of a disk for a store of 100 kB."""
BUSY_SECONDS = 5.0
"""How long a statement waits for another process's lock, deaf to signals; the transaction is then begun anew."""


def engines_of(path: Path, mode: str) -> tuple[Engine, Engine]:
    """One for reading and one for writing, over the same connections.

    ``mode``: rwc (read, write, create), ro, or ro&immutable=1 where the two files beside it cannot be made.
    """
    place = _Place(path) if mode == "rwc" else None
    made = create_engine("sqlite://", creator=lambda: _connect(path, mode, place), poolclass=QueuePool)

    @event.listens_for(made, "begin")
    def begin(connection: Connection) -> None:
        # A deferred transaction that turns into a writer fails at once when another writer came first; an immediate
        # one waits for its turn.
        writing = connection.get_execution_options().get("write", False)
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writing else "BEGIN")
        if writing and place is not None:
            place.check(connection)

    return made, made.execution_options(write=True)


class _Place:
    """Whether the path still leads to the file, and its log, that are open.

    A file that is removed or replaced while it is open takes every later commit with it, without an error; and a
    connection that is opened afterwards would begin a new, empty file, or a log that damages the old one.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._known: tuple[_Identity, _Identity] | None = None
        self._saved = ""
        self._lock = threading.Lock()

    @property
    def is_open(self) -> bool:
        """The file was written before: it must not be made anew."""
        return self._known is not None

    def check(self, connection: Connection) -> None:
        """Raises StoreError when it is another file; what this process had is saved first, once."""
        found = _identity(self._path), _identity(Path(f"{self._path}-wal"))
        with self._lock:
            if self._known is None or found == self._known:
                self._known = found
                return
            if not self._saved:
                connection.exec_driver_sql("ROLLBACK")
                self._saved = self._rescued(connection)
                if self._saved and found == (None, self._known[1]):
                    self._forget_log()
        what = "its file" if found[0] != self._known[0] else f"{self._path.name}-wal, a part of it,"
        raise StoreError(
            f"store {str(self._path)!r}: {what} was removed or replaced while it was open. "
            f"{self._saved or 'What it held could not be saved.'}",
            "Put it back under the store's name (no other process may be using that), then run the same command again.",
        )

    def _rescued(self, connection: Connection) -> str:
        for folder in (self._path.parent, Path(tempfile.gettempdir())):
            target = folder / f"{self._path.name}.rescued-{os.getpid()}"
            try:
                connection.exec_driver_sql("VACUUM INTO ?", (str(target),))
            except Exception:  # noqa: BLE001 (the folder is gone or full; the error that matters follows)
                continue
            return f"All that it held is saved in {str(target)!r}."
        return ""

    def _forget_log(self) -> None:
        """Beside another file of that name, the log of the one that is gone would be played into it."""
        for ending in ("-wal", "-shm"):
            Path(f"{self._path}{ending}").unlink(missing_ok=True)


_Identity = tuple[int, int] | None


def _identity(path: Path) -> _Identity:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino


def _connect(path: Path, mode: str, place: _Place | None) -> sqlite3.Connection:
    existing = "rw" if place is not None and place.is_open else mode
    connection = sqlite3.connect(
        f"file:{quote(str(path.absolute()))}?mode={existing}",
        uri=True,
        timeout=BUSY_SECONDS,
        isolation_level=None,  # transactions are begun below, as IMMEDIATE where they will write
        check_same_thread=False,
    )
    try:
        connection.execute("PRAGMA foreign_keys=ON")
        if mode == "rwc":
            connection.execute("PRAGMA journal_mode=WAL")
            connection.execute("PRAGMA synchronous=NORMAL")
            connection.execute(f"PRAGMA wal_autocheckpoint={_LOG_PAGES}")
    except sqlite3.Error:
        connection.close()
        raise
    return connection
