"""All trials of a search in the order in which they finished, read piece by piece: a million need not be in memory."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import overload

import numpy as np
from sqlalchemy import Connection, select

from autoprune.store import queries
from autoprune.store.store import Store
from autoprune.store.tables import trials
from autoprune.types import Trial, TrialState

__all__ = ["History"]

_PIECE = 2_000
"""Trials in memory at once."""
_ROWS = 50_000


class History(Sequence[Trial]):
    """Finished trials in the order of finishing, then running ones by number, as they were when this was made.

    Sixteen bytes a trial; every walk through it reads the store anew (some 30 s a million trials on one core).
    """

    def __init__(self, store: Store, name: str) -> None:
        self._store, self._name = store, name
        numbers, times, running = _columns(store, name)
        order = np.argsort(times[~running], kind="stable")
        self._numbers = np.concatenate([numbers[~running][order], numbers[running]])
        self.finished = len(order)
        """How many of them have finished."""
        self.last_time = float(times[~running].max()) if len(order) else 0.0
        """When the latest finished; 0.0 without any."""

    @property
    def running(self) -> list[Trial]:
        return list(self._read(self.finished, len(self)))

    def digests(self) -> Iterator[str]:
        """Of the candidates, by number, without reading their trials."""
        last, more = -1, True
        while more:
            with self._store._reading() as connection:
                search_id = queries.search_row(connection, self._name).id
                query = select(trials.c.number, trials.c.digest).where(trials.c.search_id == search_id)
                query = query.where(trials.c.number > last).order_by(trials.c.number).limit(_ROWS)
                rows = connection.execute(query).all()
            yield from (row[1] for row in rows)
            last, more = (rows[-1][0], True) if rows else (last, False)

    def __len__(self) -> int:
        return len(self._numbers)

    def __iter__(self) -> Iterator[Trial]:
        for start in range(0, len(self), _PIECE):
            yield from self._read(start, min(start + _PIECE, len(self)))

    @overload
    def __getitem__(self, at: int) -> Trial: ...

    @overload
    def __getitem__(self, at: slice) -> list[Trial]: ...

    def __getitem__(self, at: int | slice) -> Trial | list[Trial]:
        places = range(len(self))[at]
        if isinstance(places, int):
            return self._store.trial(self._name, int(self._numbers[places]))
        return [self[place] for place in places]

    def _read(self, start: int, end: int) -> Iterator[Trial]:
        numbers = self._numbers[start:end].tolist()
        by_number = {trial.number: trial for trial in self._store.trials(self._name, numbers=numbers)}
        for number in numbers:
            yield by_number[number]


def _columns(store: Store, name: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Numbers (N,) int64, ascending; when each finished, (N,) float64, 0 where that is unknown; (N,) bool: it runs."""
    columns: list[list[np.ndarray]] = [[np.empty(0, np.int64)], [np.empty(0)], [np.empty(0, bool)]]

    def work(connection: Connection) -> None:
        for column in columns:
            del column[1:]
        search_id = queries.search_row(connection, name).id
        query = select(trials.c.number, trials.c.finished_at, trials.c.state).where(trials.c.search_id == search_id)
        for rows in connection.execute(query.order_by(trials.c.number)).partitions(_ROWS):
            columns[0].append(np.array([row[0] for row in rows], np.int64))
            columns[1].append(np.array([row[1] or 0.0 for row in rows]))
            columns[2].append(np.array([row[2] == TrialState.RUNNING.value for row in rows]))

    store.read(work)
    numbers, times, running = (np.concatenate(parts) for parts in columns)
    return numbers, times, running
