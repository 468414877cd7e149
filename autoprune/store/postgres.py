"""Connections to a server of PostgreSQL, and its clock."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

from sqlalchemy import URL, Engine, create_engine, func, select
from sqlalchemy.exc import SQLAlchemyError

from autoprune.errors import ConfigError, without_password

__all__ = ["ServerClock", "engines_of"]

_PARAMETERS: dict[str, str | int] = {
    "connect_timeout": 10,
    # A cable that is pulled says nothing: without these a statement would wait for two hours.
    "keepalives_idle": 30,
    "keepalives_interval": 10,
    "keepalives_count": 3,
    "tcp_user_timeout": 60_000,
    "application_name": "autoprune",
    # A driver that was stopped (SIGSTOP, a sleeping laptop) within a transaction must not keep its locks.
    "options": "-c lock_timeout=30s -c idle_in_transaction_session_timeout=60s -c statement_timeout=600s",
}
"""Of libpq; those in the URL's query come first."""


def engines_of(url: URL) -> tuple[Engine, Engine]:
    """One for reading and one for writing, over the same connections; ``url`` as ``urls.parsed`` gives it.

    Raises ConfigError when the driver is not installed, or does not know an option of the URL.
    """
    try:
        from psycopg import ProgrammingError, conninfo
    except ImportError as error:
        raise ConfigError(
            f"a store of PostgreSQL needs the package psycopg ({error}).", "pip install 'autoprune[postgres]'"
        ) from None
    try:
        conninfo.make_conninfo("", **{name: str(value) for name, value in url.query.items()})
    except ProgrammingError as error:
        said = " ".join(str(error).split())
        shown = without_password(url.render_as_string())
        raise ConfigError(f"store {shown!r}: {said}.", "Correct what stands behind '?'.") from None
    parameters = {name: value for name, value in _PARAMETERS.items() if name not in url.query}
    logging.getLogger("psycopg").setLevel(logging.ERROR)  # what it ignores on a lost connection is no news to anybody
    made = create_engine(
        url, connect_args=parameters, max_overflow=27, pool_recycle=1800, pool_use_lifo=True, hide_parameters=True
    )
    # Several statements of a reader must see one state. A writer waits for the rows that it needs, and then sees what
    # those before it have written.
    reader = made.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)
    writer = made.execution_options(isolation_level="READ COMMITTED", postgresql_readonly=False)
    return reader, writer


_QUESTIONS = 5
_QUICK_SECONDS = 0.01


class ServerClock:
    """The server's clock, asked once in ``every_seconds``; between, the ticks of this machine since then.

    A local clock that is wrong or set anew changes nothing: ticks count from the machine's start. While the server
    does not answer, the last difference stands. Right to half the time of one question, which is less than 1 ms in
    one network, and to what a quartz drifts in between (50 ppm of a minute are 3 ms).
    """

    def __init__(self, engine: Engine, every_seconds: float = 60.0, ticks: Callable[[], float] | None = None) -> None:
        self._engine = engine
        self._every = every_seconds
        self._ticks = ticks or _ticks
        self._lock = threading.Lock()
        self._offset = 0.0
        self._next = -float("inf")

    def __call__(self) -> float:
        """Seconds since the epoch, UTC."""
        with self._lock:
            if self._ticks() >= self._next:
                try:
                    self._ask()
                except SQLAlchemyError:
                    if self._next == -float("inf"):
                        raise
                    self._next = self._ticks() + 1.0
            return self._offset + self._ticks()

    def _ask(self) -> None:
        best = (float("inf"), 0.0)
        with self._engine.connect() as connection:
            for _ in range(_QUESTIONS):
                before = self._ticks()
                there = float(connection.execute(select(func.extract("epoch", func.clock_timestamp()))).scalar_one())
                after = self._ticks()
                # A process that was stopped in between (SIGSTOP, a busy machine) would be wrong by half of that.
                best = min(best, (after - before, there - (before + after) / 2))
                if best[0] < _QUICK_SECONDS:
                    break
        self._offset = best[1]
        self._next = after + self._every


def _ticks() -> float:
    """Seconds since this machine started, those that it slept included where the system counts them."""
    return time.clock_gettime(time.CLOCK_BOOTTIME) if hasattr(time, "CLOCK_BOOTTIME") else time.monotonic()
