"""Trainings of pruned models to their end, kept by what decides their result: equal ones are never run twice."""

from __future__ import annotations

import json
import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, select

from autoprune.store.dialects import insert
from autoprune.store.tables import retrainings

__all__ = ["Retraining", "read", "write"]

_CHUNK = 500


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
    metrics = {name: None if math.isnan(value) else float(value) for name, value in item.metrics.items()}
    row = {
        "digest": item.digest,
        "search": search,
        "content": json.dumps(dict(item.content), sort_keys=True),
        "metrics": json.dumps(metrics),
        "worker": item.worker,
        "finished_at": now,
    }
    connection.execute(insert(connection, retrainings).on_conflict_do_nothing(), row)


def read(connection: Connection, digests: Collection[str]) -> dict[str, Retraining]:
    """Those of ``digests`` that ended."""
    found, ordered = {}, sorted(digests)
    for start in range(0, len(ordered), _CHUNK):
        query = select(retrainings).where(retrainings.c.digest.in_(ordered[start : start + _CHUNK]))
        for row in connection.execute(query):
            values = json.loads(row.metrics).items()
            metrics = {name: math.nan if value is None else value for name, value in values}
            found[row.digest] = Retraining(row.digest, json.loads(row.content), metrics, row.worker)
    return found
