"""What is known about how far a search's own ranking can be trusted: one audit a search and arm, the latest."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from sqlalchemy import Connection, select

from autoprune.store.dialects import insert
from autoprune.store.tables import audits

__all__ = ["read", "write"]


def write(connection: Connection, search: str, arm: str, content: Mapping[str, Any], now: float) -> None:
    """Keep it in place of an earlier one; ``content`` is JSON without NaN."""
    text = json.dumps(dict(content), allow_nan=False)
    row = {"search": search, "arm": arm, "content": text, "finished_at": now}
    made = insert(connection, audits).values(row)
    connection.execute(made.on_conflict_do_update(index_elements=["search", "arm"], set_=row))


def read(connection: Connection, search: str) -> list[dict[str, Any]]:
    """Of every arm, the latest first."""
    query = select(audits.c.content).where(audits.c.search == search).order_by(audits.c.finished_at.desc())
    return [json.loads(text) for text in connection.scalars(query)]
