"""Numbers for people who watch a store: who drives what, and what went wrong how often."""

from __future__ import annotations

from sqlalchemy import Connection, func, select

from autoprune.store import leases, queries
from autoprune.store.store import Store
from autoprune.store.tables import searches, trials
from autoprune.types import TrialState

__all__ = ["accidents", "lease_ages"]

_REASONS = 1000


def lease_ages(store: Store) -> dict[str, float]:
    """Search that a driver holds -> seconds since that driver was heard from."""
    now = store.now()
    columns = (searches.c.name, searches.c.owner, searches.c.renewed_at)
    query = select(*columns).where(searches.c.owner.is_not(None), searches.c.lease_until > now)
    rows = store.read(lambda connection: connection.execute(query).all())
    return {row.name: max(0.0, now - row.renewed_at) for row in rows if not leases.is_gone(row.owner)}


def accidents(store: Store, name: str) -> tuple[int, dict[str, int]]:
    """How often a trial of the search was begun again, and reason -> failed trials. Reads every row of the search."""

    def work(connection: Connection) -> tuple[int, dict[str, int]]:
        search_id = queries.search_row(connection, name).id
        again = select(func.sum(trials.c.attempt - 1)).where(trials.c.search_id == search_id, trials.c.attempt > 1)
        failed = (trials.c.search_id == search_id, trials.c.state == TrialState.FAILED.value)
        reasons = select(trials.c.reason, func.count()).where(*failed).group_by(trials.c.reason).limit(_REASONS)
        found = {reason: int(count) for reason, count in connection.execute(reasons)}
        return int(connection.execute(again).scalar() or 0), found

    return store.read(work)
