"""How many answers of which kind a server gave, and how long they took."""

from __future__ import annotations

import threading
import time
from bisect import bisect_left
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from starlette.types import ASGIApp, Message, Receive, Scope, Send

__all__ = ["BOUNDS", "Answers", "Counting", "Requests"]

BOUNDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
"""Upper ends of the classes of seconds that answers are counted in; one more holds all that took longer."""


@dataclass(frozen=True)
class Answers:
    """Those of one server up to now."""

    counts: Mapping[tuple[str, int], int]
    """(method, status) -> answers."""
    classes: tuple[int, ...]
    """Answers in each class of ``BOUNDS``, and in the last, open one."""
    seconds: float


class Requests:
    """Answers by method and status, and the seconds that they took. Used from several threads."""

    def __init__(self) -> None:
        self.began = time.time()
        self._lock = threading.Lock()
        self._count: Counter[tuple[str, int]] = Counter()
        self._classes = [0] * (len(BOUNDS) + 1)
        self._seconds = 0.0

    def add(self, method: str, status: int, seconds: float) -> None:
        with self._lock:
            self._count[method, status] += 1
            self._classes[bisect_left(BOUNDS, seconds)] += 1
            self._seconds += seconds

    def read(self) -> Answers:
        with self._lock:
            return Answers(dict(self._count), tuple(self._classes), self._seconds)


_METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")


class Counting:
    """Counts every answer; seconds are up to its first byte, since streams go on for hours."""

    def __init__(self, app: ASGIApp, requests: Requests) -> None:
        self._app, self._requests = app, requests

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        began = time.perf_counter()
        method = scope["method"] if scope["method"] in _METHODS else "other"

        async def counted(message: Message) -> None:
            if message["type"] == "http.response.start":
                self._requests.add(method, message["status"], time.perf_counter() - began)
            await send(message)

        return await self._app(scope, receive, counted)
