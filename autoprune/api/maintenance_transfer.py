"""``autoprune store export`` and ``import``: searches from one store to another, to a cluster's database or back."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Mapping
from contextlib import closing
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

from autoprune.api.maintenance_lines import read_lines, verify, write_lines
from autoprune.api.stores import open_at, store_url
from autoprune.errors import ConfigError, Conflict, StoreError
from autoprune.files import replacing

if TYPE_CHECKING:
    from autoprune.store.transfer import Importer

__all__ = ["Transfer", "export_searches", "import_searches"]

Progress = Callable[[int, int], None]
"""Called with the trials so far and all of them."""


def _silent(done: int, total: int) -> None: ...


@dataclass(frozen=True)
class Transfer:
    """What was written or taken in."""

    file: Path
    counts: Mapping[str, int]
    """Records by kind: search, trial, retraining, audit, point."""
    skipped: tuple[str, ...] = ()
    """Searches that the store had already."""


def export_searches(
    to: str | Path,
    names: Collection[str] = (),
    *,
    store: str | None = None,
    overwrite: bool = False,
    progress: Progress = _silent,
) -> Transfer:
    """Write searches (all of them unless named) with their trials and all that their reports need as JSON Lines.

    The file appears when it is whole; a name that ends in ``.gz`` is compressed. Searches may be running.

    Raises NotFound, Conflict when the file exists, StoreError (store or file), ConfigError for a folder.
    """
    from autoprune import __version__
    from autoprune.store.transfer import read_records

    path = Path(to)
    if path.is_dir():
        raise ConfigError(f"{path} is a folder; expected the name of a file.", f"Write for example {path}/all.jsonl.gz")
    if path.exists() and not overwrite:
        raise Conflict(f"{path} exists.", "Choose another name, or replace it with --overwrite.")
    with open_at(store_url(store), read_only=True) as opened:
        records = read_records(opened, list(names) or None)
        first = next(records)
        total = int(first["counts"]["trials"])
        _make_folder(path.parent)
        with closing(records), replacing(path) as temporary:
            counts = write_lines(
                temporary,
                chain([first], records),
                compress=path.suffix == ".gz",
                version=__version__,
                progress=lambda done: progress(done, total),
            )
    return Transfer(path, counts)


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StoreError(f"{folder} cannot be made: {error.strerror}.", "Choose another folder.") from None


def import_searches(
    file: str | Path,
    *,
    store: str | None = None,
    rename: Mapping[str, str] | None = None,
    skip_existing: bool = False,
    progress: Progress = _silent,
) -> Transfer:
    """Take the searches of an export into a store, which is made where there is none; all of them or none.

    Args:
        rename: old name -> new one; a copy that was made from a renamed search names it by the new one.
        skip_existing: leave out searches whose name the store has.

    Raises NotFound (no such file), ConfigError (a file that is cut, damaged, or no export), Conflict when the store
    has a search of that name, StoreError.
    """
    from autoprune.store.transfer import importing

    path, renamed = Path(file), dict(rename or {})
    head = verify(path)
    with open_at(store_url(store)) as opened, importing(opened) as importer:
        taking = _Taking(importer, path, renamed, skip_existing)
        for number, record in read_lines(path):
            taking.take(number, record)
            if taking.counts["trial"] % 1000 == 0:
                progress(taking.counts["trial"], head["trials"])
        if unknown := sorted(renamed.keys() - taking.seen):
            raise ConfigError(
                f"{path} has no search {unknown[0]!r} to be renamed.", f"It has: {', '.join(sorted(taking.seen))}."
            )
    return Transfer(path, taking.counts, tuple(taking.skipped))


class _Taking:
    """One import: which search the records belong to, and what becomes of its name."""

    def __init__(self, importer: Importer, path: Path, rename: Mapping[str, str], skip: bool) -> None:
        self._importer, self._path, self._rename, self._skip = importer, path, rename, skip
        self.counts: Counter[str] = Counter()
        self.seen: set[str] = set()
        self.skipped: list[str] = []
        self._before = -1
        """Number of the trial before."""
        self._open: str | None = None
        """The search that trials belong to now, by its name in the file."""

    def take(self, number: int, record: object) -> None:
        from autoprune.store.transfer_fields import check_record

        try:
            kind, content = check_record(record)
            taken = self._one(kind, content)
        except ConfigError as error:
            raise ConfigError(f"{self._path}, line {number}: {error.message}", "Nothing was imported.") from None
        if taken:
            self.counts[kind] += 1

    def _one(self, kind: str, content: dict[str, Any]) -> bool:
        if kind == "search":
            return self._search(content)
        if kind == "trial":
            return self._trial(content)
        self._open = None
        if content["search"] in self.skipped:
            return False
        renamed = {**content, "search": self._rename.get(content["search"], content["search"])}
        return self._importer.add_beside(kind, renamed)

    def _search(self, content: dict[str, Any]) -> bool:
        name = content["name"]
        if name in self.seen:
            raise ConfigError(f"search {name!r} is there twice.")
        self.seen.add(name)
        self._open, self._before = name, -1
        if not isinstance(content["config"].get("space", {}), dict):
            raise ConfigError("search: its configuration names a file; expected the whole space.")
        if name in self._rename:
            content = _renamed(content, self._rename[name])
        if self._importer.has(content["name"]):
            if not self._skip:
                raise Conflict(
                    f"the store has a search {content['name']!r} already; nothing was imported.",
                    f"Take it in under another name with --rename {name}=NEW, or leave it out with --skip-existing.",
                )
            self.skipped.append(name)
            return False
        self._importer.add_search(content)
        return True

    def _trial(self, content: dict[str, Any]) -> bool:
        if self._open is None:
            raise ConfigError("a trial that follows no search.")
        if content["number"] <= self._before:
            raise ConfigError(f"trial {content['number']} follows trial {self._before}; expected a higher number.")
        self._before = content["number"]
        if self._open in self.skipped:
            return False
        origin, slash, copied = content["duplicate_of"].rpartition("/")
        if origin in self._rename:
            content["duplicate_of"] = f"{self._rename[origin]}{slash}{copied}"
        self._importer.add_trial(content)
        return True


def _renamed(content: dict[str, Any], name: str) -> dict[str, Any]:
    """A search under another name: that is part of its configuration and so of its digest."""
    from autoprune.config.loading import load_search

    config = {**content["config"], "name": name}
    try:
        digest = load_search(config, ()).digest()
    except ConfigError as error:
        raise ConfigError(f"search {content['name']!r} cannot be renamed to {name!r}: {error.message}") from None
    return {**content, "name": name, "config": config, "digest": digest}
