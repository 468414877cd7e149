"""Who is at which training just now: two commands that want the same one share it instead of doing it twice.

A claim runs out when its owner does not renew it; it is free at once when the owner was a process of this machine
that no longer lives. It guards work, not truth: a result that two processes wrote all the same is kept once.
"""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import Connection, delete, select, update

from autoprune.store.dialects import insert, lock
from autoprune.store.leases import is_gone
from autoprune.store.tables import retraining_claims as claims
from autoprune.store.tables import retrainings

__all__ = ["claim_next", "drop", "release", "renew"]

_CHUNK = 500


def claim_next(
    connection: Connection, digests: Sequence[str], owner: str, ttl_seconds: float, now: float
) -> tuple[str | None, set[str], str]:
    """Claim the first of ``digests`` that has neither ended nor is somebody else's.

    Returns it (None: all are taken), those that ended, and the owner of the first that is taken (or an empty string).
    """
    lock(connection, claims.name)
    ended = _ended(connection, digests)
    taken: str = ""
    held = _held(connection, digests)
    for digest in digests:
        if digest in ended:
            continue
        other, until = held.get(digest, ("", 0.0))
        if other not in ("", owner) and until > now and not is_gone(other):
            taken = taken or other
            continue
        values = {"digest": digest, "owner": owner, "until": now + ttl_seconds}
        made = insert(connection, claims).values(values)
        connection.execute(made.on_conflict_do_update(index_elements=["digest"], set_=values))
        return digest, ended, taken
    return None, ended, taken


def renew(connection: Connection, owner: str, ttl_seconds: float, now: float) -> None:
    """Prolong all claims of ``owner``."""
    connection.execute(update(claims).where(claims.c.owner == owner).values(until=now + ttl_seconds))


def release(connection: Connection, owner: str, digest: str | None = None) -> None:
    """Give one claim of ``owner`` back, or all."""
    one = [] if digest is None else [claims.c.digest == digest]
    connection.execute(delete(claims).where(claims.c.owner == owner, *one))


def drop(connection: Connection, digest: str) -> None:
    """The training ended: nobody's any more."""
    connection.execute(delete(claims).where(claims.c.digest == digest))


def _ended(connection: Connection, digests: Sequence[str]) -> set[str]:
    found: set[str] = set()
    for start in range(0, len(digests), _CHUNK):
        some = digests[start : start + _CHUNK]
        found.update(connection.scalars(select(retrainings.c.digest).where(retrainings.c.digest.in_(some))))
    return found


def _held(connection: Connection, digests: Sequence[str]) -> dict[str, tuple[str, float]]:
    found: dict[str, tuple[str, float]] = {}
    for start in range(0, len(digests), _CHUNK):
        some = digests[start : start + _CHUNK]
        rows = connection.execute(select(claims).where(claims.c.digest.in_(some)))
        found.update({row.digest: (row.owner, row.until) for row in rows})
    return found
