"""The store: what a driver writes under its lease, and what anyone may read."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from sqlalchemy import Connection

from autoprune.store import audits, leases, packs, queries, retraining_claims, retrainings
from autoprune.store.leases import Lease
from autoprune.store.retrainings import Retraining
from autoprune.store.searches import Searches
from autoprune.store.trials import Trials

__all__ = ["Store"]


class Store(Searches, Trials):
    """Searches and their trials in one database. Safe to use from several threads.

    Every method raises StoreError when the database cannot be read or written, and NotFound for unknown searches.
    Methods that take a lease raise Conflict when another driver has taken the search since.
    """

    # --- trainings beside a search -------------------------------------------------------------------------------

    def save_retraining(self, name: str, item: Retraining) -> None:
        """Keep the result of a training of one of a search's candidates; one with its digest stays as it is."""
        now = self.now()

        def work(connection: Connection) -> None:
            retrainings.write(connection, name, item, now)
            retraining_claims.drop(connection, item.digest)

        self.write(work)

    def retrainings(self, digests: Collection[str]) -> dict[str, Retraining]:
        """Those of ``digests`` that ended, whichever search they belong to."""
        if not self.has("retrainings"):
            return {}
        return self.read(lambda connection: retrainings.read(connection, digests))

    def claim_retraining(
        self, digests: Sequence[str], owner: str, ttl_seconds: float
    ) -> tuple[str | None, set[str], str]:
        """See :func:`autoprune.store.retraining_claims.claim_next`; ``owner`` from ``new_owner()``."""
        now = self.now()
        return self.write(lambda on: retraining_claims.claim_next(on, digests, owner, ttl_seconds, now))

    def renew_retrainings(self, owner: str, ttl_seconds: float) -> None:
        now = self.now()
        self.write(lambda connection: retraining_claims.renew(connection, owner, ttl_seconds, now))

    def release_retrainings(self, owner: str, digest: str | None = None) -> None:
        """Give one claim back, or all of the owner's, whose process then counts as gone."""
        if digest is None:
            leases.give_up(owner)
        self.write(lambda connection: retraining_claims.release(connection, owner, digest))

    def save_audit(self, name: str, arm: str, content: Mapping[str, Any]) -> None:
        """Keep what an audit of a search's ranking found, in place of an earlier one by the same arm."""
        now = self.now()
        self.write(lambda connection: audits.write(connection, name, arm, content, now))

    def audits(self, name: str) -> list[dict[str, Any]]:
        """The audits of a search, one an arm, the latest first."""
        return self.read(lambda connection: audits.read(connection, name)) if self.has("audits") else []

    # --- packs ---------------------------------------------------------------------------------------------------

    def pack_starts(self, name: str) -> list[int]:
        """First numbers of the packs of a search, ascending."""
        if not self.has("packs"):
            return []
        return self.read(lambda connection: packs.starts(connection, queries.search_row(connection, name).id))

    def check_packs(self, name: str) -> list[int]:
        """First numbers of the packs that do not say what the rows say: none, unless the file was tampered with."""
        if not self.has("packs"):
            return []
        return self.read(lambda connection: packs.disagreeing(connection, queries.search_row(connection, name).id))

    def rebuild_packs(self, lease: Lease) -> None:
        """Make the packs of a search anew from its rows."""
        now = self.now()

        def work(connection: Connection) -> None:
            leases.fence(connection, lease, now)
            packs.drop(connection, lease.search_id)

        self.write(work)
        self._pack(lease)
