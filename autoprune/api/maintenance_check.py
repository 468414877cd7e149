"""``autoprune store check``: whether what a store says can be trusted."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np

from autoprune.api.findings import Finding, Findings
from autoprune.api.maintenance_exports import export_findings
from autoprune.api.queries import own_axes, read_front
from autoprune.api.stores import open_at, store_url
from autoprune.config.expressions import parse_constraint, parse_objective
from autoprune.errors import AutopruneError, Conflict
from autoprune.types import Objective

if TYPE_CHECKING:
    from autoprune.store import Store
    from autoprune.store.checking import Fault

__all__ = ["check_store"]

_DATABASE = ("integrity", "schema", "orphans", "leases")
_SEARCH = ("content", "numbers", "states", "running", "metrics", "digests", "duplicates", "packs", "front")
_HINTS = {
    "integrity": "Restore a copy, or save what is readable with: sqlite3 FILE .recover | sqlite3 NEW.",
    "schema": "Run 'autoprune store migrate'.",
    "orphans": "Run 'autoprune store check --repair' to delete them: no query finds them.",
    "leases": "Set the clocks of the machines (NTP).",
    "running": "Run 'autoprune resume NAME', or leave them.",
    "packs": "Run 'autoprune store check --repair': packs are made again from the rows.",
}
_UNREADABLE = (AutopruneError, AttributeError, TypeError, ValueError)
"""What a damaged configuration raises."""
_RESTORE = "Restore a copy of the store; 'autoprune store export' of the other searches saves them."


def check_store(
    store: str | None = None, *, repair: bool = False, progress: Callable[[str], None] = lambda text: None
) -> Findings:
    """Look at the database, at every search and at the exports beside the store; searches may be running.

    ``repair`` makes packs that disagree with their rows again and deletes rows that belong to nothing, before the
    check; nothing else is changed.

    Raises NotFound and StoreError when the store cannot be opened, Conflict when a search that needs repair is driven.
    """
    url = store_url(store)
    mended = list(_repaired(url, progress)) if repair else []
    with open_at(url, read_only=True) as opened:
        items = [*_database(opened, progress), *mended]
        for name in _names(opened):
            progress(f"search {name}")
            items += _search(opened, name)
    progress("exports")
    return Findings.of([*items, *export_findings(url)])


def _names(opened: Store) -> list[str]:
    from autoprune.store import paging

    return sorted(paging.activity(opened))


def _database(opened: Store, progress: Callable[[str], None]) -> Iterator[Finding]:
    from autoprune.store.checking import check_database

    progress("database")
    faults = check_database(opened)
    for check in _DATABASE:
        yield from _findings(check, "", [fault for fault in faults if fault.check == check])


def _search(opened: Store, name: str) -> Iterator[Finding]:
    from autoprune.store.checking import check_search

    faults = check_search(opened, name, _required(opened, name))
    for check in _SEARCH[:-1]:
        yield from _findings(check, name, [fault for fault in faults if fault.check == check])
    yield _front(opened, name)


def _findings(check: str, search: str, faults: Sequence[Fault]) -> Iterator[Finding]:
    for fault in faults:
        status = "problem" if fault.serious else "warning"
        hint = _HINTS.get(check, _RESTORE if fault.serious else "")
        yield Finding(check, status, fault.message, fault.expected, hint, fault.search or search)
    if not faults:
        yield Finding(check, "ok", "as it must be", search=search)


def _required(opened: Store, name: str) -> list[str]:
    """Metrics that a session asks of every complete trial: those of objectives and constraints."""
    try:
        config = opened.config(name)
        named = [parse_objective(text).metric for text in config.get("objectives", ())]
        named += [each.metric for text in config.get("constraints", ()) for each in parse_constraint(text)]
    except _UNREADABLE:
        return []
    return list(dict.fromkeys(named))


def _front(opened: Store, name: str) -> Finding:
    """The front that queries give, against one made by another way from the rows alone."""
    from autoprune.analysis.front import front_axes
    from autoprune.store import paging
    from autoprune.store.checking import metric_rows

    for _ in range(3):
        stamp = paging.stamp(opened, name)
        try:
            axes = front_axes(*own_axes(opened, name, None, None))
            found = sorted(trial.number for trial in read_front(opened, name, axes).trials)
        except _UNREADABLE as error:
            return Finding("front", "problem", f"it cannot be made: {error}", "a front", _RESTORE, name)
        expected = sorted(_swept(axes, *metric_rows(opened, name, [each.metric for each in axes])))
        if found == expected:
            return Finding("front", "ok", f"{len(found)} trials, the same from the rows alone", search=name)
        if paging.stamp(opened, name) == stamp:
            text = f"the front has {len(found)} trials, and {len(expected)} others when it is made from the rows."
            return Finding("front", "problem", text, "equal", _HINTS["packs"], name)
    return Finding("front", "ok", "not compared: the search is written all the time", search=name)


def _swept(axes: Sequence[Objective], numbers: np.ndarray, values: np.ndarray) -> list[int]:
    """Numbers on the front of two axes: sorted by the one, a row stays when it beats all before it in the other."""
    usable = np.isfinite(values).all(axis=1)
    numbers, values = numbers[usable], values[usable] * [each.sign for each in axes]
    order = np.lexsort((numbers, values[:, 1], values[:, 0]))
    kept, best = [], np.inf
    for row in order:
        if values[row, 1] < best:
            best = values[row, 1]
            kept.append(int(numbers[row]))
    return kept


def _repaired(url: str, progress: Callable[[str], None]) -> Iterator[Finding]:
    from autoprune.store import new_owner
    from autoprune.store.checking import drop_orphans

    progress("repair")
    with open_at(url) as opened:
        if dropped := drop_orphans(opened):
            yield Finding("repair", "ok", f"deleted {dropped} rows that belonged to nothing")
        for name in _names(opened):
            if not (wrong := opened.check_packs(name)):
                continue
            try:
                lease = opened.claim(name, owner=new_owner(), ttl_seconds=60)
            except Conflict as error:
                raise Conflict(error.message, "Stop it before its packs are made again.") from None
            try:
                opened.rebuild_packs(lease)
            finally:
                opened.release(lease)
            yield Finding("repair", "ok", f"made {len(wrong)} packs again from their rows", search=name)
