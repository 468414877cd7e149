"""Opening a store: from a URL to connections with the right settings and a schema of the right version."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from pathlib import Path
from urllib.parse import quote

from sqlalchemy import Connection, Engine, create_engine, event, inspect, select
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError
from sqlalchemy.pool import QueuePool

from autoprune.errors import ConfigError, NotFound, StoreError
from autoprune.store import tables
from autoprune.store.faults import os_fault, told_to_people
from autoprune.store.store import Store

__all__ = ["open_store", "sqlite_path"]

BUSY_SECONDS = 30.0
"""How long a statement waits for another process's lock."""

_HINT = "Write for example sqlite:///results/autoprune.db (a fourth slash for an absolute path)."


def open_store(url: str, *, read_only: bool = False) -> Store:
    """Open (and, unless ``read_only``, create) the store at ``sqlite:///path``.

    Raises ConfigError for a URL that is no store, NotFound when there is nothing to read, and StoreError when the
    file or its folder refuse: no permission, damaged, disk full, or written by a newer autoprune.
    """
    path = sqlite_path(url)
    if read_only:
        engine, version = _open_reading(path)
        return Store(engine, str(path), read_only=True, has_packs=version >= 2)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise os_fault(str(path), error) from error
    engine = _engine(lambda: _connect(path, "rwc"))
    with told_to_people(str(path)), engine.connect().execution_options(write=True) as connection, connection.begin():
        _bring_up_to_date(connection, str(path))
    return Store(engine, str(path))


def sqlite_path(url: str) -> Path:
    """The file that the URL of a store names. Raises ConfigError for one that is no store."""
    try:
        parsed = make_url(url)
    except ArgumentError:
        raise ConfigError(f"store {url!r} is not a URL: expected sqlite:///PATH.", _HINT) from None
    if parsed.drivername not in ("sqlite", "sqlite+pysqlite"):
        shown = parsed.render_as_string(hide_password=True)
        raise ConfigError(f"store {shown!r}: scheme {parsed.drivername!r} is not supported, only sqlite is.", _HINT)
    if not parsed.database or parsed.database == ":memory:" or parsed.host:
        raise ConfigError(f"store {url!r} names no file: a search must outlive its process.", _HINT)
    if parsed.query:
        raise ConfigError(f"store {url!r}: options after '?' are not supported.", _HINT)
    return Path(parsed.database).expanduser()


def _open_reading(path: Path) -> tuple[Engine, int]:
    """The engine, and the store's version.

    A database in WAL mode needs two files beside it; where they cannot be made, it is read as it lies.
    """
    if not path.exists():
        raise NotFound(f"no store at {str(path)!r}.", "Run 'autoprune search' first, or pass --store sqlite:///PATH.")
    try:
        return _reading_engine(path, "ro")
    except StoreError as error:
        if not any(sign in str(error.__cause__) for sign in ("readonly database", "unable to open")):
            raise
    return _reading_engine(path, "ro&immutable=1")


def _reading_engine(path: Path, mode: str) -> tuple[Engine, int]:
    engine = _engine(lambda: _connect(path, mode))
    try:
        with told_to_people(str(path)), engine.connect() as connection, connection.begin():
            version = _check_version(connection, str(path), oldest=tables.OLDEST_READABLE)
    except StoreError:
        engine.dispose()
        raise
    return engine, version


def _connect(path: Path, mode: str) -> sqlite3.Connection:
    connection = sqlite3.connect(
        f"file:{quote(str(path.absolute()))}?mode={mode}",
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
    except sqlite3.Error:
        connection.close()
        raise
    return connection


def _engine(connect: Callable[[], sqlite3.Connection]) -> Engine:
    engine = create_engine("sqlite://", creator=connect, poolclass=QueuePool)

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        # A deferred transaction that turns into a writer fails at once when another writer came first; an immediate
        # one waits for its turn.
        writing = connection.get_execution_options().get("write", False)
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writing else "BEGIN")

    return engine


def _bring_up_to_date(connection: Connection, where: str) -> None:
    found = inspect(connection).get_table_names()
    if not found:
        tables.metadata.create_all(connection)
        connection.execute(tables.schema_version.insert().values(version=tables.SCHEMA_VERSION))
        return
    version = _check_version(connection, where, oldest=0)
    while version < tables.SCHEMA_VERSION:
        tables.MIGRATIONS[version](connection)
        version += 1
        connection.execute(tables.schema_version.update().values(version=version))


def _check_version(connection: Connection, where: str, oldest: int) -> int:
    """The store's version. Raises StoreError when it is no store of ours, newer, or older than ``oldest``."""
    found = inspect(connection).get_table_names()
    if "schema_version" not in found:
        named = f"it has the tables {', '.join(found[:4])}" if found else "it is empty"
        raise StoreError(f"store {where!r} is not an autoprune store: {named}.", "Pass another file with --store.")
    version = int(connection.execute(select(tables.schema_version.c.version)).scalar_one())
    if version > tables.SCHEMA_VERSION:
        raise StoreError(
            f"store {where!r} has schema version {version}; this autoprune reads up to {tables.SCHEMA_VERSION}.",
            "It was written by a newer autoprune: upgrade, or pass another --store.",
        )
    if version < oldest:
        raise StoreError(
            f"store {where!r} has schema version {version}; this autoprune reads {oldest} and newer.",
            "Open it once for writing (any 'autoprune search' on it) to bring it up to date.",
        )
    return version
