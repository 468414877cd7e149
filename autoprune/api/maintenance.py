"""``autoprune store vacuum`` and ``migrate``: keeping a store small and of this version's schema."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from autoprune.api.stores import open_at, store_url
from autoprune.errors import StoreError

if TYPE_CHECKING:
    from autoprune.store import Store
    from autoprune.types import SearchRecord

__all__ = ["Migration", "described", "migrate_store", "vacuum_store"]


@dataclass(frozen=True)
class Migration:
    """What was, or would be, done to a store's schema."""

    before: int
    after: int
    copy: Path | None = None
    """Of the file as it was; None for a server, and where nothing was done."""
    held: tuple[str, ...] = ()
    """Searches that a driver holds now."""


def vacuum_store(store: str | None = None) -> tuple[int, int]:
    """Give back the space of what was deleted; bytes before and after.

    Raises NotFound, Conflict while a driver holds a search of a file, StoreError (read-only, disk full, locked).
    """
    from autoprune.store import upkeep

    url = store_url(store)
    open_at(url, read_only=True).close()  # one that is not there is not made
    with open_at(url) as opened:
        before = upkeep.size_of(opened)
        if (path := _file(url)) is not None:
            free = shutil.disk_usage(path.parent).free
            if free < before:
                raise StoreError(
                    f"store {str(path)!r} needs {before} bytes of free space to be written anew; {free} are left.",
                    "Free some space on its disk; nothing was changed.",
                )
        upkeep.vacuum(opened)
        return before, upkeep.size_of(opened)


def migrate_store(store: str | None = None, *, dry_run: bool = False) -> Migration:
    """Bring an older store to this version's schema; a copy of a file stays beside it.

    Raises NotFound, StoreError for a newer one, one that is read-only, or when no copy can be made.
    """
    from autoprune.store import tables

    url = store_url(store)
    with open_at(url, read_only=True) as opened:
        before, held = _looked_at(opened)
    if dry_run or before == tables.SCHEMA_VERSION:
        return Migration(before, tables.SCHEMA_VERSION, None, held)
    path = _file(url)
    known = set(_copies(path, before))
    open_at(url).close()
    made = [each for each in _copies(path, before) if each not in known]
    return Migration(before, tables.SCHEMA_VERSION, made[0] if made else None, held)


def _looked_at(opened: Store) -> tuple[int, tuple[str, ...]]:
    from autoprune.store import upkeep

    return upkeep.schema_of(opened), tuple(upkeep.held(opened))


def _copies(path: Path | None, version: int) -> list[Path]:
    return [] if path is None else sorted(path.parent.glob(f"{path.name}.version-{version}*"))


def _file(url: str) -> Path | None:
    from autoprune.store import urls

    return None if urls.is_server(url) else urls.sqlite_path(url)


def described(name: str, *, store: str | None = None) -> SearchRecord:
    """What a deletion is asked about. Raises NotFound."""
    with open_at(store_url(store), read_only=True) as opened:
        return opened.search(name)
