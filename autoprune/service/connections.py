"""Connections that give the server nothing to do: how long they may stay, and how many.

uvicorn closes a connection that is silent between two requests, and waits without end for the rest of a request's
head, or for a client that does not take its answer: a few hundred of those would keep everybody else out.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from autoprune.service.replies import encoded, refusal
from autoprune.service.settings import Limits

__all__ = ["Connection", "Waiting"]

_LEAST_BYTES = 16 * 1024


class Waiting:
    """The connections of one server that wait for a request, those that wait longest first. For the event loop."""

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self._by_client: dict[str, OrderedDict[Connection, None]] = {}
        self._count = 0

    def add(self, connection: Connection) -> None:
        """Where there are too many now, the oldest one of the client that has most is closed; first those that never
        had a request."""
        self._by_client.setdefault(connection.address, OrderedDict())[connection] = None
        self._count += 1
        if self._count > self.limits.waiting:
            most = max(self._by_client.values(), key=len)
            next((each for each in most if each.cycle is None), next(iter(most))).give_up()

    def discard(self, connection: Connection) -> None:
        own = self._by_client.get(connection.address)
        if own is not None and connection in own:
            del own[connection]
            self._count -= 1
            if not own:
                del self._by_client[connection.address]


class Connection(H11Protocol):
    """One connection: a request's head has to be there in time, and an answer has to be taken.

    Made by uvicorn, once for each; ``waiting`` is shared by all of a server.
    """

    def __init__(self, waiting: Waiting, **given: Any) -> None:
        super().__init__(**given)
        self._waiting = waiting
        self._deadline: asyncio.TimerHandle | None = None
        self._stalled: asyncio.TimerHandle | None = None

    @property
    def address(self) -> str:
        return self.client[0] if self.client else ""

    # --- what uvicorn and asyncio call ---------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._look(self._waiting.limits.head_seconds)

    def connection_lost(self, exc: Exception | None) -> None:
        self._rest()
        self._unwatch()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self._look(self._waiting.limits.head_seconds)

    def on_response_complete(self) -> None:
        super().on_response_complete()
        # It may be silent for the first of these times, and then has the other one for a head.
        self._look(self.timeout_keep_alive + self._waiting.limits.head_seconds)

    def send_400_response(self, msg: str) -> None:
        """What is not HTTP, in the shape of all errors."""
        body = encoded(refusal("bad_request", msg, "Send HTTP/1.1, with a head of at most 64 kB."))
        headers = [("content-type", "application/json"), ("content-length", str(len(body))), ("connection", "close")]
        answer = (h11.Response(status_code=400, headers=headers), h11.Data(data=body), h11.EndOfMessage())
        self.transport.write(b"".join(self.conn.send(part) or b"" for part in answer))
        self.transport.close()

    def pause_writing(self) -> None:
        super().pause_writing()
        if self._stalled is None:
            self._watch()

    def resume_writing(self) -> None:
        self._unwatch()
        super().resume_writing()
        self._look(self.timeout_keep_alive + self._waiting.limits.head_seconds)

    # --- heads ---------------------------------------------------------------------------------------------------

    def _look(self, seconds: float) -> None:
        """Whether it waits for a request now; bytes that come meanwhile do not prolong the time."""
        busy = self.cycle is not None and not self.cycle.response_complete
        if busy or self.flow.write_paused or self.transport.is_closing():
            self._rest()
        elif self._deadline is None:
            self._deadline = self.loop.call_later(seconds, self.give_up)
            self._waiting.add(self)

    def _rest(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None
            self._waiting.discard(self)

    def give_up(self) -> None:
        """Close it, whatever is still to be sent."""
        self._rest()
        self._unwatch()
        if self.transport.get_write_buffer_size():
            self.transport.abort()
        else:
            self.transport.close()

    # --- answers -------------------------------------------------------------------------------------------------

    def _watch(self) -> None:
        left = self.transport.get_write_buffer_size()
        self._stalled = self.loop.call_later(self._waiting.limits.stalled_seconds, self._review, left)

    def _review(self, left: int) -> None:
        if self.transport.get_write_buffer_size() > left - _LEAST_BYTES:
            self.give_up()
        else:
            self._watch()

    def _unwatch(self) -> None:
        if self._stalled is not None:
            self._stalled.cancel()
            self._stalled = None
