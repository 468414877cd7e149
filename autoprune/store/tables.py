"""The tables, and the version that they carry.

Times are seconds since the epoch, UTC. A metric that is not a number is NULL, because SQLite has no NaN.
Trials and metrics are rows; ``packs`` and ``packed_metrics`` repeat finished ones as arrays for queries over all of
them, and can be made anew from the rows at any time. What is beside searches (launches, trainings, audits, points of
presets) names them by name, and has been in every store since version 3.
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
    "audits",
    "launches",
    "metadata",
    "metrics",
    "packed_metrics",
    "packs",
    "preset_points",
    "retraining_claims",
    "retrainings",
    "schema_version",
    "searches",
    "trials",
]

SCHEMA_VERSION = 3

OLDEST_READABLE = 1
"""Older stores must be opened for writing once before they can be read."""


def _add_packs(connection: Connection) -> None:
    metadata.create_all(connection, tables=[packs, packed_metrics])


def _add_what_is_beside(connection: Connection) -> None:
    """Stores of version 2 got these tables with the first row of each: some have them."""
    beside = [launches, retrainings, retraining_claims, audits, preset_points]
    metadata.create_all(connection, tables=beside, checkfirst=True)
    for index in launches.indexes:
        index.create(connection, checkfirst=True)


MIGRATIONS: Mapping[int, Callable[[Connection], None]] = {1: _add_packs, 2: _add_what_is_beside}
"""Version -> the step that brings a store of that version to the next one."""

metadata = MetaData()

schema_version = Table("schema_version", metadata, Column("version", Integer, nullable=False))

searches = Table(
    "searches",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("name", String, nullable=False, unique=True),
    Column("digest", String, nullable=False),
    Column("evaluation_digest", String, nullable=False, index=True),
    Column("config", Text, nullable=False),
    Column("baseline", Text, nullable=False),
    Column("channels", Text, nullable=False),
    Column("state", String, nullable=False),
    Column("controller_state", Text),
    Column("created_at", Float, nullable=False),
    Column("updated_at", Float, nullable=False),
    # The lease. ``epoch`` is the fencing token: it rises with every claim, and every write of a driver names its own.
    Column("owner", String),
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
    Column("digest", String, nullable=False, index=True),
    Column("widths", Text, nullable=False),
    Column("state", String, nullable=False),
    Column("reason", Text, nullable=False),
    Column("attempt", Integer, nullable=False),
    Column("note", Text, nullable=False),
    Column("timings", Text, nullable=False),
    Column("worker", String, nullable=False),
    Column("duplicate_of", String, nullable=False),
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
    Column("name", String, primary_key=True),
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
    Column("name", String, primary_key=True),
    Column("start", Integer, primary_key=True, autoincrement=False),
    # float64, little endian, one a trial: NaN where the trial is not COMPLETE or the metric is absent or not a number.
    # A pack has the metric when one of its COMPLETE trials has.
    Column("content", LargeBinary, nullable=False),
)

launches = Table(
    "launches",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("search", String, nullable=False, index=True),
    Column("config", Text, nullable=False),
    Column("state", String, nullable=False),
    Column("message", Text, nullable=False, default=""),
    Column("created_at", Float, nullable=False),
    Column("started_at", Float),
    Column("finished_at", Float),
    Column("stopping", Boolean, nullable=False, default=False),
    Column("attempts", Integer, nullable=False, default=0),
    Column("driver", String, nullable=False, default=""),
    # The claim; ``epoch`` rises with every one, and every write of a worker names its own.
    Column("owner", String),
    Column("epoch", Integer, nullable=False, default=0),
    Column("lease_until", Float, nullable=False, default=0.0),
    Index("launches_by_state", "state", "id"),
    sqlite_autoincrement=True,  # the number of a launch that was deleted never comes back: logs are named by it
)

retrainings = Table(
    "retrainings",
    metadata,
    Column("digest", String, primary_key=True),
    # The search that asked for it first; others with equal content share it.
    Column("search", String, nullable=False),
    Column("content", Text, nullable=False),
    Column("metrics", Text, nullable=False),
    Column("worker", String, nullable=False),
    Column("finished_at", Float, nullable=False),
)

retraining_claims = Table(
    "retraining_claims",
    metadata,
    Column("digest", String, primary_key=True),
    Column("owner", String, nullable=False),
    Column("until", Float, nullable=False),
)

audits = Table(
    "audits",
    metadata,
    Column("search", String, primary_key=True),
    Column("arm", String, primary_key=True),
    Column("content", Text, nullable=False),
    Column("finished_at", Float, nullable=False),
)

preset_points = Table(
    "preset_points",
    metadata,
    Column("search", String, primary_key=True),
    Column("digest", String, primary_key=True),
    Column("label", String, nullable=False),
    Column("content", Text, nullable=False),
    Column("widths", Text, nullable=False),
    Column("metrics", Text, nullable=False),
    Column("finished_at", Float, nullable=False),
)
