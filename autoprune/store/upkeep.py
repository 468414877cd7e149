"""Giving back the space of what was deleted, and letting the planner see what is there."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence

from sqlalchemy import Connection, func, select
from sqlalchemy.exc import OperationalError

from autoprune.errors import Conflict
from autoprune.store import leases
from autoprune.store.dialects import is_postgres
from autoprune.store.faults import told_to_people
from autoprune.store.store import Store
from autoprune.store.tables import metadata, schema_version, searches

__all__ = ["held", "quick_check", "schema_of", "size_of", "vacuum"]


def schema_of(store: Store) -> int:
    """The schema's version."""
    return store.read(lambda connection: int(connection.execute(select(schema_version.c.version)).scalar_one()))


def held(store: Store) -> list[str]:
    """Names of the searches that a driver which may live holds."""
    query = select(searches.c.name, searches.c.owner).where(
        searches.c.owner.is_not(None), searches.c.lease_until > store.now()
    )
    rows = store.read(lambda connection: connection.execute(query.order_by(searches.c.name)).all())
    return [row.name for row in rows if not leases.is_gone(row.owner)]


def size_of(store: Store) -> int:
    """Bytes of the whole database; of SQLite without what waits in its journal."""
    with store._reading() as connection:
        if is_postgres(connection):
            return int(connection.execute(select(func.pg_database_size(func.current_database()))).scalar_one())
        pages = connection.exec_driver_sql("PRAGMA page_count").scalar_one()
        return int(pages) * int(connection.exec_driver_sql("PRAGMA page_size").scalar_one())


def quick_check(store: Store) -> str:
    """What SQLite finds wrong with its file, in a part of the time of a whole check; empty: nothing."""
    with store._reading() as connection:
        found = connection.exec_driver_sql("PRAGMA quick_check(1)").scalar_one()
    return "" if found == "ok" else str(found)


def vacuum(store: Store) -> None:
    """Write the database anew without gaps, and count its rows for the planner.

    A file of SQLite needs as much free space as it has bytes, and is locked meanwhile: raises Conflict while a driver
    holds a search. PostgreSQL's server keeps working.
    """
    with told_to_people(store.where), store._writer.connect() as connection:
        if is_postgres(connection):
            statements = ["SET statement_timeout = 0"]
            statements += [f'VACUUM (ANALYZE) "{table.name}"' for table in metadata.sorted_tables]
        else:
            if names := held(store):
                raise Conflict(
                    f"search {names[0]!r} is being run; a vacuum would lock the file.", "Wait for it, or stop it first."
                )
            shorten = "PRAGMA wal_checkpoint(TRUNCATE)"
            statements = [shorten, "VACUUM", "ANALYZE", shorten]
        _run(connection, statements)


def _run(connection: Connection, statements: Sequence[str]) -> None:
    """Outside of any transaction, by the driver itself. The connection is not used again."""
    raw = connection.connection.dbapi_connection
    assert raw is not None
    try:
        if is_postgres(connection):
            raw.rollback()
            raw.autocommit = True
        with contextlib.closing(raw.cursor()) as cursor:
            for statement in statements:
                cursor.execute(statement)
    except connection.dialect.loaded_dbapi.Error as error:
        raise OperationalError(None, None, error) from error
    finally:
        connection.invalidate()
