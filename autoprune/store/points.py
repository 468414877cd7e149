"""Models that a paper's procedure made for a search's space, to be seen beside its front: never trials of it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, select

from autoprune.store.dialects import insert
from autoprune.store.store import Store
from autoprune.store.tables import preset_points

__all__ = ["PresetPoint", "read_points", "save_point"]


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
    store.write(lambda connection: connection.execute(insert(connection, preset_points).on_conflict_do_nothing(), row))


def read_points(store: Store, search: str) -> list[PresetPoint]:
    """Those of a search, in the order in which they were made."""
    query = select(preset_points).where(preset_points.c.search == search).order_by(preset_points.c.finished_at)

    def work(connection: Connection) -> list[PresetPoint]:
        return [
            PresetPoint(row.digest, row.label, *map(json.loads, (row.content, row.widths, row.metrics)))
            for row in connection.execute(query)
        ]

    return store.read(work) if store.has(preset_points.name) else []
