"""Looking after a database: its version, bringing it up to date, giving back space, asking whether it is sound."""

from __future__ import annotations

from sqlalchemy import Connection, Engine, func, inspect, select

from autoprune.errors import NotFound
from autoprune.store import postgres, schema, sqlite, tables, urls
from autoprune.store.dialects import is_postgres, take_time
from autoprune.store.faults import told_to_people

__all__ = ["CURRENT_VERSION", "integrity", "migrate", "size_bytes", "vacuum", "version_of"]

CURRENT_VERSION = tables.SCHEMA_VERSION


def version_of(url: str) -> int:
    """The schema version of a store, also of one that is newer than this program, or too old to be read.

    Raises ConfigError, NotFound, and StoreError when it is no store.
    """
    with _Engines(url, "ro") as (reader, _), told_to_people(urls.shown(url)), reader.connect() as connection:
        schema.check_is_store(connection, urls.shown(url))
        return int(connection.execute(select(tables.schema_version.c.version)).scalar_one())


def migrate(url: str) -> tuple[int, int]:
    """Bring an existing store up to date: all or nothing, after a copy of a file beside it. Versions before and after.

    Raises ConfigError, NotFound, and StoreError when it is newer than this program or cannot be written.
    """
    before = version_of(url)
    with _Engines(url, "rwc") as engines:
        path = None if urls.is_server(url) else urls.sqlite_path(url)
        schema.bring_up_to_date(engines, urls.shown(url), path)
    return before, tables.SCHEMA_VERSION


def vacuum(url: str) -> tuple[int, int]:
    """Give the space of deleted rows back, and let the planner count anew. Bytes before and after.

    A file needs as much free space again meanwhile, and no writer. A server keeps the space for new rows, and goes on
    answering. Raises NotFound and StoreError.
    """
    before = size_bytes(url)
    with _Engines(url, "rwc") as (_, writer), told_to_people(urls.shown(url)), writer.connect() as connection:
        if is_postgres(connection):
            with connection.execution_options(isolation_level="AUTOCOMMIT"):
                take_time(connection)
                for name in tables.metadata.tables:
                    connection.exec_driver_sql(f'VACUUM (ANALYZE) "{name}"')
        else:
            raw = connection.connection.driver_connection  # outside any transaction
            assert raw is not None
            for statement in ("VACUUM", "ANALYZE", "PRAGMA wal_checkpoint(TRUNCATE)"):
                raw.execute(statement)
    return before, size_bytes(url)


def size_bytes(url: str) -> int:
    """What the store takes: a file with what was not yet merged into it, or all tables with their indices.

    Raises NotFound and StoreError.
    """
    with _Engines(url, "ro") as (reader, _), told_to_people(urls.shown(url)), reader.connect() as connection:
        if is_postgres(connection):
            found = [name for name in inspect(connection).get_table_names() if name in tables.metadata.tables]
            sizes = [connection.execute(select(func.pg_total_relation_size(name))).scalar_one() for name in found]
            return sum(map(int, sizes))
    path = urls.sqlite_path(url)
    beside = path.with_name(f"{path.name}-wal")
    return path.stat().st_size + (beside.stat().st_size if beside.exists() else 0)


def integrity(url: str) -> list[str]:
    """What the database itself says to be damaged: none, if it is sound. Reads every page of a file.

    Raises NotFound, and StoreError when it cannot be read at all.
    """
    with _Engines(url, "ro") as (reader, _), told_to_people(urls.shown(url)), reader.connect() as connection:
        return _damages(connection)


def _damages(connection: Connection) -> list[str]:
    if is_postgres(connection):
        for name in sorted(set(inspect(connection).get_table_names()) & set(tables.metadata.tables)):
            connection.execute(select(func.count()).select_from(tables.metadata.tables[name])).scalar_one()
        return []
    said = connection.exec_driver_sql("PRAGMA integrity_check").scalars().all()
    broken = connection.exec_driver_sql("PRAGMA foreign_key_check").all()
    return [str(line) for line in said if line != "ok"] + [
        f"a row of {row[0]} belongs to no {row[2]}" for row in broken
    ]


class _Engines:
    """Engines for one call."""

    def __init__(self, url: str, mode: str) -> None:
        if urls.is_server(url):
            self._engines = postgres.engines_of(urls.parsed(url))
            return
        path = urls.sqlite_path(url)
        if not path.exists():
            raise NotFound(f"no store at {str(path)!r}.", "Pass the URL of a store with --store.")
        self._engines = sqlite.engines_of(path, mode)

    def __enter__(self) -> tuple[Engine, Engine]:
        return self._engines

    def __exit__(self, *error: object) -> None:
        self._engines[0].dispose()
