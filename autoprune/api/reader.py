"""A store for a process that asks all the time: opened once, columns kept until the search changes."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Collection, Hashable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from autoprune.api.stores import open_at, store_file, store_url
from autoprune.errors import NotFound, StoreError
from autoprune.types import SearchRecord, Trial, TrialState

if TYPE_CHECKING:
    from autoprune.store import MetricColumns, Store

__all__ = ["Reader"]

_SEARCHES = 8
"""Searches whose columns are kept: 8 bytes a trial and metric."""
_METRICS = 24
_RANKINGS = 16
"""Of 8 bytes a trial."""


@dataclass(frozen=True, eq=False)
class _Kept:
    stamp: float
    found: MetricColumns


class Reader:
    """Reads one store from several threads. Satisfies :class:`autoprune.api.queries.Source`.

    The file is looked at before each use: one that is gone raises StoreError, one that was replaced is opened anew.
    """

    def __init__(self, url: str | None = None) -> None:
        self.url = store_url(url)
        self.file: Path = store_file(self.url)
        self._lock = threading.Lock()
        self._store: Store | None = None
        self._inode: tuple[int, int] | None = None
        self._columns: OrderedDict[str, _Kept] = OrderedDict()
        self._rankings: OrderedDict[Hashable, tuple[float, np.ndarray]] = OrderedDict()
        self._reading: dict[str, threading.Lock] = {}
        self._uniform: dict[str, tuple[float, int, np.ndarray]] = {}

    def close(self) -> None:
        with self._lock:
            if self._store is not None:
                self._store.close()
            self._store = None

    @property
    def store(self) -> Store:
        """The open store. Raises StoreError when it cannot be used now."""
        try:
            status = self.file.stat()
        except OSError as error:
            raise StoreError(
                f"store {str(self.file)!r} is gone: {error.strerror}.", "Put it back; nothing else has to be restarted."
            ) from None
        inode = (status.st_dev, status.st_ino)
        with self._lock:
            if self._store is None or inode != self._inode:
                self._open()
                self._inode = inode
            assert self._store is not None
            return self._store

    def _open(self) -> None:
        if self._store is not None:
            self._store.close()
        self._store = None
        self._columns.clear()
        self._rankings.clear()
        self._uniform.clear()
        try:
            self._store = open_at(self.url, read_only=True)
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
        from autoprune.store import paging

        return paging.activity(self.store)

    def driven(self, name: str) -> bool:
        """Whether a driver that may live holds the search now."""
        return self.activity().get(name, (0.0, False))[1]

    def stamp(self, name: str) -> float:
        """Another number whenever the search's trials, metrics or state are others. Raises NotFound."""
        from autoprune.store import paging

        return paging.stamp(self.store, name)

    def baseline(self, name: str) -> Mapping[str, float]:
        return self.store.baseline(name)

    def config(self, name: str) -> Mapping[str, Any]:
        return self.store.config(name)

    # --- trials --------------------------------------------------------------------------------------------------

    def trial(self, name: str, number: int) -> Trial:
        """One trial. Raises NotFound."""
        return self.store.trial(name, number)

    def trials(self, name: str, *, numbers: Collection[int]) -> list[Trial]:
        """Some trials, by number."""
        return self.store.trials(name, numbers=numbers)

    def page(
        self,
        name: str,
        *,
        limit: int,
        after: int | None = None,
        before: int | None = None,
        descending: bool = False,
        states: Collection[TrialState] | None = None,
    ) -> list[Trial]:
        """At most ``limit`` trials by number, between ``after`` and ``before`` (both left out)."""
        from autoprune.store import paging

        return paging.trials_page(
            self.store, name, limit=limit, after=after, before=before, descending=descending, states=states
        )

    def numbers_beyond(self, name: str, last: int, limit: int) -> list[int]:
        """Numbers of the trials behind ``last``, ascending."""
        from autoprune.store import paging

        return paging.numbers_beyond(self.store, name, last, limit)

    def states_of(self, name: str, numbers: Collection[int]) -> dict[int, TrialState]:
        from autoprune.store import paging

        return paging.states_of(self.store, name, numbers)

    def finished_times(self, name: str, numbers: Collection[int]) -> dict[int, float]:
        """When some trials finished, in seconds since the epoch."""
        from autoprune.store import paging

        return paging.finished_times(self.store, name, numbers)

    def uniform(self, name: str) -> np.ndarray:
        """Numbers of the trials that were proposed with uniform widths, ascending int64. Notes never change, so only
        what came since the last call is read."""
        from autoprune.store import paging

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
        wanted = set(names)
        self.stamp(name)  # an unknown name gets no lock
        with self._one_at_a_time(name):
            store = self.store
            stamp = self.stamp(name)
            kept = self._columns.get(name)
            if kept is not None and kept.stamp == stamp and wanted <= kept.found.values.keys():
                self._columns.move_to_end(name)
                return kept.found
            if kept is not None and len(wanted | kept.found.values.keys()) <= _METRICS:
                wanted |= kept.found.values.keys()
            found = store.metric_columns(name, wanted)
            self._columns[name] = _Kept(stamp, found)
            while len(self._columns) > _SEARCHES:
                self._columns.popitem(last=False)
        return found

    def ranking(self, name: str, key: Hashable, make: Callable[[], np.ndarray]) -> np.ndarray:
        """What ``make`` gives, until the search changes: the next page of a list needs the same order."""
        stamp = self.stamp(name)
        with self._lock:
            kept = self._rankings.get((name, key))
        if kept is None or kept[0] != stamp:
            kept = (stamp, make())
            with self._lock:
                self._rankings[name, key] = kept
                self._rankings.move_to_end((name, key))
                while len(self._rankings) > _RANKINGS:
                    self._rankings.popitem(last=False)
        return kept[1]

    @contextmanager
    def _one_at_a_time(self, name: str) -> Iterator[None]:
        """Readers of a search that has just changed wait for the first of them instead of all reading it."""
        with self._lock:
            lock = self._reading.setdefault(name, threading.Lock())
        with lock:
            yield
