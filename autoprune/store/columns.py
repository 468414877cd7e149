"""Metrics of all trials of a search as arrays: from packs, and from the rows of trials that are not packed yet."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

import numpy as np
from sqlalchemy import ColumnElement, Connection, Table, func, select

from autoprune.errors import ConfigError, did_you_mean
from autoprune.store import packs as packing
from autoprune.store.tables import metrics, packed_metrics, packs, searches, trials
from autoprune.types import Constraint, TrialState

__all__ = ["MetricColumns", "complete_columns", "measured", "state_counts", "within"]

_FEW = 5 * packing.SIZE
"""Trials, beyond which it costs more to look for added metrics than it saves."""
_ONE_BY_ONE = 16

Range = tuple[int | None, int | None]
"""Numbers from the first (included) to the second (not); None is open."""


@dataclass(frozen=True, eq=False)
class MetricColumns:
    """Trials of a search by number, and their metrics. It may hold trials that are not COMPLETE, without metrics."""

    numbers: np.ndarray
    """(N,) int64, ascending."""
    complete: np.ndarray
    """(N,) bool."""
    values: Mapping[str, np.ndarray]
    """Metric -> (N,) float64; NaN where the trial is not COMPLETE or the metric is absent or not a number."""
    rows: Rows | None = None
    """What was read from rows, for the next reading of the same search."""


@dataclass(frozen=True, eq=False)
class Rows:
    """Metrics of COMPLETE trials that were not packed when they were read."""

    search: tuple[int, float]
    """Of the search: its id, and when it was created. A deleted one may leave both its name and its id to another."""
    added: frozenset[Any]
    """The metrics that were added to finished trials: all else of a finished trial never changes."""
    numbers: np.ndarray
    values: Mapping[str, np.ndarray]


def complete_columns(
    connection: Connection,
    search: tuple[int, float],
    names: Iterable[str],
    *,
    has_packs: bool = True,
    earlier: MetricColumns | None = None,
) -> MetricColumns:
    """The metrics ``names`` of all COMPLETE trials.

    Args:
        search: its id, and when it was created.
        earlier: what was found before. Rows of finished trials that are known from there are not read again.
    """
    search_id = search[0]
    packed = _packed_states(connection, search_id) if has_packs else {}
    ranges = _not_packed(packed)
    loose = _loose_numbers(connection, search_id, ranges)
    sizes = [len(states) for states in packed.values()]
    numbers = np.concatenate(
        [*(np.arange(start, start + size) for start, size in zip(packed, sizes, strict=True)), loose]
    )
    complete = np.ones(len(numbers), dtype=bool)
    head = len(numbers) - len(loose)
    np.equal(np.frombuffer(b"".join(packed.values()), np.uint8), packing.COMPLETE, out=complete[:head])
    offsets = dict(zip(packed, accumulate([0, *sizes[:-1]]), strict=True)) if packed else {}
    rows = _read_rows(connection, search, list(dict.fromkeys(names)), ranges, loose, earlier)
    values = {}
    for name, found in rows.values.items():
        column = np.full(len(numbers), np.nan)
        _fill_packed(connection, search_id, name, offsets, column[:head])
        column[head:] = found
        values[name] = column
    return _sorted(MetricColumns(numbers, complete, values, rows), head)


def within(
    found: MetricColumns,
    names: Sequence[str],
    constraints: Sequence[Constraint],
    baseline: Mapping[str, float],
) -> tuple[np.ndarray, np.ndarray]:
    """Numbers (N,) and values (N, names) of the COMPLETE trials that meet the constraints and have all ``names``.

    Raises ConfigError when a relative constraint names a metric that the baseline lacks.
    """
    kept = found.complete.copy()
    for name in names:
        kept &= ~np.isnan(found.values[name])
    for constraint in constraints:
        column, bound = found.values[constraint.metric], _bound(constraint, baseline)
        kept &= column <= bound if constraint.op == "<=" else column >= bound
    table = np.empty((int(kept.sum()), len(names)))
    for place, name in enumerate(names):
        table[:, place] = found.values[name][kept]
    return found.numbers[kept], table


def measured(connection: Connection, search_id: int, *, has_packs: bool = True) -> set[str]:
    """Names of the metrics that a COMPLETE trial has, be it as NaN."""
    packed = _packed_states(connection, search_id) if has_packs else {}
    known: set[str] = set()
    if packed:
        query = select(packed_metrics.c.name).where(packed_metrics.c.search_id == search_id).distinct()
        known.update(connection.execute(query).scalars())
    ranges = _not_packed(packed)
    for name in _names(connection, search_id):
        if name not in known and _is_measured(connection, search_id, name, ranges):
            known.add(name)
    return known


def state_counts(
    connection: Connection, search_id: int | None = None, *, has_packs: bool = True
) -> Mapping[int, dict[str, int]]:
    """Search id -> state -> how many trials have it, of one search or of all; packed trials are counted in packs."""
    counts: dict[int, dict[str, int]] = defaultdict(dict)
    packed = _all_packs(connection, search_id) if has_packs else {}
    for found_id, found in packed.items():
        codes = np.bincount(np.frombuffer(b"".join(found.values()), np.uint8), minlength=256)
        counts[found_id] = {state: int(codes[code]) for state, code in packing.CODES.items() if codes[code]}
        for numbers in _not_packed(found):
            # With the states named, the index by state leads to the few trials within the numbers.
            named = (*_in(trials, found_id, numbers), trials.c.state.in_([state.value for state in TrialState]))
            query = select(trials.c.state, func.count()).where(*named).group_by(trials.c.state)
            for state, count in connection.execute(query):
                counts[found_id][state] = counts[found_id].get(state, 0) + count
    query = select(trials.c.search_id, trials.c.state, func.count()).group_by(trials.c.search_id, trials.c.state)
    if search_id is None:
        query = query.where(trials.c.search_id.in_(select(searches.c.id).where(searches.c.id.not_in(packed))))
    elif packed:
        return counts
    else:
        query = query.where(trials.c.search_id == search_id)
    for found_id, state, count in connection.execute(query):
        counts[found_id][state] = count
    return counts


def _all_packs(connection: Connection, search_id: int | None) -> dict[int, dict[int, bytes]]:
    query = select(packs.c.search_id, packs.c.start, packs.c.states).order_by(packs.c.search_id, packs.c.start)
    found: dict[int, dict[int, bytes]] = {}
    for row_id, start, states in connection.execute(
        query if search_id is None else query.where(packs.c.search_id == search_id)
    ):
        found.setdefault(row_id, {})[start] = states
    return found


def _names(connection: Connection, search_id: int) -> Iterator[str]:
    """Names in ``metrics``, ascending, by one step in the index each: DISTINCT would read all rows."""
    last = ""
    while True:
        query = select(metrics.c.name).where(metrics.c.search_id == search_id, metrics.c.name > last)
        found = connection.execute(query.order_by(metrics.c.name).limit(1)).scalar()
        if found is None:
            return
        yield (last := found)


def _is_measured(connection: Connection, search_id: int, name: str, ranges: Collection[Range]) -> bool:
    """Whether a COMPLETE trial within the ranges has the metric."""
    same = (trials.c.search_id == metrics.c.search_id) & (trials.c.number == metrics.c.number)
    for numbers in ranges:
        query = select(metrics.c.number).join(trials, same).where(*_in(metrics, search_id, numbers))
        query = query.where(metrics.c.name == name, trials.c.state == TrialState.COMPLETE.value).limit(1)
        if connection.execute(query).first() is not None:
            return True
    return False


# --- packs -----------------------------------------------------------------------------------------------------------


def _packed_states(connection: Connection, search_id: int) -> dict[int, bytes]:
    query = select(packs.c.start, packs.c.states).where(packs.c.search_id == search_id).order_by(packs.c.start)
    return {row[0]: row[1] for row in connection.execute(query)}


def _fill_packed(
    connection: Connection, search_id: int, name: str, offsets: Mapping[int, int], column: np.ndarray
) -> None:
    if not offsets:
        return
    query = select(packed_metrics.c.start, packed_metrics.c.content).where(
        packed_metrics.c.search_id == search_id, packed_metrics.c.name == name
    )
    for start, content in connection.execute(query):
        values = np.frombuffer(content, "<f8")
        column[offsets[start] : offsets[start] + len(values)] = values


# --- rows ------------------------------------------------------------------------------------------------------------


def _not_packed(packed: Mapping[int, bytes]) -> list[Range]:
    """The numbers before, between and behind the packs (ascending)."""
    if not packed:
        return [(None, None)]
    ranges: list[Range] = []
    after = 0
    for start, states in packed.items():
        if after < start:
            ranges.append((after, start))
        after = start + len(states)
    return [*ranges, (after, None)]


def _in(table: Table, search_id: int, numbers: Range) -> list[ColumnElement[bool]]:
    conditions: list[ColumnElement[bool]] = [table.c.search_id == search_id]
    if numbers[0] is not None:
        conditions.append(table.c.number >= numbers[0])
    if numbers[1] is not None:
        conditions.append(table.c.number < numbers[1])
    return conditions


def _loose_numbers(connection: Connection, search_id: int, ranges: Collection[Range]) -> np.ndarray:
    """Numbers of the COMPLETE trials within the ranges, ascending."""
    parts = []
    for numbers in ranges:
        query = select(trials.c.number).where(
            *_in(trials, search_id, numbers), trials.c.state == TrialState.COMPLETE.value
        )
        parts.append(np.array(connection.execute(query).scalars().all(), np.int64))
    return np.sort(np.concatenate(parts))


def _read_rows(
    connection: Connection,
    search: tuple[int, float],
    names: Sequence[str],
    ranges: Collection[Range],
    loose: np.ndarray,
    earlier: MetricColumns | None,
) -> Rows:
    """Metrics of the trials ``loose`` within the ranges."""
    search_id, known = search[0], None if earlier is None else earlier.rows
    few = len(loose) <= _FEW
    added = _added(connection, search_id, ranges) if few else frozenset()
    values = {name: np.full(len(loose), np.nan) for name in names}
    again = known is not None and few and (known.search, known.added) == (search, added)
    if known is not None and again and len(known.numbers) and len(loose) and known.values.keys() >= set(names):
        place = np.minimum(np.searchsorted(known.numbers, loose), len(known.numbers) - 1)
        same = known.numbers[place] == loose
        for name, column in values.items():
            column[same] = known.values[name][place[same]]
        new = loose[~same].tolist()
        ranges = [(number, number + 1) for number in new] if len(new) <= _ONE_BY_ONE else ranges
    for name, column in values.items():
        _fill_loose(connection, search_id, name, ranges, loose, column)
    return Rows(search, added, loose, values)


def _added(connection: Connection, search_id: int, ranges: Collection[Range]) -> frozenset[Any]:
    """Metrics that were added to trials within the ranges: number, name and value."""
    found: set[Any] = set()
    for numbers in ranges:
        query = select(metrics.c.number, metrics.c.name, metrics.c.value)
        found.update(map(tuple, connection.execute(query.where(*_in(metrics, search_id, numbers), metrics.c.added))))
    return frozenset(found)


def _fill_loose(
    connection: Connection,
    search_id: int,
    name: str,
    ranges: Collection[Range],
    loose: np.ndarray,
    column: np.ndarray,
) -> None:
    if not len(loose):
        return
    for numbers in ranges:
        # Over a few trials the key (search, number) is the way; '' keeps the planner from walking through the metric
        # of all trials, which is the way when none is packed.
        this = metrics.c.name == name if numbers == (None, None) else metrics.c.name + "" == name
        query = select(metrics.c.number, metrics.c.value).where(
            *_in(metrics, search_id, numbers), this, metrics.c.value.is_not(None)
        )
        rows: Sequence[Any] = connection.execute(query).all()
        if rows:
            found, values = (np.array(part) for part in zip(*rows, strict=True))
            place = np.minimum(np.searchsorted(loose, found), len(loose) - 1)
            known = loose[place] == found
            column[place[known]] = values[known]


def _sorted(found: MetricColumns, head: int) -> MetricColumns:
    """By number: the rows behind ``head`` may belong between the others."""
    numbers = found.numbers
    if head in (0, len(numbers)) or numbers[head - 1] < numbers[head]:
        return found
    order = np.argsort(numbers, kind="stable")
    values = {name: column[order] for name, column in found.values.items()}
    return MetricColumns(numbers[order], found.complete[order], values)


def _bound(constraint: Constraint, baseline: Mapping[str, float]) -> float:
    if constraint.relative and constraint.metric not in baseline:
        raise ConfigError(
            f"constraint '{constraint}': the baseline has no metric {constraint.metric!r}.",
            did_you_mean(constraint.metric, baseline),
        )
    return constraint.bound(baseline)
