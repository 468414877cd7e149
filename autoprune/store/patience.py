"""Waiting for a database that does not answer: how long, how often, and what is said meanwhile."""

from __future__ import annotations

import logging
import time
from random import Random

from autoprune.errors import StoreError
from autoprune.logs import emit

__all__ = ["OPENING_SECONDS", "READING_SECONDS", "WRITING_SECONDS", "Waiting"]

OPENING_SECONDS = 5.0
"""For a store that is being opened: a wrong address should be said at once, a server that just starts waited for."""
READING_SECONDS = 10.0
"""For a store that is open for reading only: somebody waits for the answer."""
WRITING_SECONDS = 300.0
"""For a store that is open for writing: a driver would lose what it measures meanwhile."""

_FIRST_SECONDS = 0.1
_LONGEST_SECONDS = 5.0
_SAID_AFTER = 2.0

_log = logging.getLogger(__name__)


class Waiting:
    """The waits of one call, from its first failure on: none before the first repetition, since a new connection may
    do; then ever longer ones."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._began = time.monotonic()
        self._next = 0.0
        self._said = False
        self._jitter = Random()

    def before_repeating(self, error: StoreError) -> None:
        """Sleep a while; raises ``error`` when the time is over."""
        waited = time.monotonic() - self._began
        if waited >= self._seconds:
            raise error
        if not self._said and waited > _SAID_AFTER:
            self._said = True
            text = "%s Trying again for up to %.0f s."
            emit(_log, logging.WARNING, "database.retried", text, error.message, self._seconds)
        # Many drivers lost the same server at the same moment: they must not all come back in the same one.
        pause = min(self._next * self._jitter.uniform(0.5, 1.0), self._seconds - waited)
        time.sleep(max(0.0, pause))
        self._next = min(max(_FIRST_SECONDS, 2 * self._next), _LONGEST_SECONDS)

    def over(self) -> None:
        """It answered."""
        if self._said:
            seconds = time.monotonic() - self._began
            text = "the store answers again after %.0f s."
            emit(_log, logging.WARNING, "database.answered", text, seconds, seconds=round(seconds, 3))
