"""Deleting a search with everything that belongs to it alone."""

from __future__ import annotations

from sqlalchemy import delete, inspect

from autoprune.errors import Conflict
from autoprune.store import leases, queries, queue
from autoprune.store.audits import audits
from autoprune.store.store import Store
from autoprune.store.tables import metrics, packed_metrics, packs, searches, trials
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
    with store._writing() as connection:
        row = queries.search_row(connection, name)
        if row.owner is not None and row.lease_until > store.now() and not leases.is_gone(row.owner):
            raise Conflict(f"search {name!r} is being run by {row.owner.rsplit(':', 1)[0]}.", "Stop it first.")
        for table in (packed_metrics, packs, metrics, trials):
            if inspect(connection).has_table(table.name):
                connection.execute(delete(table).where(table.c.search_id == row.id))
        if inspect(connection).has_table(audits.name):
            connection.execute(delete(audits).where(audits.c.search == name))
        queue.forget(connection, name)
        connection.execute(delete(searches).where(searches.c.id == row.id))
