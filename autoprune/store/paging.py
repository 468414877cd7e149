"""Reading a search as it grows: pages of its trials, what changed since the last look, who drives it."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import numpy as np
from sqlalchemy import func, select

from autoprune.store import leases, queries
from autoprune.store.store import Store
from autoprune.store.tables import searches, trials
from autoprune.types import Trial, TrialState

__all__ = [
    "activity",
    "extent",
    "finished_times",
    "numbers_beyond",
    "stamp",
    "states_of",
    "trials_page",
    "uniform_between",
]

_CHUNK = 500


def trials_page(
    store: Store,
    name: str,
    *,
    limit: int,
    after: int | None = None,
    before: int | None = None,
    descending: bool = False,
    states: Collection[TrialState] | None = None,
) -> list[Trial]:
    """At most ``limit`` trials by number, between ``after`` and ``before`` (both left out)."""
    with store._reading() as connection:
        search_id = queries.search_row(connection, name).id
        return queries.trials_of(
            connection, search_id, states=states, limit=limit, after=after, before=before, descending=descending
        )


def stamp(store: Store, name: str) -> float:
    """When the search was last written: another value whenever its trials, metrics or state are others."""
    with store._reading() as connection:
        return float(queries.search_row(connection, name).updated_at)


def activity(store: Store) -> dict[str, tuple[float, bool]]:
    """Search -> its ``stamp``, and whether a driver that may live holds it now."""
    columns = (searches.c.name, searches.c.updated_at, searches.c.owner, searches.c.lease_until)
    with store._reading() as connection:
        rows = connection.execute(select(*columns)).all()
    now = store.now()
    return {
        name: (float(at), owner is not None and until > now and not leases.is_gone(owner))
        for name, at, owner, until in rows
    }


def numbers_beyond(store: Store, name: str, last: int, limit: int) -> list[int]:
    """Numbers of the trials behind ``last``, ascending, at most ``limit``."""
    with store._reading() as connection:
        search_id = queries.search_row(connection, name).id
        query = select(trials.c.number).where(trials.c.search_id == search_id, trials.c.number > last)
        return list(connection.execute(query.order_by(trials.c.number).limit(limit)).scalars())


def states_of(store: Store, name: str, numbers: Collection[int]) -> dict[int, TrialState]:
    """The states of some trials."""
    return {number: TrialState(state) for number, state in _column(store, name, numbers, "state")}


def finished_times(store: Store, name: str, numbers: Collection[int]) -> dict[int, float]:
    """When some trials finished, in seconds since the epoch; those that have not are left out."""
    return {number: float(at) for number, at in _column(store, name, numbers, "finished_at") if at is not None}


def extent(store: Store, name: str) -> tuple[float, int]:
    """When the search was created, and the highest number of its trials; -1 without any."""
    with store._reading() as connection:
        row = queries.search_row(connection, name)
        found = connection.execute(select(func.max(trials.c.number)).where(trials.c.search_id == row.id)).scalar()
    return float(row.created_at), -1 if found is None else int(found)


def uniform_between(store: Store, name: str, after: int, last: int) -> np.ndarray:
    """Numbers behind ``after`` up to ``last`` of the trials proposed with uniform widths, ascending int64."""
    with store._reading() as connection:
        search_id = queries.search_row(connection, name).id
        query = select(trials.c.number).where(
            trials.c.search_id == search_id,
            trials.c.number > after,
            trials.c.number <= last,
            trials.c.note.contains('"origin": "uniform"', autoescape=True),
        )
        return np.array(connection.execute(query.order_by(trials.c.number)).scalars().all(), np.int64)


def _column(store: Store, name: str, numbers: Collection[int], column: str) -> list[tuple[int, Any]]:
    ordered = sorted(numbers)
    found: list[tuple[int, Any]] = []
    with store._reading() as connection:
        search_id = queries.search_row(connection, name).id
        for start in range(0, len(ordered), _CHUNK):
            query = select(trials.c.number, trials.c[column]).where(
                trials.c.search_id == search_id, trials.c.number.in_(ordered[start : start + _CHUNK])
            )
            found += [(row[0], row[1]) for row in connection.execute(query)]
    return found
