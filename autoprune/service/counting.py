"""How many answers of which kind a server gave."""

from __future__ import annotations

import threading
import time
from collections import Counter

from starlette.types import ASGIApp, Message, Receive, Scope, Send

__all__ = ["Counting", "Requests"]


class Requests:
    """Answers by method and status, and the seconds that they took. Used from several threads."""

    def __init__(self) -> None:
        self.began = time.time()
        self._lock = threading.Lock()
        self._count: Counter[tuple[str, int]] = Counter()
        self._seconds = 0.0

    def add(self, method: str, status: int, seconds: float) -> None:
        with self._lock:
            self._count[method, status] += 1
            self._seconds += seconds

    def read(self) -> tuple[dict[tuple[str, int], int], float]:
        with self._lock:
            return dict(self._count), self._seconds


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
