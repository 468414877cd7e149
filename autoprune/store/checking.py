"""Whether a database is sound and its rows agree with each other: what a crash, a copy or a defect might have broken.

Reads alone, in one transaction a search, so that drivers may go on meanwhile. ``checking_trials`` looks at trials.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from sqlalchemy import Column, ColumnElement, Connection, MetaData, String, Table, delete, func, inspect, select
from sqlalchemy.engine import Row
from sqlalchemy.exc import DBAPIError

from autoprune.store import leases, queries, tables
from autoprune.store.checking_trials import Fault, decoded, trial_faults
from autoprune.store.store import Store
from autoprune.types import SearchState, TrialState

__all__ = ["Fault", "check_database", "check_search", "drop_orphans", "metric_rows"]

_AHEAD = 3600.0
"""Seconds; no driver asks for a longer lease, and no clock of two sound machines differs by so much."""


_ROWS = 10_000
"""Read at once."""


# --- the database ----------------------------------------------------------------------------------------------------


def check_database(store: Store) -> list[Fault]:
    """What is wrong below and between the searches. Raises StoreError when the database cannot be read at all."""
    with store._reading() as connection:
        return [
            *_integrity(connection),
            *_schema(connection),
            *_orphans(connection),
            *_clocks(connection, store.now()),
        ]


def _integrity(connection: Connection) -> Iterator[Fault]:
    """SQLite's own check; elsewhere every table is read once, which also checks the sums of pages that have them."""
    if connection.dialect.name == "sqlite":
        found = connection.exec_driver_sql("PRAGMA integrity_check(20)").scalars().all()
        if found != ["ok"]:
            yield Fault("integrity", f"the file is damaged: {'; '.join(map(str, found[:3]))}.", "ok")
        return
    for name in inspect(connection).get_table_names():
        try:
            connection.execute(select(func.count()).select_from(Table(name, MetaData()))).scalar_one()
        except DBAPIError as error:
            yield Fault("integrity", f"table {name} cannot be read: {str(error.orig).splitlines()[0]}.")
            return  # PostgreSQL answers nothing more in this transaction


def _schema(connection: Connection) -> Iterator[Fault]:
    version = connection.execute(select(tables.schema_version.c.version)).scalars().all()
    if len(version) != 1:
        yield Fault("schema", f"schema_version has {len(version)} rows.", "one")
    elif version[0] < tables.SCHEMA_VERSION:
        yield Fault("schema", f"the schema has version {version[0]}.", str(tables.SCHEMA_VERSION), serious=False)
        return
    present = set(inspect(connection).get_table_names())
    for table in tables.metadata.sorted_tables:
        if table.name not in present:
            yield Fault("schema", f"table {table.name} is missing.", "all tables of this version")
            continue
        columns = {column["name"] for column in inspect(connection).get_columns(table.name)}
        if missing := sorted({column.name for column in table.columns} - columns):
            yield Fault("schema", f"table {table.name} lacks {', '.join(missing)}.", "all columns of this version")


def _orphans(connection: Connection) -> Iterator[Fault]:
    for table, where in _orphaned(connection):
        count = connection.execute(select(func.count()).select_from(table).where(where)).scalar_one()
        if count:
            yield Fault("orphans", f"{count} rows of {table.name} belong to nothing that is there.", "none")


def _orphaned(connection: Connection) -> Iterator[tuple[Table, ColumnElement[bool]]]:
    """(table, condition) of rows that no query ever finds. A launch may come before its search, and a training outlive
    the search that asked for it first."""
    present = set(inspect(connection).get_table_names())
    by_id = [tables.packed_metrics, tables.packs, tables.metrics, tables.trials]
    for table in by_id:
        if table.name in present:
            yield table, table.c.search_id.not_in(select(tables.searches.c.id))
    same = (tables.trials.c.search_id == tables.metrics.c.search_id) & (
        tables.trials.c.number == tables.metrics.c.number
    )
    yield (
        tables.metrics,
        tables.metrics.c.search_id.in_(select(tables.searches.c.id))
        & ~select(tables.trials.c.number).where(same).exists(),
    )
    for named in ("audits", "preset_points"):
        if named in present:
            beside = Table(named, MetaData(), Column("search", String))
            yield beside, beside.c.search.not_in(select(tables.searches.c.name))


def drop_orphans(store: Store) -> int:
    """Delete rows that belong to nothing; how many."""
    with store._writing() as connection:
        return sum(connection.execute(delete(table).where(where)).rowcount for table, where in _orphaned(connection))


def _clocks(connection: Connection, now: float) -> Iterator[Fault]:
    for row in connection.execute(select(tables.searches)):
        ahead = row.lease_until - now
        if row.owner is not None and ahead > _AHEAD:
            text = f"its lease ends in {ahead / 3600:.1f} h"
            yield Fault("leases", f"{text}: the clock of {row.owner.split('/')[0]} was ahead.", "seconds", row.name)
        elif row.renewed_at - now > 60 or row.updated_at - now > 60:
            ahead = max(row.renewed_at, row.updated_at) - now
            text = f"it was written {ahead:.0f} s in the future: the clocks of two machines differ."
            yield Fault("leases", text, "at most 60 s", row.name, serious=False)


# --- one search ------------------------------------------------------------------------------------------------------


def check_search(store: Store, name: str, required: Sequence[str]) -> list[Fault]:
    """What is wrong with a search and its trials; ``required``: metrics that every COMPLETE trial must have.

    Raises NotFound.
    """
    with store._reading() as connection:
        row = queries.search_row(connection, name)
        driven = row.owner is not None and row.lease_until > store.now() and not leases.is_gone(row.owner)
        channels = decoded(row.channels)
        known = channels if isinstance(channels, dict) else {}
        return [*_search_content(row), *trial_faults(connection, row, required, known, driven=driven)]


def _search_content(row: Row[Any]) -> Iterator[Fault]:
    if row.state not in {state.value for state in SearchState}:
        yield Fault("states", f"the search is in state {row.state!r}.", "a known state", row.name)
    for column in ("config", "baseline", "channels", "controller_state"):
        text = getattr(row, column)
        if text is not None and not isinstance(decoded(text), dict):
            yield Fault("content", f"its {column} is no JSON object.", "a JSON object", row.name)


def metric_rows(store: Store, name: str, names: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """Numbers (N,) int64 and metrics (N, names) float64 of the COMPLETE trials, read from rows alone, never from packs.

    NaN where a trial lacks the metric.
    """
    with store._reading() as connection:
        this = (tables.trials.c.search_id == queries.search_row(connection, name).id,)
        complete = select(tables.trials.c.number).where(*this, tables.trials.c.state == TrialState.COMPLETE.value)
        numbers = np.fromiter(connection.execute(complete.order_by("number")).scalars(), np.int64)
        values = np.full((len(numbers), len(names)), np.nan)
        for column, metric in enumerate(names):
            query = select(tables.metrics.c.number, tables.metrics.c.value).where(
                tables.metrics.c.search_id == queries.search_row(connection, name).id,
                tables.metrics.c.name == metric,
                tables.metrics.c.value.is_not(None),
            )
            for rows in connection.execute(query).partitions(_ROWS):
                found = np.array(rows, np.float64)
                known = np.isin(found[:, 0], numbers)
                values[np.searchsorted(numbers, found[known, 0]), column] = found[known, 1]
    return numbers, values
