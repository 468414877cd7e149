"""A store for a process that asks all the time: opened once, columns kept until the search changes."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Collection, Hashable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from autoprune.api.growth import Columns, grown
from autoprune.api.stores import is_server, open_at, store_file, store_url
from autoprune.api.turns import Turns
from autoprune.errors import NotFound, StoreError
from autoprune.store import paging
from autoprune.store.paging import Page
from autoprune.store.queue import LaunchQueue
from autoprune.types import Launch, SearchRecord, Trial, TrialState

if TYPE_CHECKING:
    from autoprune.store import MetricColumns, Store

__all__ = ["Page", "Reader"]

_SEARCHES = 8
"""Searches whose columns are kept: 8 bytes a trial and metric."""
_METRICS = 24
_DERIVED = 16
"""Rankings and fronts: up to 12 bytes a trial."""

_PATIENCE_SECONDS = 1.0
"""How long a server that does not answer is waited for: others wait for the thread that waits here."""
_LOOK_SECONDS = 1.0
_SERVER = object()

T = TypeVar("T")


class Reader:
    """Reads one store from several threads. Satisfies :class:`autoprune.api.queries.Source`.

    The file is looked at before each use: one that is gone raises StoreError, one that was replaced is opened anew.
    """

    def __init__(self, url: str | None = None) -> None:
        self.url = store_url(url)
        self.file: Path = store_file(self.url)
        self._is_file = not is_server(self.url)
        self._lock = threading.Lock()
        self._store: Store | None = None
        self._inode: tuple[int, int] | None = None
        self._asked = 0.0
        self._down: StoreError | None = None
        self._turns = Turns()
        self._columns: OrderedDict[str, Columns] = OrderedDict()
        self._derived: OrderedDict[Hashable, tuple[int, Any]] = OrderedDict()
        self._uniform: dict[str, tuple[float, int, np.ndarray]] = {}

    def close(self) -> None:
        with self._lock:
            if self._store is not None:
                self._store.close()
            self._store = None

    @property
    def store(self) -> Store:
        """The open store. Raises StoreError when it cannot be used now."""
        if not self._is_file:
            return self._server_now()
        inode = self._file_now()
        with self._lock:
            if self._store is None or inode != self._inode:
                self._inode = None
                self._store = self._opened()
                self._inode = inode
            return self._store

    def _server_now(self) -> Store:
        """One thread finds out whether it answers, once a second; those that come meanwhile are told what it found."""
        with self._turns.of(_SERVER):
            since = time.monotonic() - self._asked
            if self._down is not None and since < _LOOK_SECONDS:
                raise StoreError(self._down.message, self._down.hint)
            if self._store is None or since >= _LOOK_SECONDS:
                try:
                    self._store = self._store or self._opened()
                    paging.look(self._store)
                    self._down = None
                except StoreError as error:
                    self._down = error
                    raise
                finally:
                    self._asked = time.monotonic()
            return self._store

    def _file_now(self) -> tuple[int, int]:
        """Another pair when the file was replaced."""
        try:
            status = self.file.stat()
        except OSError as error:
            raise StoreError(
                f"store {str(self.file)!r} is gone: {error.strerror}.", "Put it back; nothing else has to be restarted."
            ) from None
        return status.st_dev, status.st_ino

    def _opened(self) -> Store:
        if self._store is not None:
            self._store.close()
        self._columns.clear()
        self._derived.clear()
        self._uniform.clear()
        try:
            return open_at(self.url, read_only=True, patience=_PATIENCE_SECONDS)
        except NotFound as error:
            raise StoreError(error.message, error.hint) from None

    # --- searches ------------------------------------------------------------------------------------------------

    def searches(self) -> list[SearchRecord]:
        """All of them, the youngest first."""
        return self.store.searches()

    def search(self, name: str) -> SearchRecord:
        """One of them. Raises NotFound."""
        return self.store.search(name)

    def activity(self) -> dict[str, tuple[float, bool]]:
        """Search -> its ``stamp``, and whether a driver that may live holds it now."""
        return paging.activity(self.store)

    def lease_ages(self) -> dict[str, float]:
        """Search that a driver holds -> seconds since that was heard from."""
        from autoprune.store import vitals

        return vitals.lease_ages(self.store)

    def driven(self, name: str) -> bool:
        """Whether a driver that may live holds the search now."""
        return self.activity().get(name, (0.0, False))[1]

    def stamp(self, name: str) -> float:
        """Another number whenever the search's trials, metrics or state are others. Raises NotFound."""
        return paging.stamp(self.store, name)

    def baseline(self, name: str) -> Mapping[str, float]:
        return self.store.baseline(name)

    def config(self, name: str) -> Mapping[str, Any]:
        return self.store.config(name)

    def launches(self, search: str | None = None, limit: int | None = None) -> list[Launch]:
        """What waits, runs and has run, the youngest first."""
        return LaunchQueue(self.store).all(search, limit)

    # --- trials --------------------------------------------------------------------------------------------------

    def trial(self, name: str, number: int) -> Trial:
        """One trial. Raises NotFound."""
        return self.store.trial(name, number)

    def trials(self, name: str, *, numbers: Collection[int]) -> list[Trial]:
        """Some trials, by number."""
        return self.store.trials(name, numbers=numbers)

    def page(self, name: str, page: Page) -> list[Trial]:
        """Trials by number."""
        return paging.trials_page(self.store, name, page)

    def numbers(self, name: str, page: Page) -> list[int]:
        """Numbers of trials, in the order of the page."""
        return paging.numbers_page(self.store, name, page)

    def states_of(self, name: str, numbers: Collection[int]) -> dict[int, TrialState]:
        return paging.states_of(self.store, name, numbers)

    def finished_times(self, name: str, numbers: Collection[int]) -> dict[int, float]:
        """When some trials finished, in seconds since the epoch."""
        return paging.finished_times(self.store, name, numbers)

    def added(self, name: str, numbers: Collection[int]) -> tuple[float, dict[int, tuple[Any, ...]]]:
        """When the search was created, and the metrics that were added to some of its trials since they finished."""
        return paging.added_metrics(self.store, name, numbers)

    def uniform(self, name: str) -> np.ndarray:
        """Numbers of the trials that were proposed with uniform widths, ascending int64. Notes never change, so only
        what came since the last call is read."""
        store = self.store
        began, top = paging.extent(store, name)
        kept = self._uniform.get(name)
        if kept is None or kept[0] != began:  # deleted, and begun again under its name
            kept = (began, -1, np.empty(0, np.int64))
        _, last, known = kept
        if top > last:
            known = np.append(known, paging.uniform_between(store, name, last, top))
            self._uniform[name] = (began, top, known)
        return known

    # --- columns -------------------------------------------------------------------------------------------------

    def measured(self, name: str) -> set[str]:
        """Names of the metrics that a COMPLETE trial has."""
        return self.store.measured(name)

    def metric_columns(self, name: str, names: Collection[str]) -> MetricColumns:
        """The metrics ``names`` of all COMPLETE trials; read again only when the search has changed."""
        return self.columns(name, names).found

    def columns(self, name: str, names: Collection[str]) -> Columns:
        """The same, with what is known of how they grew."""
        wanted = set(names)
        with self._turns.of(name):
            store = self.store
            stamp = self.stamp(name)
            kept = self._columns.get(name)
            if kept is not None and kept.stamp == stamp and wanted <= kept.found.values.keys():
                self._columns.move_to_end(name)
                return kept
            if kept is not None and len(wanted | kept.found.values.keys()) <= _METRICS:
                wanted |= kept.found.values.keys()
            earlier = None if kept is None else kept.found
            found = self._columns[name] = grown(store.metric_columns(name, wanted, earlier=earlier), stamp, kept)
            while len(self._columns) > _SEARCHES:
                self._columns.popitem(last=False)
        return found

    def derived(self, name: str, key: Hashable, columns: Columns, make: Callable[[T | None, int], T]) -> T:
        """What ``make`` gives for these columns of a search, kept for the next one who asks.

        ``make`` is handed what it gave the last time for this key, and how many rows at the beginning are as they
        were then (see :meth:`Columns.unchanged`); None and 0 where nothing of it can be used.
        """
        with self._turns.of((name, key)):
            with self._lock:
                kept = self._derived.get((name, key))
            if kept is not None and kept[0] == columns.version:
                found: T = kept[1]
                return found
            same = 0 if kept is None else columns.unchanged(kept[0])
            found = make(kept[1] if kept is not None and same else None, same)
            if kept is None or kept[0] < columns.version:
                with self._lock:
                    self._derived[name, key] = (columns.version, found)
                    self._derived.move_to_end((name, key))
                    while len(self._derived) > _DERIVED:
                        self._derived.popitem(last=False)
        return found
