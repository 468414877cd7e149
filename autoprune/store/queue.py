"""Searches that wait for a worker: a queue in the store, with leases like those of searches.

A worker claims a launch, starts a driver for it and renews the claim. A claim that ran out, or whose worker no longer
lives, goes to the next worker, with the driver's process in it: that may live on, since it needs no worker.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Connection, or_, select, update
from sqlalchemy.engine import Row

from autoprune.errors import Conflict, NotFound
from autoprune.store.dialects import lock
from autoprune.store.leases import is_gone
from autoprune.store.rows import without_nul
from autoprune.store.store import Store
from autoprune.store.tables import launches
from autoprune.types import Launch, LaunchState

__all__ = ["Claim", "LaunchQueue"]

_OPEN = (LaunchState.QUEUED.value, LaunchState.RUNNING.value)


@dataclass(frozen=True)
class Claim:
    """The right of one worker to drive one launch."""

    launch: Launch
    """As it was claimed: RUNNING when a driver was started for it before."""
    owner: str
    epoch: int
    ttl_seconds: float


class LaunchQueue:
    """The launches of one store. Safe to use from several threads and processes."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def add(self, search: str, config: Mapping[str, Any]) -> Launch:
        """Put a search at the end. Raises Conflict while an earlier launch of that name has not ended."""
        row = {
            "search": search,
            "config": json.dumps(dict(config), allow_nan=False),
            "state": LaunchState.QUEUED.value,
            "created_at": self._store.now(),
        }

        def work(connection: Connection) -> Launch:
            lock(connection, launches.name)
            same = select(launches.c.id, launches.c.state).where(
                launches.c.search == search, launches.c.state.in_(_OPEN)
            )
            if (other := connection.execute(same).first()) is not None:
                raise Conflict(f"search {search!r} is {other.state} already, as launch {other.id}.", "Stop that first.")
            made = connection.execute(launches.insert().values(**row)).inserted_primary_key
            return _launch(_row(connection, int(made[0]) if made else -1))

        def again(connection: Connection) -> Launch | None:
            lock(connection, launches.name)
            same = [launches.c[name] == row[name] for name in ("search", "config", "created_at")]
            found = connection.execute(select(launches).where(*same)).first()
            return None if found is None else _launch(found)

        return self._store.write(work, again=again)

    def get(self, launch_id: int) -> Launch:
        """One launch. Raises NotFound."""
        if not self._store.has(launches.name):
            raise _unknown(launch_id)
        return self._store.read(lambda connection: _launch(_row(connection, launch_id)))

    def all(self, search: str | None = None, limit: int | None = None) -> list[Launch]:
        """The launches, or those of one search, the youngest first."""
        query = select(launches).order_by(launches.c.id.desc()).limit(limit)
        if search is not None:
            query = query.where(launches.c.search == search)
        if not self._store.has(launches.name):
            return []
        return self._store.read(lambda connection: [_launch(row) for row in connection.execute(query)])

    def position(self, launch_id: int) -> int | None:
        """1 for the next one of the queue; None when it does not wait."""
        if not self._store.has(launches.name):
            return None
        query = select(launches.c.id).where(launches.c.state == LaunchState.QUEUED.value).order_by(launches.c.id)
        waiting = self._store.read(lambda connection: list(connection.execute(query).scalars()))
        return waiting.index(launch_id) + 1 if launch_id in waiting else None

    def stop(self, launch_id: int) -> Launch:
        """Ask for its end: at once when it waits, else by its worker. Raises Conflict when it has ended."""
        now = self._store.now()

        def work(connection: Connection) -> Launch:
            lock(connection, launches.name)
            row = _row(connection, launch_id)
            if row.state not in _OPEN:
                raise Conflict(f"launch {launch_id} has ended already: it is {row.state}.")
            values: dict[str, Any] = {"stopping": True}
            if row.state == LaunchState.QUEUED.value:
                values = _ending(LaunchState.STOPPED, "stopped before it began.", now)
            connection.execute(update(launches).where(launches.c.id == launch_id).values(**values))
            return _launch(_row(connection, launch_id))

        def again(connection: Connection) -> Launch | None:
            lock(connection, launches.name)
            row = _row(connection, launch_id)
            return _launch(row) if row.state == LaunchState.STOPPED.value and row.finished_at == now else None

        return self._store.write(work, again=again)

    # --- workers -------------------------------------------------------------------------------------------------

    def claim(self, owner: str, ttl_seconds: float, *, waiting: bool = True) -> Claim | None:
        """The first launch whose worker is gone, else the first that waits (if ``waiting``); None: nothing to do."""
        now = self._store.now()
        if not self._store.has(launches.name):
            return None
        # Looking first keeps an idle worker from locking the file.
        if self._store.read(lambda connection: _next(connection, now, waiting)) is None:
            return None

        def work(connection: Connection) -> Claim | None:
            lock(connection, launches.name)
            row = _next(connection, now, waiting)
            if row is None:
                return None
            values = {"owner": owner, "epoch": row.epoch + 1, "lease_until": until}
            connection.execute(update(launches).where(launches.c.id == row.id).values(**values))
            return Claim(_launch(row), owner, row.epoch + 1, ttl_seconds)

        def again(connection: Connection) -> Claim | None:
            lock(connection, launches.name)
            same = select(launches).where(launches.c.owner == owner, launches.c.lease_until == until)
            row = connection.execute(same).first()
            return None if row is None else Claim(_launch(row), owner, row.epoch, ttl_seconds)

        until = now + ttl_seconds
        return self._store.write(work, again=again)

    def started(self, claim: Claim, driver: str) -> None:
        """A driver runs now. Raises Conflict when the claim was lost."""
        now = self._store.now()
        self._write(
            claim,
            state=LaunchState.RUNNING.value,
            driver=driver,
            started_at=now,
            attempts=launches.c.attempts + 1,
            lease_until=now + claim.ttl_seconds,
        )

    def renew(self, claim: Claim) -> bool:
        """Prolong the claim; whether its end was asked for. Raises Conflict when it was lost."""
        self._write(claim, lease_until=self._store.now() + claim.ttl_seconds)
        return self.get(claim.launch.id).stopping

    def finish(self, claim: Claim, state: LaunchState, message: str = "") -> None:
        """It has ended. Raises Conflict when the claim was lost."""
        self._write(claim, **_ending(state, message, self._store.now()))

    def put_back(self, claim: Claim, message: str = "") -> None:
        """Let it wait again, at its old place. Raises Conflict when the claim was lost."""
        self._write(
            claim,
            state=LaunchState.QUEUED.value,
            message=without_nul(message),
            owner=None,
            lease_until=0.0,
            driver="",
            stopping=False,
        )

    def _write(self, claim: Claim, **values: Any) -> None:
        this = (launches.c.id == claim.launch.id, launches.c.epoch == claim.epoch)
        plain = [launches.c[name] == value for name, value in values.items() if not isinstance(value, ColumnElement)]

        def work(connection: Connection) -> bool:
            lock(connection, launches.name)
            changed = update(launches).where(*this, launches.c.owner == claim.owner).values(**values)
            if connection.execute(changed).rowcount != 1:
                raise Conflict(f"launch {claim.launch.id} was taken over by another worker.")
            return True

        def again(connection: Connection) -> bool | None:
            lock(connection, launches.name)
            same = select(launches.c.id).where(*this, *plain)
            return True if connection.execute(same).first() is not None else None

        self._store.write(work, again=again)


def forget(connection: Connection, search: str) -> None:
    """Remove the launches of a search that is deleted."""
    connection.execute(launches.delete().where(launches.c.search == search))


def _row(connection: Connection, launch_id: int) -> Row[Any]:
    found = connection.execute(select(launches).where(launches.c.id == launch_id)).one_or_none()
    if found is None:
        raise _unknown(launch_id)
    return found


def _unknown(launch_id: int) -> NotFound:
    return NotFound(f"there is no launch {launch_id} in this store.")


def _next(connection: Connection, now: float, waiting: bool) -> Row[Any] | None:
    running = launches.c.state == LaunchState.RUNNING.value
    queued = launches.c.state == LaunchState.QUEUED.value
    query = select(launches).where(or_(running, queued) if waiting else running)
    for row in connection.execute(query.order_by(launches.c.state.desc(), launches.c.id)):
        if row.owner is None or row.lease_until <= now or is_gone(row.owner):
            return row
    return None


def _ending(state: LaunchState, message: str, now: float) -> dict[str, Any]:
    return {
        "state": state.value,
        "message": without_nul(message),
        "finished_at": now,
        "owner": None,
        "lease_until": 0.0,
        "stopping": False,
    }


def _launch(row: Row[Any]) -> Launch:
    host, pid, _ = row.owner.rsplit(":", 2) if row.owner else ("", "", "")
    return Launch(
        id=row.id,
        search=row.search,
        config=json.loads(row.config),
        state=LaunchState(row.state),
        message=row.message,
        created_at=row.created_at,
        started_at=row.started_at,
        finished_at=row.finished_at,
        worker=f"{host.split('/')[0]}:{pid}" if row.owner else "",
        stopping=row.stopping,
        attempts=row.attempts,
        driver=row.driver,
    )
