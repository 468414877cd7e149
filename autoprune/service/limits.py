"""How often one address may ask, and how long a body may be."""

from __future__ import annotations

import asyncio
import math
import time
from collections import OrderedDict
from collections.abc import Coroutine
from typing import Any

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from autoprune.service.replies import send_refusal
from autoprune.service.settings import Limits

__all__ = ["BodyLimit", "Rates"]

_ADDRESSES = 10_000
_CLOSE = {"connection": "close"}


class _Buckets:
    """Token buckets by address; the ones that were idle longest are forgotten."""

    def __init__(self, per_second: float, size: float) -> None:
        self._rate, self._size = per_second, size
        self._left: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def wait(self, address: str, *, take: bool = True) -> int:
        """Whole seconds until one more is allowed; 0: now, and then it is counted."""
        now = time.monotonic()
        left, at = self._left.pop(address, (self._size, now))
        left = min(self._size, left + (now - at) * self._rate)
        allowed = left >= 1
        self._left[address] = (left - 1 if allowed and take else left, now)
        while len(self._left) > _ADDRESSES:
            self._left.popitem(last=False)
        return 0 if allowed else max(1, math.ceil((1 - left) / self._rate))


class Rates:
    """Of one server. Used from the event loop alone."""

    def __init__(self, limits: Limits) -> None:
        self._all = _Buckets(limits.requests_per_second, limits.burst)
        self._changes = _Buckets(limits.launches_per_minute / 60, limits.launches_per_minute)
        self._failures = _Buckets(limits.failures_per_minute / 60, limits.failures_per_minute)

    def wait(self, address: str, *, changes: bool) -> int:
        """Seconds that a request has to wait; 0: it is welcome."""
        return self._all.wait(address) or (self._changes.wait(address) if changes else 0)

    def failed(self, address: str) -> int:
        """Count a wrong token; seconds to wait when there were too many."""
        return self._failures.wait(address)


class BodyLimit:
    """Refuses long bodies with 413 and slow ones with 408, whatever their headers say, without keeping them.

    A body up to the limit is read here, once, and handed on. What is too long is dropped as it comes.
    """

    def __init__(self, app: ASGIApp, limits: Limits) -> None:
        self._app = app
        self._limits = limits
        self._reading: dict[asyncio.Task[bytes | None], None] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or not _has_body(Headers(scope=scope)):
            await self._app(scope, receive, send)
            return
        declared = Headers(scope=scope).get("content-length", "0")
        if not declared.isdecimal():
            return await send_refusal(send, 400, "bad_request", "Content-Length is not a number.")
        most = self._limits.body_bytes
        too_long = len(declared) > 15 or int(declared) > most
        try:
            body = await self._in_time(_read(receive, -1 if too_long else most))
        except ConnectionError:
            return None  # half a body is no request, and nobody waits for an answer
        except asyncio.TimeoutError:
            if too_long:
                return await self._refuse(send)
            return await send_refusal(send, 408, "timeout", "the body took too long.", headers=_CLOSE)
        if body is None:
            return await self._refuse(send)
        return await self._app(scope, _replayed(body, receive), send)

    async def _in_time(self, reading: Coroutine[Any, Any, bytes | None]) -> bytes | None:
        """Raises asyncio.TimeoutError when it takes too long, or longest of too many."""
        task = asyncio.ensure_future(reading)
        self._reading[task] = None
        if len(self._reading) > self._limits.bodies:
            oldest = next(iter(self._reading))
            del self._reading[oldest]
            oldest.cancel()
        try:
            await asyncio.wait({task}, timeout=self._limits.body_seconds)
            if not task.done() or task.cancelled():
                raise asyncio.TimeoutError
            return task.result()
        finally:
            self._reading.pop(task, None)
            task.cancel()

    async def _refuse(self, send: Send) -> None:
        message = f"the body is longer than {self._limits.body_bytes:,} bytes."
        await send_refusal(send, 413, "too_large", message, headers=_CLOSE)


async def _read(receive: Receive, most: int) -> bytes | None:
    """The body; None when it is longer than ``most`` bytes. Its end is waited for all the same: a client that still
    sends would not see an answer."""
    parts: list[bytes] = []
    size = 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ConnectionError
        part = message.get("body", b"")
        size += len(part)
        if size > most:
            parts.clear()
        else:
            parts.append(part)
        if not message.get("more_body", False):
            return b"".join(parts) if size <= most else None


def _has_body(headers: Headers) -> bool:
    return "transfer-encoding" in headers or headers.get("content-length", "0") != "0"


def _replayed(body: bytes, receive: Receive) -> Receive:
    """A receive that first gives the whole body, then what comes behind it (a disconnect)."""
    given = False

    async def again() -> Message:
        nonlocal given
        if given:
            return await receive()
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return again
