"""All that SQLite and PostgreSQL do not say alike."""

from __future__ import annotations

from typing import Any
from zlib import crc32

from sqlalchemy import Connection, Table, func, select
from sqlalchemy.dialects import postgresql, sqlite

__all__ = ["insert", "is_postgres", "lock", "take_time"]


def is_postgres(connection: Connection) -> bool:
    return connection.dialect.name == "postgresql"


def insert(connection: Connection, table: Table) -> Any:
    """An INSERT that knows ``on_conflict_do_nothing`` and ``on_conflict_do_update``: same names, two classes."""
    return postgresql.insert(table) if is_postgres(connection) else sqlite.insert(table)


def lock(connection: Connection, what: str) -> None:
    """Be alone with ``what`` until the transaction ends. A writer of SQLite is alone with everything."""
    if is_postgres(connection):
        connection.execute(select(func.pg_advisory_xact_lock(_NAMESPACE, crc32(what.encode()) - 2**31)))


def take_time(connection: Connection) -> None:
    """Let the statements of this connection take their time: changes of all rows last longer than queries may."""
    if is_postgres(connection):
        connection.exec_driver_sql("SET statement_timeout = 0")


_NAMESPACE = 1_096_110_418
"""Keeps the locks of this program apart from others' in one database: the bytes of "AUPR"."""
