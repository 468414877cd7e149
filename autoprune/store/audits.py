"""What is known about how far a search's own ranking can be trusted: one audit a search and arm, the latest.

The table comes with the first of them, so stores from before there were any need no migration.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from sqlalchemy import Column, Connection, Float, MetaData, String, Table, Text, inspect, select
from sqlalchemy.dialects.sqlite import insert

__all__ = ["read", "write"]

audits = Table(
    "audits",
    MetaData(),
    Column("search", String(100), primary_key=True),
    Column("arm", String(100), primary_key=True),
    Column("content", Text, nullable=False),
    Column("finished_at", Float, nullable=False),
)


def write(connection: Connection, search: str, arm: str, content: Mapping[str, Any], now: float) -> None:
    """Keep it in place of an earlier one; ``content`` is JSON without NaN."""
    audits.create(connection, checkfirst=True)
    text = json.dumps(dict(content), allow_nan=False)
    row = {"search": search, "arm": arm, "content": text, "finished_at": now}
    connection.execute(insert(audits).values(row).on_conflict_do_update(index_elements=["search", "arm"], set_=row))


def read(connection: Connection, search: str) -> list[dict[str, Any]]:
    """Of every arm, the latest first."""
    if not inspect(connection).has_table(audits.name):
        return []
    query = select(audits.c.content).where(audits.c.search == search).order_by(audits.c.finished_at.desc())
    return [json.loads(text) for text in connection.scalars(query)]
