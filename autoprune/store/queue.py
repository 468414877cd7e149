"""Searches that wait for a worker: a queue in the store, with leases like those of searches.

A worker claims a launch, starts a driver for it and renews the claim. A claim that ran out, or whose worker no longer
lives, goes to the next worker, with the driver's process in it: that may live on, since it needs no worker.
The table comes with the first launch, so stores from before there were any need no migration.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import (
    Boolean,
    Column,
    Connection,
    Float,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    inspect,
    or_,
    select,
    update,
)
from sqlalchemy.engine import Row

from autoprune.errors import Conflict, NotFound
from autoprune.store.leases import is_gone
from autoprune.store.store import Store
from autoprune.types import Launch, LaunchState

__all__ = ["Claim", "LaunchQueue"]

launches = Table(
    "launches",
    MetaData(),
    Column("id", Integer, primary_key=True),
    Column("search", String(100), nullable=False, index=True),
    Column("config", Text, nullable=False),
    Column("state", String(20), nullable=False),
    Column("message", Text, nullable=False, default=""),
    Column("created_at", Float, nullable=False),
    Column("started_at", Float),
    Column("finished_at", Float),
    Column("stopping", Boolean, nullable=False, default=False),
    Column("attempts", Integer, nullable=False, default=0),
    Column("driver", String(200), nullable=False, default=""),
    # The claim; ``epoch`` rises with every one, and every write of a worker names its own.
    Column("owner", String(200)),
    Column("epoch", Integer, nullable=False, default=0),
    Column("lease_until", Float, nullable=False, default=0.0),
    Index("launches_by_state", "state", "id"),
    sqlite_autoincrement=True,  # the number of a launch that was deleted never comes back: logs are named by it
)

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
        with self._store._writing() as connection:
            launches.create(connection, checkfirst=True)
            for index in launches.indexes:
                index.create(connection, checkfirst=True)
            same = select(launches.c.id, launches.c.state).where(
                launches.c.search == search, launches.c.state.in_(_OPEN)
            )
            if (other := connection.execute(same).first()) is not None:
                raise Conflict(f"search {search!r} is {other.state} already, as launch {other.id}.", "Stop that first.")
            made = connection.execute(launches.insert().values(**row)).inserted_primary_key
            return _launch(_row(connection, int(made[0]) if made else -1))

    def get(self, launch_id: int) -> Launch:
        """One launch. Raises NotFound."""
        with self._store._reading() as connection:
            return _launch(_row(connection, launch_id))

    def all(self, search: str | None = None, limit: int | None = None) -> list[Launch]:
        """The launches, or those of one search, the youngest first."""
        query = select(launches).order_by(launches.c.id.desc()).limit(limit)
        if search is not None:
            query = query.where(launches.c.search == search)
        with self._store._reading() as connection:
            return [_launch(row) for row in connection.execute(query)] if _exists(connection) else []

    def position(self, launch_id: int) -> int | None:
        """1 for the next one of the queue; None when it does not wait."""
        with self._store._reading() as connection:
            if not _exists(connection):
                return None
            query = select(launches.c.id).where(launches.c.state == LaunchState.QUEUED.value).order_by(launches.c.id)
            waiting = list(connection.execute(query).scalars())
        return waiting.index(launch_id) + 1 if launch_id in waiting else None

    def stop(self, launch_id: int) -> Launch:
        """Ask for its end: at once when it waits, else by its worker. Raises Conflict when it has ended."""
        with self._store._writing() as connection:
            row = _row(connection, launch_id)
            if row.state not in _OPEN:
                raise Conflict(f"launch {launch_id} has ended already: it is {row.state}.")
            values: dict[str, Any] = {"stopping": True}
            if row.state == LaunchState.QUEUED.value:
                values = _ending(LaunchState.STOPPED, "stopped before it began.", self._store.now())
            connection.execute(update(launches).where(launches.c.id == launch_id).values(**values))
            return _launch(_row(connection, launch_id))

    # --- workers -------------------------------------------------------------------------------------------------

    def claim(self, owner: str, ttl_seconds: float, *, waiting: bool = True) -> Claim | None:
        """The first launch whose worker is gone, else the first that waits (if ``waiting``); None: nothing to do."""
        now = self._store.now()
        with self._store._reading() as connection:
            # Looking first keeps an idle worker from locking the file.
            if not _exists(connection) or _next(connection, now, waiting) is None:
                return None
        with self._store._writing() as connection:
            row = _next(connection, now, waiting)
            if row is None:
                return None
            values = {"owner": owner, "epoch": row.epoch + 1, "lease_until": now + ttl_seconds}
            connection.execute(update(launches).where(launches.c.id == row.id).values(**values))
        return Claim(_launch(row), owner, row.epoch + 1, ttl_seconds)

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
            message=message,
            owner=None,
            lease_until=0.0,
            driver="",
            stopping=False,
        )

    def _write(self, claim: Claim, **values: Any) -> None:
        ours = (launches.c.id == claim.launch.id, launches.c.epoch == claim.epoch, launches.c.owner == claim.owner)
        with self._store._writing() as connection:
            if connection.execute(update(launches).where(*ours).values(**values)).rowcount != 1:
                raise Conflict(f"launch {claim.launch.id} was taken over by another worker.")


def forget(connection: Connection, search: str) -> None:
    """Remove the launches of a search that is deleted."""
    if _exists(connection):
        connection.execute(launches.delete().where(launches.c.search == search))


def _exists(connection: Connection) -> bool:
    return inspect(connection).has_table(launches.name)


def _row(connection: Connection, launch_id: int) -> Row[Any]:
    found = None
    if _exists(connection):
        found = connection.execute(select(launches).where(launches.c.id == launch_id)).one_or_none()
    if found is None:
        raise NotFound(f"there is no launch {launch_id} in this store.")
    return found


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
        "message": message,
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
