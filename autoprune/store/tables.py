"""The tables, and the version that they carry.

Times are seconds since the epoch, UTC. A metric that is not a number is NULL, because SQLite has no NaN.
Trials and metrics are rows; ``packs`` and ``packed_metrics`` repeat finished ones as arrays for queries over all of
them, and can be made anew from the rows at any time.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from sqlalchemy import (
    Boolean,
    Column,
    Connection,
    Float,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
)

__all__ = [
    "MIGRATIONS",
    "OLDEST_READABLE",
    "SCHEMA_VERSION",
    "metadata",
    "metrics",
    "packed_metrics",
    "packs",
    "schema_version",
    "searches",
    "trials",
]

SCHEMA_VERSION = 2

OLDEST_READABLE = 1
"""Older stores must be opened for writing once before they can be read."""


def _add_packs(connection: Connection) -> None:
    metadata.create_all(connection, tables=[packs, packed_metrics])


MIGRATIONS: Mapping[int, Callable[[Connection], None]] = {1: _add_packs}
"""Version -> the step that brings a store of that version to the next one."""

metadata = MetaData()

schema_version = Table("schema_version", metadata, Column("version", Integer, nullable=False))

searches = Table(
    "searches",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("name", String(100), nullable=False, unique=True),
    Column("digest", String(64), nullable=False),
    Column("evaluation_digest", String(64), nullable=False, index=True),
    Column("config", Text, nullable=False),
    Column("baseline", Text, nullable=False),
    Column("channels", Text, nullable=False),
    Column("state", String(20), nullable=False),
    Column("controller_state", Text),
    Column("created_at", Float, nullable=False),
    Column("updated_at", Float, nullable=False),
    # The lease. ``epoch`` is the fencing token: it rises with every claim, and every write of a driver names its own.
    Column("owner", String(200)),
    Column("epoch", Integer, nullable=False, default=0),
    Column("claimed_at", Float, nullable=False, default=0.0),
    Column("renewed_at", Float, nullable=False, default=0.0),
    Column("lease_until", Float, nullable=False, default=0.0),
    Column("active_seconds", Float, nullable=False, default=0.0),
)

trials = Table(
    "trials",
    metadata,
    Column("search_id", ForeignKey("searches.id"), primary_key=True, autoincrement=False),
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("digest", String(16), nullable=False, index=True),
    Column("widths", Text, nullable=False),
    Column("state", String(20), nullable=False),
    Column("reason", Text, nullable=False),
    Column("attempt", Integer, nullable=False),
    Column("note", Text, nullable=False),
    Column("timings", Text, nullable=False),
    Column("worker", String(200), nullable=False),
    Column("duplicate_of", String(120), nullable=False),
    Column("started_at", Float, nullable=False),
    Column("finished_at", Float),
    Index("trials_by_state", "search_id", "state"),
    sqlite_with_rowid=False,
)

metrics = Table(
    "metrics",
    metadata,
    Column("search_id", Integer, primary_key=True, autoincrement=False),
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("name", String(100), primary_key=True),
    Column("value", Float),
    # Added after the search measured the trial (test split, device): never copied to an equal candidate.
    Column("added", Boolean, nullable=False),
    # Covers "which trials have macs <= x": no look-up in the table itself.
    Index("metrics_by_value", "search_id", "name", "value", "number"),
    sqlite_with_rowid=False,
)

packs = Table(
    "packs",
    metadata,
    Column("search_id", ForeignKey("searches.id"), primary_key=True, autoincrement=False),
    # Number of the first trial; the pack holds as many as ``states`` has bytes, without gaps.
    Column("start", Integer, primary_key=True, autoincrement=False),
    # One byte a trial, see ``packs.CODES``.
    Column("states", LargeBinary, nullable=False),
)

packed_metrics = Table(
    "packed_metrics",
    metadata,
    Column("search_id", ForeignKey("searches.id"), primary_key=True, autoincrement=False),
    Column("name", String(100), primary_key=True),
    Column("start", Integer, primary_key=True, autoincrement=False),
    # float64, little endian, one a trial: NaN where the trial is not COMPLETE or the metric is absent or not a number.
    # A pack has the metric when one of its COMPLETE trials has.
    Column("content", LargeBinary, nullable=False),
)
