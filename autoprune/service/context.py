"""What the routes share: the reader, and answers that hold until a search changes."""

from __future__ import annotations

import hashlib
import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from typing import Annotated, Any

from fastapi import Depends, Request, Response

from autoprune.api.artifacts import Exporter
from autoprune.api.reader import Reader
from autoprune.service.counting import Requests
from autoprune.service.replies import encoded
from autoprune.service.settings import Settings

__all__ = ["Context", "Here"]

_ANSWERS = 48


class Context:
    """Of one server; used from several threads."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.reader = Reader(settings.store)
        self.exporter = Exporter(settings.store)
        self.requests = Requests()
        self.streams = 0
        """Event streams that are open. Changed from the event loop alone."""
        self.closing = threading.Event()
        self._answers: OrderedDict[Hashable, tuple[float, bytes]] = OrderedDict()
        self._lock = threading.Lock()
        self._making: dict[Hashable, tuple[threading.Lock, int]] = {}

    def close(self) -> None:
        self.exporter.close()
        self.reader.close()

    def answer(self, request: Request, search: str, key: Hashable, make: Callable[[float], Any]) -> Response:
        """JSON of ``make(stamp)``, made once for each state of the search; 304 where the client has it.

        Raises NotFound for an unknown search.
        """
        stamp = self.reader.stamp(search)
        tag = f'"{hashlib.sha256(repr((search, key, stamp)).encode()).hexdigest()[:20]}"'
        if request.headers.get("if-none-match") == tag:
            return Response(status_code=304, headers={"etag": tag})
        headers = {"etag": tag, "cache-control": "no-cache"}
        return Response(self.made(search, key, stamp, make), media_type="application/json", headers=headers)

    def made(self, search: str, key: Hashable, stamp: float, make: Callable[[float], Any]) -> bytes:
        """JSON of ``make(stamp)``, kept until the search has another stamp."""
        with self._one_at_a_time((search, key)):
            with self._lock:
                kept = self._answers.get((search, key))
            if kept is None or kept[0] != stamp:
                kept = (stamp, encoded(make(stamp)))
                with self._lock:
                    self._answers[search, key] = kept
                    self._answers.move_to_end((search, key))
                    while len(self._answers) > _ANSWERS:
                        self._answers.popitem(last=False)
        return kept[1]

    @contextmanager
    def _one_at_a_time(self, key: Hashable) -> Iterator[None]:
        """Who asks for what is being made waits for it."""
        with self._lock:
            lock, users = self._making.get(key, (threading.Lock(), 0))
            self._making[key] = (lock, users + 1)
        try:
            with lock:
                yield
        finally:
            with self._lock:
                lock, users = self._making.pop(key)
                if users > 1:
                    self._making[key] = (lock, users - 1)


def _context(request: Request) -> Context:
    found: Context = request.app.state.context
    return found


Here = Annotated[Context, Depends(_context)]
