"""A database: its connections, its clock, and trying again when it does not answer."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import TypeVar

from sqlalchemy import Connection, Engine, inspect

from autoprune.errors import StoreError
from autoprune.store.faults import passes, told_to_people
from autoprune.store.patience import READING_SECONDS, WRITING_SECONDS, Waiting
from autoprune.store.tables import metadata

__all__ = ["ALL_TABLES", "Database"]

T = TypeVar("T")
Self = TypeVar("Self", bound="Database")

ALL_TABLES = frozenset(metadata.tables)


class Database:
    """What a store stands on. Safe to use from several threads.

    A statement that failed because the server went away, was starting, or kept a lock for too long is repeated with
    its whole transaction, for ``patience`` seconds (default: 300, and 10 where the store is only read).
    """

    def __init__(
        self,
        engines: tuple[Engine, Engine],
        where: str,
        *,
        read_only: bool = False,
        tables: Collection[str] = ALL_TABLES,
        clock: Callable[[], float] = time.time,
        patience: float | None = None,
    ) -> None:
        self._engine, self._writer = engines  # for reading and for writing, with common connections
        self._where = where
        self.read_only = read_only
        self._tables = frozenset(tables)
        self._clock = clock
        self._patience = (READING_SECONDS if read_only else WRITING_SECONDS) if patience is None else patience
        self._leave_at = math.inf

    def __enter__(self: Self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        self._engine.dispose()

    @property
    def where(self) -> str:
        """What messages call it: the path of a file, or a URL without its password."""
        return self._where

    def hurry(self, seconds: float) -> None:
        """Somebody wants this process to end: after so many seconds no call waits any more for a database that does
        not answer (one that sleeps between two attempts wakes up to five seconds later). Safe in a signal handler."""
        self._leave_at = min(self._leave_at, time.monotonic() + seconds)

    def now(self) -> float:
        """The store's clock, seconds since the epoch, UTC: the server's. SQLite has none, it is this machine's."""
        return self._clock()

    def has(self, table: str) -> bool:
        """Whether the table is there: a store of an older version that is only read may lack some.

        Only such a store is asked again, since another process may have brought it up to date meanwhile.
        """
        if table not in self._tables:
            with self._reading() as connection:
                self._tables = frozenset(inspect(connection).get_table_names())
        return table in self._tables

    # --- transactions --------------------------------------------------------------------------------------------

    def read(self, work: Callable[[Connection], T]) -> T:
        """What ``work`` returns, from one consistent state of the database. It may be called several times."""
        return self._repeat(self._engine, work, None, self._patience)

    def write(
        self,
        work: Callable[[Connection], T],
        *,
        again: Callable[[Connection], T | None] | None = None,
        patience: float | None = None,
    ) -> T:
        """What ``work`` returns, in one transaction. It may be called several times, and must not mind having been
        committed before, unless ``again`` is given.

        A connection that breaks while committing leaves it open whether that was done. ``again`` is then asked first,
        in the transaction of the repetition: what it returns stands, and None says that nothing was written.
        """
        self._check_writable()
        return self._repeat(self._writer, work, again, self._patience if patience is None else patience)

    def _repeat(
        self,
        engine: Engine,
        work: Callable[[Connection], T],
        again: Callable[[Connection], T | None] | None,
        patience: float,
    ) -> T:
        waiting: Waiting | None = None
        in_doubt = False
        while True:
            committing = False
            try:
                with told_to_people(self._where), engine.connect() as connection, connection.begin():
                    done = again(connection) if in_doubt and again is not None else None
                    if done is None:
                        done = work(connection)
                    committing = True
                if waiting is not None:
                    waiting.over()
                return done
            except StoreError as error:
                if not passes(error) or time.monotonic() >= self._leave_at:
                    raise
                in_doubt = in_doubt or committing
                waiting = waiting or Waiting(patience)
                waiting.before_repeating(error)

    @contextmanager
    def _reading(self) -> Iterator[Connection]:
        """A transaction that is not repeated, for a caller that uses what it reads while it reads."""
        with told_to_people(self._where), self._engine.connect() as connection, connection.begin():
            yield connection

    @contextmanager
    def _writing(self) -> Iterator[Connection]:
        """A transaction that is not repeated."""
        self._check_writable()
        with told_to_people(self._where), self._writer.connect() as connection, connection.begin():
            yield connection

    def _check_writable(self) -> None:
        if self.read_only:
            raise StoreError(f"store {self._where!r} is open for reading only.", "Open it without read_only.")
