"""Searches as plain records, out of one store and into another, of whichever database.

A record is a mapping with one key, its kind, over plain JSON: ``search``, then its ``trial`` records by number; behind
all searches ``retraining``, ``audit`` and ``point``. Leases, ids, packs and the queue stay behind: they mean something
in one store only. Memory does not grow with the number of trials.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Collection, Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from sqlalchemy import Column, Connection, Float, MetaData, String, Table, Text, func, inspect, select
from sqlalchemy.engine import Row

from autoprune.errors import Conflict, StoreError
from autoprune.store import packs, queries
from autoprune.store.store import Store
from autoprune.store.tables import metrics, searches, trials

__all__ = ["Importer", "importing", "read_records"]

Record = Mapping[str, Mapping[str, Any]]

_PAGE = 2048
_JSON = ("config", "baseline", "channels", "controller_state", "widths", "note", "timings", "content", "metrics")
_SEARCH = (
    *("name", "digest", "evaluation_digest", "config", "baseline", "channels", "state", "controller_state"),
    *("created_at", "updated_at", "active_seconds"),
)
_TRIAL = (
    *("number", "digest", "widths", "state", "reason", "attempt", "note", "timings", "worker", "duplicate_of"),
    *("started_at", "finished_at"),
)


def _beside(name: str, *columns: str) -> Table:
    typed = [Column(each, Float if each.endswith("_at") else Text if each in _JSON else String) for each in columns]
    return Table(name, MetaData(), *typed)


_BESIDE = {
    "retraining": _beside("retrainings", "digest", "search", "content", "metrics", "worker", "finished_at"),
    "audit": _beside("audits", "search", "arm", "content", "finished_at"),
    "point": _beside("preset_points", "search", "digest", "label", "content", "widths", "metrics", "finished_at"),
}
_KEYS = {"retraining": ("digest",), "audit": ("search", "arm"), "point": ("search", "digest")}


# --- out -------------------------------------------------------------------------------------------------------------


def read_records(store: Store, names: Collection[str] | None = None) -> Generator[Record]:
    """First ``{"counts": {"searches": n, "trials": n}}``, then the records of some searches, or of all, from one state
    of the database. The order and the content depend on nothing but what was stored.

    Raises NotFound for an unknown name, StoreError for content that is damaged.
    """
    with store._reading() as connection:
        rows = _chosen(connection, names)
        ids = [row.id for row in rows]
        total = 0
        for start in range(0, len(ids), 500):
            query = select(func.count()).select_from(trials).where(trials.c.search_id.in_(ids[start : start + 500]))
            total += connection.execute(query).scalar_one()
        yield {"counts": {"searches": len(rows), "trials": total}}
        for row in rows:
            yield {"search": _plain(row, _SEARCH)}
            yield from _trials(connection, row.id)
        for kind in _BESIDE:
            yield from _records_beside(connection, kind, None if names is None else {row.name for row in rows})


def _chosen(connection: Connection, names: Collection[str] | None) -> list[Row[Any]]:
    if names is None:
        rows = list(connection.execute(select(searches)))
    else:
        rows = [queries.search_row(connection, name) for name in dict.fromkeys(names)]
    return sorted(rows, key=lambda row: (row.created_at, row.name))


def _trials(connection: Connection, search_id: int) -> Iterator[Record]:
    last, more = -(2**31), True
    while more:
        query = select(trials).where(trials.c.search_id == search_id, trials.c.number > last)
        page = connection.execute(query.order_by(trials.c.number).limit(_PAGE)).all()
        if not page:
            return
        measured = _metrics(connection, search_id, page[0].number, page[-1].number)
        for row in page:
            found = sorted(measured.get(row.number, ()), key=lambda metric: metric[0])
            values = {name: value for name, value, _ in found}
            yield {"trial": {**_plain(row, _TRIAL), "metrics": values, "added": [each[0] for each in found if each[2]]}}
        last, more = page[-1].number, len(page) == _PAGE


def _metrics(
    connection: Connection, search_id: int, first: int, last: int
) -> Mapping[int, list[tuple[str, float | None, bool]]]:
    found: dict[int, list[tuple[str, float | None, bool]]] = defaultdict(list)
    query = select(metrics.c.number, metrics.c.name, metrics.c.value, metrics.c.added).where(
        metrics.c.search_id == search_id, metrics.c.number >= first, metrics.c.number <= last
    )
    for number, name, value, added in connection.execute(query):
        found[number].append((name, value, bool(added)))
    return found


def _records_beside(connection: Connection, kind: str, names: Collection[str] | None) -> Iterator[Record]:
    table = _BESIDE[kind]
    if not inspect(connection).has_table(table.name):
        return
    rows = [row for row in connection.execute(select(table)) if names is None or row.search in names]
    for row in sorted(rows, key=lambda row: tuple(getattr(row, key) for key in _KEYS[kind])):
        yield {kind: _plain(row, table.columns.keys())}


def _plain(row: Row[Any], columns: Sequence[str]) -> dict[str, Any]:
    plain = {}
    for name in columns:
        value = getattr(row, name)
        try:
            plain[name] = json.loads(value) if name in _JSON and value is not None else value
        except (ValueError, RecursionError):
            raise StoreError(
                f"a record cannot be exported: its {name} is no JSON.", "'autoprune store check' says where."
            ) from None
    return plain


# --- in --------------------------------------------------------------------------------------------------------------


@contextmanager
def importing(store: Store) -> Iterator[Importer]:
    """Takes records in, in the order of ``read_records``; all of them appear at the end, or none when it fails."""
    with store._writing() as connection:
        importer = Importer(connection)
        yield importer
        importer.end_search()


class Importer:
    """Writes the records that it is given, which the caller has checked, into one transaction."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._search_id: int | None = None
        self._waiting: list[Mapping[str, Any]] = []
        self._present = set(inspect(connection).get_table_names())

    def has(self, name: str) -> bool:
        """Whether the store has a search of that name."""
        query = select(searches.c.id).where(searches.c.name == name)
        return self._connection.execute(query).scalar() is not None

    def add_search(self, content: Mapping[str, Any]) -> None:
        """Begin a search; the trials that follow are its own. Raises Conflict when its name is taken."""
        self.end_search()
        if self.has(content["name"]):
            raise Conflict(f"search {content['name']!r} is in this store already.")
        values = {**_stored(content, _SEARCH), "epoch": 0, "claimed_at": 0.0, "renewed_at": 0.0, "lease_until": 0.0}
        made = self._connection.execute(searches.insert().values(**values)).inserted_primary_key
        self._search_id = int(made[0]) if made else None

    def add_trial(self, content: Mapping[str, Any]) -> None:
        self._waiting.append(content)
        if len(self._waiting) == _PAGE:
            self._write_trials()

    def end_search(self) -> None:
        """Write what waits, and the packs."""
        self._write_trials()
        if self._search_id is not None:
            while packs.pack_next(self._connection, self._search_id):
                pass
        self._search_id = None

    def add_beside(self, kind: str, content: Mapping[str, Any]) -> bool:
        """A retraining, an audit or a point of a preset; False: the store has one with its key already."""
        self.end_search()
        table = _BESIDE[kind]
        same = [table.c[key] == content[key] for key in _KEYS[kind]]
        if self._connection.execute(select(table.c.search).where(*same)).first() is not None:
            return False
        self._connection.execute(table.insert(), _stored(content, table.columns.keys()))
        return True

    def _write_trials(self) -> None:
        if not self._waiting:
            return
        this = {"search_id": self._search_id}
        self._connection.execute(trials.insert(), [{**this, **_stored(each, _TRIAL)} for each in self._waiting])
        rows = [
            {**this, "number": each["number"], "name": name, "value": value, "added": name in each["added"]}
            for each in self._waiting
            for name, value in each["metrics"].items()
        ]
        if rows:
            self._connection.execute(metrics.insert(), rows)
        self._waiting.clear()


def _stored(content: Mapping[str, Any], columns: Sequence[str]) -> dict[str, Any]:
    return {
        name: json.dumps(content[name]) if name in _JSON and content[name] is not None else content[name]
        for name in columns
    }
