"""Searches and their leases: the part of the store that says what is run, and by whom."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from sqlalchemy import Connection, update
from sqlalchemy.exc import IntegrityError

from autoprune.errors import Conflict, StoreError
from autoprune.store import leases, packs, queries
from autoprune.store.database import Database
from autoprune.store.leases import Lease
from autoprune.store.tables import searches
from autoprune.types import SearchRecord, SearchState

__all__ = ["Searches"]

_RENEWING_SECONDS = 10.0
"""A lease is renewed three times before it ends: better to ask again then than to wait here."""


class Searches(Database):
    """Their records, states and leases."""

    def create_search(
        self,
        name: str,
        *,
        config: Mapping[str, Any],
        digest: str,
        evaluation_digest: str,
        baseline: Mapping[str, float],
        channels: Mapping[str, int] | None = None,
    ) -> SearchRecord:
        """Record a new search, or find the one of that name and digest. Conflict when the digest is another."""
        now = self.now()
        values = {
            "name": name,
            "digest": digest,
            "evaluation_digest": evaluation_digest,
            "config": json.dumps(config),
            "baseline": json.dumps(dict(baseline)),
            "channels": json.dumps(dict(channels or {})),
            "state": SearchState.INTERRUPTED.value,
            "created_at": now,
            "updated_at": now,
        }
        try:
            self.write(lambda connection: connection.execute(searches.insert(), values))
        except StoreError as error:
            if not isinstance(error.__cause__, IntegrityError):
                raise
        found = self.search(name)
        if found.digest != digest:
            raise Conflict(
                f"search {name!r} exists with another configuration (digest {found.digest}, yours is {digest}).",
                "Give yours another name, or use the configuration that the search began with.",
            )
        return found

    def search(self, name: str) -> SearchRecord:
        packed = self.has("packs")
        return self.read(lambda connection: queries.search_record(connection, name, has_packs=packed))

    def searches(self) -> list[SearchRecord]:
        """All searches, the youngest first."""
        packed = self.has("packs")
        return self.read(lambda connection: queries.search_records(connection, has_packs=packed))

    def set_search_state(self, name: str, state: SearchState, *, lease: Lease | None = None) -> None:
        """Write the state; with a lease, only while that holds."""
        self._set(name, lease, state=state.value)

    def set_config(self, lease: Lease, config: Mapping[str, Any]) -> None:
        """Replace the stored configuration by one of the same digest (other limits or executor)."""
        self._set(lease.search, lease, config=json.dumps(config))

    def _set(self, name: str, lease: Lease | None, **values: object) -> None:
        now = self.now()

        def work(connection: Connection) -> None:
            search_id = queries.search_row(connection, name).id
            if lease is not None:
                leases.fence(connection, lease, now)
            connection.execute(update(searches).where(searches.c.id == search_id).values(updated_at=now, **values))

        self.write(work)

    def add_baseline_metrics(self, name: str, values: Mapping[str, float]) -> None:
        """Add metrics of the unpruned model (test split, device); equal names are replaced."""
        now = self.now()

        def work(connection: Connection) -> None:
            row = queries.search_row(connection, name, lock=True)
            changed = {"baseline": json.dumps({**json.loads(row.baseline), **values}), "updated_at": now}
            connection.execute(update(searches).where(searches.c.id == row.id).values(**changed))

        self.write(work)

    def baseline(self, name: str) -> dict[str, float]:
        """Metrics of the unpruned model, without counting trials as ``search`` does."""
        return dict(json.loads(self._of_search(name, "baseline")))

    def config(self, name: str) -> dict[str, Any]:
        """The resolved configuration, without counting trials as ``search`` does."""
        return dict(json.loads(self._of_search(name, "config")))

    def controller_state(self, name: str) -> dict[str, Any] | None:
        """What the controller was when the last trial was written; None before the first."""
        text = self._of_search(name, "controller_state")
        return None if text is None else json.loads(text)

    def active_seconds(self, name: str) -> float:
        """How long drivers have worked on the search, up to the last renewal of a lease."""
        return float(self._of_search(name, "active_seconds"))

    def _of_search(self, name: str, column: str) -> Any:
        return self.read(lambda connection: getattr(queries.search_row(connection, name), column))

    # --- leases --------------------------------------------------------------------------------------------------

    def claim(self, name: str, *, owner: str, ttl_seconds: float) -> Lease:
        """Become the driver of a search; ``owner`` from ``new_owner()``. Conflict when another driver lives.

        Packs that are due are written first of all, which takes 50 ms per 4,096 trials of a store of version 1.
        """
        now = self.now()

        def work(connection: Connection) -> Lease:
            row = queries.search_row(connection, name, lock=True)
            return leases.claim(connection, row, owner, ttl_seconds, now)

        def again(connection: Connection) -> Lease | None:
            row = queries.search_row(connection, name, lock=True)
            ours = row.owner == owner and row.claimed_at == now
            return Lease(row.name, row.id, owner, row.epoch, ttl_seconds) if ours else None

        lease = self.write(work, again=again)
        try:
            self._pack(lease)
        except BaseException:
            leases.give_up(owner)
            raise
        return lease

    def _pack(self, lease: Lease) -> None:
        """Write all packs that are due, a transaction each."""

        def work(connection: Connection) -> bool:
            leases.renew(connection, lease, now)
            return packs.pack_next(connection, lease.search_id)

        more = True
        while more:
            now = self.now()
            more = self.write(work)

    def renew(self, lease: Lease) -> None:
        """Prolong the lease; gives up soon when the store does not answer, since the next renewal is near."""
        self.write(
            lambda connection: leases.renew(connection, lease, self.now()),
            patience=min(_RENEWING_SECONDS, lease.ttl_seconds / 3, self._patience),
        )

    def release(self, lease: Lease) -> None:
        """Give the lease back. When that cannot be written, it still is free for this process."""
        leases.give_up(lease.owner)
        now = self.now()

        def again(connection: Connection) -> bool | None:
            row = queries.search_row(connection, lease.search, lock=True)
            return True if row.owner is None and row.epoch == lease.epoch else None

        def work(connection: Connection) -> bool:
            leases.release(connection, lease, now)
            return True

        self.write(work, again=again)
