"""A thread that keeps the lease of a search while its driver lives."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

from autoprune.errors import Conflict, StoreError
from autoprune.logs import emit
from autoprune.store import Lease, Store

__all__ = ["LeaseKeeper"]

_log = logging.getLogger(__name__)


class LeaseKeeper:
    """Renews three times a lease. ``on_lost`` is called, once and from the thread, when another driver took over."""

    def __init__(self, store: Store, lease: Lease, on_lost: Callable[[Conflict], None]) -> None:
        self._store = store
        self._lease = lease
        self._on_lost = on_lost
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"lease of {lease.search}", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End the thread; returns when it renews no more."""
        self._stopped.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stopped.wait(self._lease.ttl_seconds / 3):
            try:
                self._store.renew(self._lease)
            except Conflict as error:
                emit(_log, logging.ERROR, "lease.lost", "%s", error.message, search=self._lease.search)
                self._on_lost(error)
                return
            except StoreError as error:
                # A full or locked disk may recover before the lease runs out; the fence guards what follows if not.
                text, search = "the lease was not renewed: %s", self._lease.search
                emit(_log, logging.WARNING, "lease.renew_failed", text, error, search=search)
