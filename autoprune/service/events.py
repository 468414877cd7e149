"""Server-sent events: what happens, as it happens. The store is looked at once a second."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Iterator
from typing import Annotated, Any

from fastapi import APIRouter, Header, Query, Response
from fastapi.responses import StreamingResponse
from starlette.concurrency import run_in_threadpool

from autoprune.analysis.finite import finite
from autoprune.api.reader import Page, Reader
from autoprune.api.views import front_view
from autoprune.errors import AutopruneError, ConfigError
from autoprune.service.context import Context, Here
from autoprune.service.launching import launch_body
from autoprune.service.parameters import errors
from autoprune.service.replies import encoded, refusal, reply
from autoprune.service.shapes import search_summary, trial_body

__all__ = ["TrialFeed", "router"]

router = APIRouter(tags=["events"], responses=errors())

_PERIOD = 1.0
_QUIET = 15.0
"""Seconds after which a comment shows that the stream lives."""
_MOST = 2000
"""Trials in one look."""


class TrialFeed:
    """The trials of a search that have finished since the last look, whatever the order of their numbers."""

    def __init__(self, reader: Reader, name: str, position: str = "") -> None:
        """``position`` of an earlier feed, to go on there; else from now on. Raises NotFound, ConfigError."""
        self._reader, self._name = reader, name
        self._stamp = -1.0
        try:
            last, *unfinished = (int(part) for part in position.split(".") if part)
        except ValueError:
            if position:
                raise ConfigError("Last-Event-ID is not one of this stream.", "Leave it out.") from None
            reader.stamp(name)
            last, unfinished = self._now()
        if len(unfinished) > _MOST or not all(-1 <= number <= 2**31 for number in (last, *unfinished)):
            raise ConfigError("Last-Event-ID is not one of this stream.", "Leave it out.")
        self._last, self._unfinished = last, set(unfinished)

    def _now(self) -> tuple[int, list[int]]:
        from autoprune.types import TrialState

        youngest = self._reader.numbers(self._name, Page(1, descending=True))
        return max(youngest, default=-1), self._reader.numbers(self._name, Page(_MOST, states=[TrialState.RUNNING]))

    @property
    def position(self) -> str:
        """The highest number that was looked at, and those before it that had not finished."""
        return ".".join(str(number) for number in (self._last, *sorted(self._unfinished)))

    def news(self) -> list[dict[str, Any]]:
        """The finished ones, by number. Raises NotFound when the search is gone."""
        stamp = self._reader.stamp(self._name)
        if stamp == self._stamp:
            return []
        self._stamp = stamp
        beyond = self._reader.numbers(self._name, Page(_MOST, after=self._last))
        states = self._reader.states_of(self._name, {*beyond, *self._unfinished})
        done = [number for number, state in states.items() if state.finished]
        self._last = max([self._last, *beyond])
        self._unfinished = set(states) - set(done)
        if len(beyond) == _MOST:
            self._stamp = -1.0  # there is more
        bodies = [trial_body(trial) for trial in self._reader.trials(self._name, numbers=done)]
        left_out = ("widths", "note", "timings")
        return [
            {"search": self._name, **{key: value for key, value in body.items() if key not in left_out}}
            for body in bodies
        ]


class _Watch:
    """What one client was told, and what is new to it."""

    def __init__(self, here: Context, search: str | None, position: str) -> None:
        self._here, self._search = here, search
        self._feed = None if search is None else TrialFeed(here.reader, search, position)
        self._told: dict[str, Any] = {}
        self._activity: dict[str, tuple[float, bool]] = {}

    @property
    def position(self) -> str:
        return "" if self._feed is None else self._feed.position

    def news(self) -> list[tuple[str, Any]]:
        """Pairs of event and data. Raises AutopruneError when the store cannot be read."""
        found: list[tuple[str, Any]] = []
        if self._feed is not None and self._search is not None:
            done = self._feed.news()
            found += [("trial", body) for body in done]
            if "front" not in self._told or any(body["state"] == "complete" for body in done):
                found += self._if_new("front", "front", self._front(self._search))
        for summary in self._summaries():
            found += self._if_new("search", f"search {summary['name']}", summary)
        for launch in self._here.reader.launches(self._search, limit=50):
            found += self._if_new("launch", f"launch {launch.id}", launch_body(launch))
        return found

    def _front(self, search: str) -> Any:
        reader = self._here.reader

        def make(stamp: float) -> bytes:
            return encoded({"search": search, "numbers": front_view(reader, search).members.numbers.tolist()})

        return json.loads(self._here.made(search, "numbers", make)[1])

    def _summaries(self) -> Iterator[dict[str, Any]]:
        """Of the searches that changed: counting trials takes 0.2 ms a thousand."""
        reader = self._here.reader
        activity = reader.activity()
        names = activity if self._search is None else [self._search]
        changed = [name for name in names if activity.get(name) != self._activity.get(name)]
        self._activity = activity
        for name in changed:
            yield search_summary(reader.search(name), driven=activity.get(name, (0.0, False))[1])

    def _if_new(self, event: str, key: str, data: Any) -> list[tuple[str, Any]]:
        if self._told.get(key) == data:
            return []
        self._told[key] = data
        return [(event, data)]


@router.get(
    "/events",
    response_class=StreamingResponse,
    responses={200: {"description": "A stream of events.", "content": {"text/event-stream": {}}}},
)
async def events(
    here: Here,
    search: Annotated[
        str | None, Query(max_length=100, description="Also the trials and the front of this one.")
    ] = None,
    last_event_id: Annotated[str, Header(max_length=20_000, description="Go on behind this event.")] = "",
    once: Annotated[bool, Query(description="What there is now, and no more.")] = False,
) -> Response:
    """`trial` (finished), `front` (numbers, when it moved), `search` (summary) and `launch`, each as JSON.

    The present state comes first; a comment every 15 s shows that the stream lives.
    """
    if here.streams >= here.settings.limits.streams:
        return reply(refusal("too_many_requests", "too many event streams are open.", "Close one."), 429)
    watch = await run_in_threadpool(_Watch, here, search, last_event_id)
    return StreamingResponse(_stream(here, watch, once), media_type="text/event-stream")


async def _stream(here: Context, watch: _Watch, once: bool) -> AsyncIterator[str]:
    here.streams += 1
    spoke = time.monotonic()
    try:
        while not here.closing.is_set():
            try:
                found = await run_in_threadpool(watch.news)
            except AutopruneError as error:
                found = [("error", refusal("store_unavailable", error.message, error.hint))]
                once = once or error.http_status == 404  # deleted
            for event, data in found:
                yield _framed(event, data, watch.position)
            if once:
                return
            if found:
                spoke = time.monotonic()
            elif time.monotonic() - spoke > _QUIET:
                spoke = time.monotonic()
                yield ": still here\n\n"
            await asyncio.sleep(_PERIOD)
    finally:
        here.streams -= 1


def _framed(event: str, data: Any, position: str) -> str:
    text = json.dumps(finite(data), allow_nan=False, separators=(",", ":"))
    identity = f"id: {position}\n" if position else ""
    return f"event: {event}\n{identity}data: {text}\n\n"
