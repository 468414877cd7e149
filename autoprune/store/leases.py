"""Who drives a search: one owner at a time, proved by an epoch that every write names.

A lease runs out when its owner does not renew it; it is free at once when the owner was a process of this machine
that no longer lives, so that a killed search resumes without waiting.
"""

from __future__ import annotations

import os
import secrets
import socket
import time
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, bindparam, select, update
from sqlalchemy.engine import Row

from autoprune.errors import Conflict
from autoprune.store.tables import searches

__all__ = ["Lease", "claim", "fence", "give_up", "is_gone", "is_here", "new_owner", "release", "renew"]


@dataclass(frozen=True)
class Lease:
    """The right to write one search."""

    search: str
    search_id: int
    owner: str
    epoch: int
    """Rises with every claim: a write that names an older one is refused."""
    ttl_seconds: float


# --- owners ----------------------------------------------------------------------------------------------------------


def new_owner(pid: int | None = None) -> str:
    """``host:pid:random`` for this process, or another of this machine. The random part begins with the process's
    start time where that is known, so that a reused process id is not taken for the owner."""
    pid = os.getpid() if pid is None else pid
    return f"{_host()}:{pid}:{_start_time(pid) or '0'}.{secrets.token_hex(4)}"


_given_up: set[str] = set()
"""Owners of this process that ended but could not write it (disk full)."""


def give_up(owner: str) -> None:
    """This process's ``owner`` drives no more, although its lease could not be released in the store."""
    _given_up.add(owner)


def is_gone(owner: str) -> bool:
    """True when ``owner`` gave up, or was a process of this machine that surely no longer lives."""
    if owner in _given_up:
        return True
    host, pid, token = owner.rsplit(":", 2)
    if host != _host() or os.name != "posix":
        return False
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        pass
    started, expected = _start_time(int(pid)), token.split(".")[0]
    return started is not None and started != expected


def is_here(owner: str) -> bool:
    """Whether ``owner`` is or was a process of this machine."""
    return owner.rsplit(":", 2)[0] == _host()


def _host() -> str:
    """The host's name, and what tells its processes from those of others of that name: the process namespace, since
    containers may share the first, and the boot, since machines that are copies of one image may share both."""
    try:
        namespace = Path("/proc/self/ns/pid").readlink().name.strip("pid:[]")
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip().replace("-", "")[:12]
    except OSError:
        namespace, boot = "0", f"{uuid.getnode():x}"
    return f"{socket.gethostname()}/{namespace}.{boot}"


def _start_time(pid: int) -> str | None:
    """Clock ticks from boot to the process's start; ``dead`` for one that only waits to be reaped; None: unknown."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return "dead" if fields[0] in "ZX" else fields[19]


# --- leases ----------------------------------------------------------------------------------------------------------


def claim(connection: Connection, row: Row[Any], owner: str, ttl_seconds: float, now: float) -> Lease:
    """Take the lease of the search in ``row`` (all columns of ``searches``). Raises Conflict when it is held."""
    held = row.owner is not None and row.lease_until > now and not is_gone(row.owner)
    taken = not held and _take(connection, row, owner, ttl_seconds, now)
    if not taken:
        raise Conflict(_held(row, now), _next_step(row))
    _given_up.discard(owner)
    return Lease(row.name, row.id, owner, row.epoch + 1, ttl_seconds)


def _take(connection: Connection, row: Row[Any], owner: str, ttl_seconds: float, now: float) -> bool:
    result = connection.execute(
        update(searches)
        .where(searches.c.id == row.id, searches.c.epoch == row.epoch)
        .values(owner=owner, epoch=row.epoch + 1, claimed_at=now, renewed_at=now, lease_until=now + ttl_seconds)
    )
    return result.rowcount == 1


def _held(row: Row[Any], now: float) -> str:
    if row.owner is None:
        return f"search {row.name!r} was taken by another driver just now."
    host, pid, _ = row.owner.rsplit(":", 2)
    since = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(row.claimed_at))
    return (
        f"search {row.name!r} is being run by process {pid} on {host.split('/')[0]} since {since}"
        f" (heard from {max(0.0, now - row.renewed_at):.0f} s ago)."
    )


def _next_step(row: Row[Any]) -> str:
    until = time.strftime("%H:%M:%S", time.localtime(row.lease_until))
    return (
        "Wait for it, stop it with Ctrl-C, or run yours under another name."
        f" If it no longer lives, the search is free at {until}."
    )


_ours = (searches.c.id == bindparam("lease_id"), searches.c.epoch == bindparam("lease_epoch"))
_touch = update(searches).where(*_ours).values(updated_at=bindparam("now"))
_touch_with_state = _touch.values(controller_state=bindparam("controller"))


def fence(connection: Connection, lease: Lease, now: float, controller_state: str | None = None) -> None:
    """Begin a write: raises Conflict when another driver has taken the search. Also locks it for this transaction."""
    values = {"lease_id": lease.search_id, "lease_epoch": lease.epoch, "now": now}
    if controller_state is None:
        result = connection.execute(_touch, values)
    else:
        result = connection.execute(_touch_with_state, {**values, "controller": controller_state})
    if result.rowcount != 1:
        raise _lost(lease)


def _lost(lease: Lease) -> Conflict:
    return Conflict(
        f"search {lease.search!r} was taken over by another driver; this one may not write any more.",
        "It was silent for longer than its lease. Follow the other driver, or stop it and resume here.",
    )


def renew(connection: Connection, lease: Lease, now: float) -> None:
    """Prolong the lease, and count the time since the last renewal as time that the search was driven."""
    _prolong(connection, lease, now, owner=lease.owner, until=now + lease.ttl_seconds)


def release(connection: Connection, lease: Lease, now: float) -> None:
    """Give the lease back. Raises Conflict when it is no longer ours."""
    _prolong(connection, lease, now, owner=None, until=0.0)


def _prolong(connection: Connection, lease: Lease, now: float, owner: str | None, until: float) -> None:
    ours = (searches.c.id == lease.search_id, searches.c.epoch == lease.epoch, searches.c.owner == lease.owner)
    row = connection.execute(select(searches.c.renewed_at, searches.c.active_seconds).where(*ours)).one_or_none()
    if row is None:
        raise _lost(lease)
    # A sleeping laptop is not at work: a gap counts for one lease at most.
    active = row.active_seconds + min(max(0.0, now - row.renewed_at), lease.ttl_seconds)
    connection.execute(
        update(searches).where(*ours).values(owner=owner, lease_until=until, renewed_at=now, active_seconds=active)
    )
