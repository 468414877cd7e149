"""Opening a store: from a URL to connections with the right settings and a schema of the right version."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from sqlalchemy import Engine

from autoprune.errors import NotFound, StoreError
from autoprune.store import postgres, schema, sqlite, urls
from autoprune.store.faults import os_fault, passes, told_to_people
from autoprune.store.patience import OPENING_SECONDS, Waiting
from autoprune.store.store import Store
from autoprune.store.urls import sqlite_path

__all__ = ["open_store", "sqlite_path"]

T = TypeVar("T")
Engines = tuple[Engine, Engine]


def open_store(url: str, *, read_only: bool = False, patience: float | None = None) -> Store:
    """Open (and, unless ``read_only``, create or bring up to date) a store.

    ``url``: ``sqlite:///path``, or ``postgresql://user:password@host:port/database`` (needs the extra ``postgres``).
    ``patience``: seconds for which a call is repeated while the database does not answer, see ``patience.py``.

    Raises ConfigError for a URL that is no store, NotFound when there is nothing to read, and StoreError when the
    database refuses: no permission, damaged, disk full, not reached, or written by a newer autoprune.
    """
    if urls.is_server(url):
        return _open_server(url, read_only, patience)
    path = sqlite_path(url)
    if read_only:
        engines, found = _open_reading(path)
        return Store(engines, str(path), read_only=True, tables=found.tables, patience=patience)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise os_fault(str(path), error) from error
    engines = sqlite.engines_of(path, "rwc")
    _opened(engines, lambda: schema.bring_up_to_date(engines, str(path), path))
    return Store(engines, str(path), patience=patience)


def _open_server(url: str, read_only: bool, patience: float | None) -> Store:
    where = urls.shown(url)
    engines = postgres.engines_of(urls.parsed(url))
    clock = postgres.ServerClock(engines[0])

    def ready() -> frozenset[str]:
        with told_to_people(where):
            clock()
        if read_only:
            return schema.look(engines[0], where).tables
        schema.bring_up_to_date(engines, where, None)
        return schema.ALL_TABLES

    tables = _opened(engines, ready)
    return Store(engines, where, read_only=read_only, tables=tables, clock=clock, patience=patience)


def _opened(engines: Engines, act: Callable[[], T]) -> T:
    """What ``act`` returns, which is repeated for a moment; connections are closed when it fails."""
    waiting = Waiting(OPENING_SECONDS)
    while True:
        try:
            return act()
        except StoreError as error:
            if not passes(error):
                engines[0].dispose()
                raise
            try:
                waiting.before_repeating(error)
            except StoreError:
                engines[0].dispose()
                raise
        except BaseException:
            engines[0].dispose()
            raise


def _open_reading(path: Path) -> tuple[Engines, schema.Found]:
    """The engines, and what the file holds.

    A database in WAL mode needs two files beside it; where they cannot be made, it is read as it lies.
    """
    if not path.exists():
        raise NotFound(f"no store at {str(path)!r}.", "Run 'autoprune search' first, or pass --store sqlite:///PATH.")
    try:
        return _reading(path, "ro")
    except StoreError as error:
        if not any(sign in str(error.__cause__) for sign in ("readonly database", "unable to open")):
            raise
    return _reading(path, "ro&immutable=1")


def _reading(path: Path, mode: str) -> tuple[Engines, schema.Found]:
    engines = sqlite.engines_of(path, mode)
    return engines, _opened(engines, lambda: schema.look(engines[0], str(path)))
