"""Models that a paper's procedure made for a search's space, to be seen beside its front: never trials of it.

The table comes with the first of them, so stores from before there were any need no migration.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Column, Float, MetaData, String, Table, Text, inspect, select
from sqlalchemy.dialects.sqlite import insert

from autoprune.store.store import Store

__all__ = ["PresetPoint", "read_points", "save_point"]

_points = Table(
    "preset_points",
    MetaData(),
    Column("search", String(100), primary_key=True),
    Column("digest", String(24), primary_key=True),
    Column("label", String(100), nullable=False),
    Column("content", Text, nullable=False),
    Column("widths", Text, nullable=False),
    Column("metrics", Text, nullable=False),
    Column("finished_at", Float, nullable=False),
)


@dataclass(frozen=True)
class PresetPoint:
    """One model that a procedure made."""

    digest: str
    """Of ``content``."""
    label: str
    content: Mapping[str, Any]
    """All that decides the result: the preset, its lengths, the recipe, the budget, the base model."""
    widths: Mapping[str, int]
    metrics: Mapping[str, float]


def save_point(store: Store, search: str, point: PresetPoint) -> None:
    """Keep it beside the search; one with its digest stays as it is. Raises NotFound for an unknown search."""
    store.search(search)
    row = {
        "search": search,
        "digest": point.digest,
        "label": point.label,
        "content": json.dumps(dict(point.content), sort_keys=True),
        "widths": json.dumps(dict(point.widths)),
        "metrics": json.dumps(dict(point.metrics), allow_nan=False),
        "finished_at": store.now(),
    }
    with store._writing() as connection:
        _points.create(connection, checkfirst=True)
        connection.execute(insert(_points).on_conflict_do_nothing(), row)


def read_points(store: Store, search: str) -> list[PresetPoint]:
    """Those of a search, in the order in which they were made."""
    with store._reading() as connection:
        if not inspect(connection).has_table(_points.name):
            return []
        query = select(_points).where(_points.c.search == search).order_by(_points.c.finished_at)
        return [
            PresetPoint(row.digest, row.label, *map(json.loads, (row.content, row.widths, row.metrics)))
            for row in connection.execute(query)
        ]
