"""Trainings of pruned models to their end, kept by what decides their result: equal ones are never run twice.

The table comes with the first of them, so stores from before there were any need no migration.
"""

from __future__ import annotations

import json
import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Column, Connection, Float, MetaData, String, Table, Text, inspect, select
from sqlalchemy.dialects.sqlite import insert

__all__ = ["Retraining", "read", "retrainings", "write"]

_CHUNK = 500

retrainings = Table(
    "retrainings",
    MetaData(),
    Column("digest", String(24), primary_key=True),
    # The search that asked for it first; others with equal content share it.
    Column("search", String(100), nullable=False),
    Column("content", Text, nullable=False),
    Column("metrics", Text, nullable=False),
    Column("worker", String(200), nullable=False),
    Column("finished_at", Float, nullable=False),
)


@dataclass(frozen=True)
class Retraining:
    """One training that ended."""

    digest: str
    """Of ``content``."""
    content: Mapping[str, Any]
    """All that decides the result: widths, starting weights, recipe, data."""
    metrics: Mapping[str, float]
    """NaN where training diverged."""
    worker: str = ""


def write(connection: Connection, search: str, item: Retraining, now: float) -> None:
    """Keep the result; one that is there already stays (two processes may have run the same)."""
    retrainings.create(connection, checkfirst=True)
    metrics = {name: None if math.isnan(value) else float(value) for name, value in item.metrics.items()}
    row = {
        "digest": item.digest,
        "search": search,
        "content": json.dumps(dict(item.content), sort_keys=True),
        "metrics": json.dumps(metrics),
        "worker": item.worker,
        "finished_at": now,
    }
    connection.execute(insert(retrainings).on_conflict_do_nothing(), row)


def read(connection: Connection, digests: Collection[str]) -> dict[str, Retraining]:
    """Those of ``digests`` that ended."""
    if not inspect(connection).has_table(retrainings.name):
        return {}
    found, ordered = {}, sorted(digests)
    for start in range(0, len(ordered), _CHUNK):
        query = select(retrainings).where(retrainings.c.digest.in_(ordered[start : start + _CHUNK]))
        for row in connection.execute(query):
            values = json.loads(row.metrics).items()
            metrics = {name: math.nan if value is None else value for name, value in values}
            found[row.digest] = Retraining(row.digest, json.loads(row.content), metrics, row.worker)
    return found
