"""Deleting a search with everything that belongs to it alone."""

from __future__ import annotations

from sqlalchemy import Connection, delete

from autoprune.errors import Conflict, NotFound
from autoprune.store import leases, queries, queue
from autoprune.store.store import Store
from autoprune.store.tables import audits, metrics, packed_metrics, packs, preset_points, searches, trials
from autoprune.types import LaunchState

__all__ = ["remove_search"]


def remove_search(store: Store, name: str) -> None:
    """Delete a search: trials, metrics, launches. Trainings by ``compare`` stay, since other searches share them.

    Raises NotFound, and Conflict while a driver holds it or a launch of it has not ended.
    """
    open_launches = [each for each in queue.LaunchQueue(store).all(name) if not each.state.ended]
    if open_launches:
        state = open_launches[0].state
        doing = "waits to be run" if state is LaunchState.QUEUED else "is being run"
        raise Conflict(f"search {name!r} {doing} as launch {open_launches[0].id}.", "Stop it first.")
    now = store.now()

    def work(connection: Connection) -> bool:
        row = queries.search_row(connection, name, lock=True)
        if row.owner is not None and row.lease_until > now and not leases.is_gone(row.owner):
            raise Conflict(f"search {name!r} is being run by {row.owner.rsplit(':', 1)[0]}.", "Stop it first.")
        for table in (packed_metrics, packs, metrics, trials):
            connection.execute(delete(table).where(table.c.search_id == row.id))
        for beside in (audits, preset_points):
            connection.execute(delete(beside).where(beside.c.search == name))
        queue.forget(connection, name)
        connection.execute(delete(searches).where(searches.c.id == row.id))
        return True

    store.write(work, again=lambda connection: _is_removed(connection, name))


def _is_removed(connection: Connection, name: str) -> bool | None:
    try:
        queries.search_row(connection, name, lock=True)
    except NotFound:
        return True
    return None
