"""The schema in a database: which version it has, making it, and bringing an older one up to date."""

from __future__ import annotations

import logging
import sqlite3
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import Connection, Engine, inspect, select

from autoprune.errors import NotFound, StoreError
from autoprune.logs import emit
from autoprune.store import tables
from autoprune.store.database import ALL_TABLES
from autoprune.store.dialects import is_postgres, lock, take_time
from autoprune.store.faults import told_to_people

__all__ = ["ALL_TABLES", "Found", "bring_up_to_date", "check_is_store", "look"]

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Found:
    """What a database holds."""

    version: int
    tables: frozenset[str]


def look(engine: Engine, where: str) -> Found:
    """For reading. Raises NotFound when there is nothing, StoreError when it is no store, too new, or too old."""
    with told_to_people(where), engine.connect() as connection, connection.begin():
        return Found(_version(connection, where, tables.OLDEST_READABLE), _names(connection))


def bring_up_to_date(engines: tuple[Engine, Engine], where: str, path: Path | None) -> tuple[int | None, int]:
    """Make the tables, or the steps from an older version: all or nothing, by one process at a time.

    ``path``: the file, of which a copy is made before it is migrated; None for a server.
    Returns the version before (None: there was nothing) and after.
    """
    with told_to_people(where), engines[0].connect() as connection, connection.begin():
        if not _is_free(connection) and _version(connection, where, 0) == tables.SCHEMA_VERSION:
            return tables.SCHEMA_VERSION, tables.SCHEMA_VERSION
    with told_to_people(where), engines[1].connect() as connection, connection.begin():
        lock(connection, "schema")
        if _is_free(connection):
            tables.metadata.create_all(connection)
            connection.execute(tables.schema_version.insert().values(version=tables.SCHEMA_VERSION))
            return None, tables.SCHEMA_VERSION
        version = _version(connection, where, 0)
        if version < tables.SCHEMA_VERSION:
            _migrate(connection, where, path, version)
        return version, tables.SCHEMA_VERSION


def _migrate(connection: Connection, where: str, path: Path | None, version: int) -> None:
    take_time(connection)
    kept = ""
    if path is not None:
        kept = f"; a copy as it was is {str(_copied(path, version))!r}"
    for step in range(version, tables.SCHEMA_VERSION):
        tables.MIGRATIONS[step](connection)
        connection.execute(tables.schema_version.update().values(version=step + 1))
    text, now = "store %r is brought from schema version %d to %d%s.", tables.SCHEMA_VERSION
    emit(_log, logging.WARNING, "store.migrated", text, where, version, now, kept, before=version, after=now)


def _copied(path: Path, version: int) -> Path:
    """Copy the file as it was committed last; the caller keeps writers out. Earlier copies stay."""
    target = path.with_name(f"{path.name}.version-{version}")
    number = 1
    while target.exists():
        number += 1
        target = path.with_name(f"{path.name}.version-{version}.{number}")
    part = target.with_name(f"{target.name}.part")
    try:
        source = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)
        with closing(source), closing(sqlite3.connect(part)) as copy:
            source.backup(copy)
        part.replace(target)
    except (sqlite3.Error, OSError) as error:
        part.unlink(missing_ok=True)
        raise StoreError(
            f"store {str(path)!r} was not migrated, since no copy of it could be made ({error}).",
            "Nothing was changed: free some space, or allow writing beside it, and try again.",
        ) from error
    return target


def _is_free(connection: Connection) -> bool:
    """Whether a store may be made: a file must be empty; a server's database may hold what has other names."""
    found = _names(connection)
    return not (found & ALL_TABLES if is_postgres(connection) else found)


def check_is_store(connection: Connection, where: str) -> frozenset[str]:
    """The names of its tables. Raises NotFound when there is nothing yet, StoreError when it is no store of ours."""
    found = _names(connection)
    if is_postgres(connection) and not found & ALL_TABLES:
        raise NotFound(f"no store in {where!r}: it has no tables of autoprune.", "Run 'autoprune search' first.")
    if not {"schema_version", "searches"} <= found:
        named = f"it has the tables {', '.join(sorted(found)[:4])}" if found else "it is empty"
        raise StoreError(f"store {where!r} is not an autoprune store: {named}.", "Pass another one with --store.")
    return found


def _names(connection: Connection) -> frozenset[str]:
    return frozenset(inspect(connection).get_table_names())


def _version(connection: Connection, where: str, oldest: int) -> int:
    """The version. Raises StoreError when it is no store of ours, newer, or older than ``oldest``."""
    check_is_store(connection, where)
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
