"""What the routes share: the reader, and answers that hold until a search changes."""

from __future__ import annotations

import hashlib
import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Annotated

from anyio import CapacityLimiter, to_thread
from fastapi import Depends, Request, Response
from starlette.concurrency import run_in_threadpool

from autoprune.api.artifacts import Exporter
from autoprune.api.reader import Reader
from autoprune.api.turns import Turns
from autoprune.api.vitals import Vitals
from autoprune.service.bodies import Bodies
from autoprune.service.counting import Requests
from autoprune.service.settings import Settings

__all__ = ["Context", "Here"]

_ANSWERS = 48
_MAKERS = 8
"""Threads that make answers or wait for them: the others stay free for requests that need little work."""


class Context:
    """Of one server; used from several threads."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.reader = Reader(settings.store)
        self.vitals = Vitals(self.reader)
        self.bodies = Bodies(self.reader)
        self.exporter = Exporter(settings.store)
        self.requests = Requests()
        self.streams = 0
        """Event streams that are open. Changed from the event loop alone."""
        self.closing = threading.Event()
        self._answers: OrderedDict[Hashable, tuple[float, bytes]] = OrderedDict()
        self._lock = threading.Lock()
        self._turns = Turns()
        self._makers: CapacityLimiter | None = None

    def close(self) -> None:
        self.exporter.close()
        self.reader.close()

    async def answer(self, request: Request, search: str, key: Hashable, make: Callable[[float], bytes]) -> Response:
        """JSON of ``make(stamp)``, made once for each state of the search; 304 where the client has it.

        Raises NotFound for an unknown search.
        """
        stamp = await run_in_threadpool(self.reader.stamp, search)
        if request.headers.get("if-none-match") == _tag(search, key, stamp):
            return Response(status_code=304, headers={"etag": _tag(search, key, stamp)})
        content = self._kept(search, key, stamp)
        if content is None:
            if self._makers is None:
                self._makers = CapacityLimiter(_MAKERS)
            stamp, content = await to_thread.run_sync(self.made, search, key, make, limiter=self._makers)
        headers = {"etag": _tag(search, key, stamp), "cache-control": "no-cache"}
        return Response(content, media_type="application/json", headers=headers)

    def made(self, search: str, key: Hashable, make: Callable[[float], bytes]) -> tuple[float, bytes]:
        """The present stamp of the search and ``make(stamp)``, kept until it has another one.

        Who asks for what is being made waits for it.
        """
        with self._turns.of((search, key)):
            stamp = self.reader.stamp(search)
            found = self._kept(search, key, stamp)
            if found is None:
                found = make(stamp)
                with self._lock:
                    self._answers[search, key] = (stamp, found)
                    self._answers.move_to_end((search, key))
                    while len(self._answers) > _ANSWERS:
                        self._answers.popitem(last=False)
        return stamp, found

    def _kept(self, search: str, key: Hashable, stamp: float) -> bytes | None:
        with self._lock:
            kept = self._answers.get((search, key))
        return kept[1] if kept is not None and kept[0] == stamp else None


def _tag(search: str, key: Hashable, stamp: float) -> str:
    return f'"{hashlib.sha256(repr((search, key, stamp)).encode()).hexdigest()[:20]}"'


def _context(request: Request) -> Context:
    found: Context = request.app.state.context
    return found


Here = Annotated[Context, Depends(_context)]
