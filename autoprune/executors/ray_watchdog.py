"""Ends a worker whose trial takes too long or holds too much: Ray does neither, and code that hangs cannot be asked."""

from __future__ import annotations

import contextlib
import math
import os
import threading
import time
from typing import NoReturn

from ray.experimental import internal_kv

from autoprune.executors.memory import held_bytes, too_much

__all__ = ["START_SECONDS", "Watchdog", "last_words", "overdue"]

START_SECONDS = 600.0
"""How long the building of an evaluator may take."""

_LOOK_SECONDS = 0.1
_WORDS_SECONDS = 1.0
"""How long the last words may take: the cluster may be gone."""
_NAMESPACE = "autoprune"


class Watchdog:
    """A thread of the worker ``slot``. ``memory``: bytes that the process may hold, at any time."""

    def __init__(self, slot: str, memory: float) -> None:
        self._slot = slot
        self._memory = memory
        self._deadline = math.inf
        self._reason = ""
        threading.Thread(target=self._watch, daemon=True, name="watchdog").start()

    def arm(self, seconds: float, reason: str) -> None:
        """End the process in ``seconds``, for this reason, unless disarmed before."""
        self._deadline, self._reason = time.monotonic() + seconds, reason

    def disarm(self) -> None:
        self._deadline = math.inf

    def _watch(self) -> None:
        while True:
            time.sleep(_LOOK_SECONDS)
            if time.monotonic() >= self._deadline:
                self._leave(self._reason)
            if self._memory < math.inf and (held := held_bytes()) > self._memory:
                self._leave(too_much(held, self._memory))

    def _leave(self, reason: str) -> NoReturn:
        leaves = threading.Timer(_WORDS_SECONDS, os._exit, (1,))
        leaves.daemon = True
        leaves.start()
        with contextlib.suppress(Exception):
            internal_kv._internal_kv_put(self._slot.encode(), reason.encode(), namespace=_NAMESPACE.encode())
        os._exit(1)


def last_words(slot: str) -> str:
    """Why the worker of a slot ended itself, for its driver; empty where it did not. Said once."""
    with contextlib.suppress(Exception):
        found = internal_kv._internal_kv_get(slot.encode(), namespace=_NAMESPACE.encode())
        internal_kv._internal_kv_del(slot.encode(), namespace=_NAMESPACE.encode())
        return found.decode() if found else ""
    return ""


def overdue(seconds: float) -> str:
    """The reason of a trial that took too long."""
    return f"exceeded trial_seconds={seconds:g} and was killed: raise limits.trial_seconds"
