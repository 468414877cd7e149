"""Searches that workers run: putting them into the queue of a store, stopping and deleting them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from autoprune.api.stores import open_at, store_file, store_url
from autoprune.errors import Conflict, NotFound
from autoprune.types import Launch

if TYPE_CHECKING:
    from autoprune.api.searching import SearchResult
    from autoprune.config.schema import SearchConfig
    from autoprune.protocols import Progress
    from autoprune.store.queue import LaunchQueue

__all__ = ["delete", "drive", "enqueue", "enqueue_resume", "launch", "launches", "log_file", "position", "stop"]


@contextmanager
def _queue(store: str | None, *, read_only: bool = False) -> Iterator[LaunchQueue]:
    from autoprune.store.queue import LaunchQueue

    with open_at(store_url(store), read_only=read_only) as opened:
        yield LaunchQueue(opened)


def enqueue(config: SearchConfig, *, store: str | None = None) -> Launch:
    """Let a worker run this search. Raises Conflict when the name belongs to another configuration, or is running."""
    from autoprune.api.searching import earlier_search
    from autoprune.store.queue import LaunchQueue

    with open_at(store_url(store)) as opened:
        earlier_search(opened, config)
        return LaunchQueue(opened).add(config.name, config.model_dump(mode="json"))


def enqueue_resume(name: str, *, trials: int | None = None, store: str | None = None) -> Launch:
    """Let a worker go on with a stored search, or with what was stopped before its search was stored; ``trials`` sets a
    new limit. Raises NotFound, Conflict."""
    from autoprune.config.loading import load_search
    from autoprune.store.queue import LaunchQueue

    with open_at(store_url(store), read_only=True) as opened:
        try:
            config = dict(opened.config(name))
        except NotFound:
            earlier = LaunchQueue(opened).all(name, 1)
            if not earlier:
                raise
            config = dict(earlier[0].config)
    return enqueue(load_search(config, [] if trials is None else [f"limits.trials={trials}"]), store=store)


def launches(search: str | None = None, *, limit: int | None = None, store: str | None = None) -> list[Launch]:
    """The launches of a store, or of one search, the youngest first."""
    with _queue(store, read_only=True) as queue:
        return queue.all(search, limit)


def launch(launch_id: int, *, store: str | None = None) -> Launch:
    """One launch. Raises NotFound."""
    with _queue(store, read_only=True) as queue:
        return queue.get(launch_id)


def position(launch_id: int, *, store: str | None = None) -> int | None:
    """Its place in the queue, from 1; None when it does not wait."""
    with _queue(store, read_only=True) as queue:
        return queue.position(launch_id)


def stop(search: str | None = None, launch_id: int | None = None, *, store: str | None = None) -> Launch:
    """Ask the launch, or the one of this search, to end in good order; what was measured is kept.

    Raises NotFound, and Conflict when it has ended or no worker runs the search.
    """
    with _queue(store) as queue:
        if launch_id is None:
            found = [each for each in queue.all(search) if not each.state.ended]
            if not found:
                raise Conflict(
                    f"no worker runs search {search!r}.", "If a command line runs it, stop it there with Ctrl-C."
                )
            launch_id = found[0].id
        return queue.stop(launch_id)


def delete(name: str, *, store: str | None = None) -> None:
    """Delete a search with its trials and launches for good. Raises NotFound, and Conflict while it runs."""
    from autoprune.store.removal import remove_search

    with open_at(store_url(store)) as opened:
        remove_search(opened, name)


def drive(launch_id: int, *, store: str | None = None, progress: Progress | None = None) -> SearchResult:
    """Run the search of a launch in this process, as a worker's driver does; raises what ``search`` raises."""
    from autoprune.api.searching import search

    found = launch(launch_id, store=store)
    return search(found.config, store=store_url(store), progress=progress)


def log_file(launch_id: int, *, store: str | None = None) -> Path:
    """Where the driver of a launch writes what it does: beside the store, so that workers and servers share it."""
    file = store_file(store_url(store))
    return file.parent / "launches" / f"{file.stem}-{launch_id}.log"
