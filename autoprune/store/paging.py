"""Reading a search as it grows: pages of its trials, what changed since the last look, who drives it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from sqlalchemy import Connection, func, select
from sqlalchemy.engine import Row

from autoprune.store import leases, queries
from autoprune.store.store import Store
from autoprune.store.tables import metrics, searches, trials
from autoprune.types import Trial, TrialState

__all__ = [
    "Page",
    "activity",
    "added_metrics",
    "extent",
    "finished_times",
    "look",
    "numbers_page",
    "stamp",
    "states_of",
    "trials_page",
    "uniform_between",
]

T = TypeVar("T")

_CHUNK = 500


def _of_search(store: Store, name: str, work: Callable[[Connection, Row[Any]], T]) -> T:
    """What ``work`` makes of the search's id and times, in one transaction. Raises NotFound."""
    query = select(searches.c.id, searches.c.created_at, searches.c.updated_at).where(searches.c.name == name)

    def found(connection: Connection) -> T:
        rows: Sequence[Any] = connection.execute(query).all()  # the other columns may be long
        return work(connection, rows[0] if rows else queries.search_row(connection, name))

    return store.read(found)


@dataclass(frozen=True)
class Page:
    """Trials by number, at most ``limit`` of them, between ``after`` and ``before`` (both left out)."""

    limit: int
    after: int | None = None
    before: int | None = None
    descending: bool = False
    states: Collection[TrialState] | None = None


def trials_page(store: Store, name: str, page: Page) -> list[Trial]:
    """The trials of a page."""
    return _of_search(store, name, lambda connection, row: queries.trials_of(connection, row.id, **vars(page)))


def numbers_page(store: Store, name: str, page: Page) -> list[int]:
    """Their numbers alone."""

    def work(connection: Connection, row: Row[Any]) -> list[int]:
        query = select(trials.c.number).where(trials.c.search_id == row.id).limit(page.limit)
        if page.after is not None:
            query = query.where(trials.c.number > page.after)
        if page.before is not None:
            query = query.where(trials.c.number < page.before)
        if page.states is not None:
            query = query.where(trials.c.state.in_([state.value for state in page.states]))
        query = query.order_by(trials.c.number.desc() if page.descending else trials.c.number)
        return list(connection.execute(query).scalars())

    return _of_search(store, name, work)


def look(store: Store) -> None:
    """Raises StoreError when the database does not answer."""
    store.read(lambda connection: connection.execute(select(1)).scalar())


def stamp(store: Store, name: str) -> float:
    """When the search was last written: another value whenever its trials, metrics or state are others."""
    return _of_search(store, name, lambda _, row: float(row.updated_at))


def activity(store: Store) -> dict[str, tuple[float, bool]]:
    """Search -> its ``stamp``, and whether a driver that may live holds it now."""
    query = select(searches.c.name, searches.c.updated_at, searches.c.owner, searches.c.lease_until)
    rows = store.read(lambda connection: connection.execute(query).all())
    now = store.now()
    return {
        name: (float(at), owner is not None and until > now and not leases.is_gone(owner))
        for name, at, owner, until in rows
    }


def states_of(store: Store, name: str, numbers: Collection[int]) -> dict[int, TrialState]:
    """The states of some trials."""
    return {number: TrialState(state) for number, state in _column(store, name, numbers, "state")}


def finished_times(store: Store, name: str, numbers: Collection[int]) -> dict[int, float]:
    """When some trials finished, in seconds since the epoch; those that have not are left out."""
    return {number: float(at) for number, at in _column(store, name, numbers, "finished_at") if at is not None}


def extent(store: Store, name: str) -> tuple[float, int]:
    """When the search was created, and the highest number of its trials; -1 without any."""

    def work(connection: Connection, row: Row[Any]) -> tuple[float, int]:
        found = connection.execute(select(func.max(trials.c.number)).where(trials.c.search_id == row.id)).scalar()
        return float(row.created_at), -1 if found is None else int(found)

    return _of_search(store, name, work)


def added_metrics(store: Store, name: str, numbers: Collection[int]) -> tuple[float, dict[int, tuple[Any, ...]]]:
    """When the search was created, and by trial the name and value of each metric that was added to it.

    Nothing else of a finished trial ever changes.
    """
    columns = (metrics.c.number, metrics.c.name, metrics.c.value)

    def work(connection: Connection, row: Row[Any]) -> tuple[float, dict[int, tuple[Any, ...]]]:
        found: dict[int, tuple[Any, ...]] = {}
        query = select(*columns).where(metrics.c.search_id == row.id, metrics.c.added).order_by(*columns[:2])
        for chunk in _chunks(numbers):
            for number, metric, value in connection.execute(query.where(metrics.c.number.in_(chunk))):
                found[number] = (*found.get(number, ()), metric, value)
        return float(row.created_at), found

    return _of_search(store, name, work)


def uniform_between(store: Store, name: str, after: int, last: int) -> np.ndarray:
    """Numbers behind ``after`` up to ``last`` of the trials proposed with uniform widths, ascending int64."""

    def work(connection: Connection, row: Row[Any]) -> np.ndarray:
        query = select(trials.c.number).where(
            trials.c.search_id == row.id,
            trials.c.number > after,
            trials.c.number <= last,
            trials.c.note.contains('"origin": "uniform"', autoescape=True),
        )
        return np.array(connection.execute(query.order_by(trials.c.number)).scalars().all(), np.int64)

    return _of_search(store, name, work)


def _column(store: Store, name: str, numbers: Collection[int], column: str) -> list[tuple[int, Any]]:
    def work(connection: Connection, row: Row[Any]) -> list[tuple[int, Any]]:
        found: list[tuple[int, Any]] = []
        query = select(trials.c.number, trials.c[column]).where(trials.c.search_id == row.id)
        for chunk in _chunks(numbers):
            found += [(number, value) for number, value in connection.execute(query.where(trials.c.number.in_(chunk)))]
        return found

    return _of_search(store, name, work)


def _chunks(numbers: Collection[int]) -> Iterator[list[int]]:
    ordered = sorted(numbers)
    for start in range(0, len(ordered), _CHUNK):
        yield ordered[start : start + _CHUNK]
