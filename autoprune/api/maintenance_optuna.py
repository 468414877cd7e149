"""``autoprune store export --optuna``: a search as a study that optuna-dashboard opens."""

from __future__ import annotations

import math
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from autoprune.analysis.overview import search_objectives
from autoprune.api.stores import open_at, store_url
from autoprune.config.expressions import parse_constraint
from autoprune.errors import ConfigError

if TYPE_CHECKING:
    from autoprune.store import Store
    from autoprune.types import Trial

__all__ = ["export_to_optuna"]

_PAGE = 1000


def export_to_optuna(
    name: str,
    storage: str,
    *,
    store: str | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> int:
    """Write a search into an Optuna storage as a study of its name.

    ``storage`` is a URL such as ``sqlite:///optuna.db``, or the path of a journal, which is much faster to write.

    Returns how many trials the study has. Raises NotFound, Conflict when the storage has such a study, ConfigError
    for a storage that cannot be used.
    """
    from autoprune.exporters.optuna_study import write_study

    url = store_url(store)
    _check_storage(storage, url)
    with open_at(url, read_only=True) as opened:
        record = opened.search(name)
        total = sum(record.trial_counts.values())
        constraints = [each for text in record.config.get("constraints") or () for each in parse_constraint(text)]
        return write_study(
            storage,
            record,
            _pages(opened, name),
            search_objectives(record),
            constraints,
            _widths(opened, name),
            lambda done: progress(done, total),
        )


def _pages(opened: Store, name: str) -> Iterator[Trial]:
    from autoprune.store import paging

    last = -1
    while page := paging.trials_page(opened, name, paging.Page(limit=_PAGE, after=last)):
        yield from page
        last = page[-1].number


def _widths(opened: Store, name: str) -> dict[str, tuple[int, int, int]]:
    """Group -> the lowest and the highest width of any trial, and the greatest common step between its widths."""
    seen: dict[str, tuple[int, int, int]] = {}
    for trial in _pages(opened, name):
        for group, width in trial.candidate.widths.items():
            low, high, step = seen.get(group, (width, width, 0))
            seen[group] = (min(low, width), max(high, width), math.gcd(step, width - low))
    return seen


def _check_storage(storage: str, store: str) -> None:
    """Optuna's tables have names of ours: a store must not become a storage."""
    from autoprune.store.urls import sqlite_path

    hint = "Choose a file of its own, for example sqlite:///optuna.db"
    if storage == store:
        raise ConfigError("the Optuna storage is the store itself.", hint)
    if "://" in storage and not storage.startswith("sqlite"):
        return
    path = sqlite_path(storage) if "://" in storage else Path(storage)
    if path.is_dir() or not path.parent.is_dir():
        raise ConfigError(f"the Optuna storage {str(path)!r} is no file that can be made.", hint)
    if not path.exists() or "://" not in storage:
        return
    try:
        connection = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
        try:
            names = {row[0] for row in connection.execute("SELECT name FROM sqlite_master")}
        finally:
            connection.close()
    except sqlite3.Error as error:
        raise ConfigError(f"the Optuna storage {str(path)!r} cannot be read: {error}.", hint) from None
    if "searches" in names:
        raise ConfigError(f"the Optuna storage {str(path)!r} is a store of autoprune.", hint)
