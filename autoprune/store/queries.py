"""Reading searches and trials. Functions of an open connection."""

from __future__ import annotations

import json
import math
from collections import defaultdict
from collections.abc import Collection
from typing import Any

from sqlalchemy import ColumnElement, Connection, Select, bindparam, func, select
from sqlalchemy.engine import Row

from autoprune.errors import NotFound, did_you_mean
from autoprune.store.columns import state_counts
from autoprune.store.rows import search_from, trial_from
from autoprune.store.tables import metrics, searches, trials
from autoprune.types import SearchRecord, Trial, TrialState, WorkerTotals

__all__ = [
    "lookup",
    "mean_metric",
    "noted",
    "reused",
    "search_record",
    "search_records",
    "search_row",
    "trials_of",
    "worker_totals",
]

_CHUNK = 500
"""Numbers in one IN list."""
_TIMED = 50_000
"""Trials whose timings are read for the seconds of their workers."""


def search_row(connection: Connection, name: str, *, lock: bool = False) -> Row[Any]:
    """All columns of one search; with ``lock``, nobody else writes it until the transaction ends.

    Raises NotFound with the nearest names.
    """
    query = select(searches).where(searches.c.name == name)
    row = connection.execute(query.with_for_update() if lock else query).one_or_none()
    if row is None:
        known = connection.execute(select(searches.c.name)).scalars().all()
        raise NotFound(f"no search named {name!r} in this store.", did_you_mean(name, known))
    return row


def search_record(connection: Connection, name: str, *, has_packs: bool = True) -> SearchRecord:
    row = search_row(connection, name)
    return search_from(row, state_counts(connection, row.id, has_packs=has_packs).get(row.id, {}))


def search_records(connection: Connection, *, has_packs: bool = True) -> list[SearchRecord]:
    """All searches, the youngest first."""
    counts = state_counts(connection, has_packs=has_packs)
    rows = connection.execute(select(searches).order_by(searches.c.created_at.desc(), searches.c.id.desc()))
    return [search_from(row, counts.get(row.id, {})) for row in rows]


# --- trials ----------------------------------------------------------------------------------------------------------


def trials_of(
    connection: Connection,
    search_id: int,
    *,
    states: Collection[TrialState] | None = None,
    numbers: Collection[int] | None = None,
    limit: int | None = None,
    after: int | None = None,
    before: int | None = None,
    descending: bool = False,
) -> list[Trial]:
    """Trials by number, with their metrics: two statements, or two a chunk of ``numbers``.

    ``limit``: no more than so many (of each chunk). ``after`` and ``before`` are numbers that are left out.
    """
    order = trials.c.number.desc() if descending else trials.c.number
    query = select(trials).where(trials.c.search_id == search_id).order_by(order).limit(limit)
    if after is not None:
        query = query.where(trials.c.number > after)
    if before is not None:
        query = query.where(trials.c.number < before)
    if states is not None:
        query = query.where(trials.c.state.in_([state.value for state in states]))
    if numbers is None:
        return _with_metrics(connection, query, search_id)
    found: list[Trial] = []
    ordered = sorted(numbers)
    for start in range(0, len(ordered), _CHUNK):
        chunk = query.where(trials.c.number.in_(ordered[start : start + _CHUNK]))
        found += _with_metrics(connection, chunk, search_id)
    return found


def _with_metrics(
    connection: Connection, query: Select[Any], search_id: int, *only: ColumnElement[bool]
) -> list[Trial]:
    """The trials that ``query`` selects in one search, with those metrics that meet ``only``."""
    rows = connection.execute(query).all()
    wanted = query.with_only_columns(trials.c.number)
    values = select(metrics.c.number, metrics.c.name, metrics.c.value).where(
        metrics.c.search_id == search_id, metrics.c.number.in_(wanted), *only
    )
    by_number: dict[int, dict[str, float]] = defaultdict(dict)
    # The order of a file's key costs it nothing; a server would give another one after every change.
    for number, name, value in connection.execute(values.order_by(metrics.c.number, metrics.c.name)).all():
        by_number[number][name] = math.nan if value is None else value
    return [trial_from(row, by_number.get(row[1], {})) for row in rows]


def noted(connection: Connection, search_id: int, key: str, value: str) -> list[int]:
    """Numbers of the trials whose note has this under this key, ascending. Reads every row of the search."""
    inside = json.dumps({key: value})[1:-1]
    query = select(trials.c.number).where(
        trials.c.search_id == search_id, trials.c.note.contains(inside, autoescape=True)
    )
    return list(connection.execute(query.order_by(trials.c.number)).scalars())


def reused(connection: Connection, search_id: int) -> int:
    """How many trials were looked up instead of measured again. Reads every row of the search."""
    query = select(func.count()).where(trials.c.search_id == search_id, trials.c.duplicate_of != "")
    return int(connection.execute(query).scalar_one())


def mean_metric(connection: Connection, search_id: int, state: TrialState, name: str) -> float | None:
    """Mean of a metric over the trials of one state that have it as a number; None without any."""
    query = (
        select(func.avg(metrics.c.value))
        .join(trials, (trials.c.search_id == metrics.c.search_id) & (trials.c.number == metrics.c.number))
        .where(trials.c.search_id == search_id, trials.c.state == state.value, metrics.c.name == name)
    )
    return connection.execute(query).scalar()


def worker_totals(connection: Connection, search_id: int) -> list[WorkerTotals]:
    """By worker and state; trials that were looked up have no worker. Seconds are those that workers report; of more
    than 50,000 trials, some are read and stand for all."""
    mine = (trials.c.search_id == search_id, trials.c.worker != "", trials.c.duplicate_of == "")
    ends = (trials.c.worker, trials.c.state)
    counted = connection.execute(select(*ends, func.count()).where(*mine).group_by(*ends)).all()
    step = max(1, sum(count for *_, count in counted) // _TIMED)
    timed = select(*ends, trials.c.timings).where(*mine, trials.c.number % step == 0)
    seconds: dict[tuple[str, str], list[float]] = defaultdict(list)
    for worker, state, timings in connection.execute(timed):
        phases = json.loads(timings)
        busy = math.fsum(phases[name] for name in phases if name != "wait")
        seconds[worker, state].append(busy)
        seconds["", state].append(busy)
    return [
        WorkerTotals(worker, TrialState(state), count, _mean(seconds[worker, state] or seconds["", state]) * count)
        for worker, state, count in counted
    ]


def _mean(values: list[float]) -> float:
    return math.fsum(values) / len(values) if values else 0.0


_MEASURED = [TrialState.COMPLETE.value, TrialState.DIVERGED.value, TrialState.INFEASIBLE.value]
_lookup = (
    select(searches.c.name, trials.c.search_id, trials.c.number)
    .join(searches, searches.c.id == trials.c.search_id)
    .where(
        trials.c.digest == bindparam("candidate"),
        searches.c.evaluation_digest == bindparam("evaluation"),
        trials.c.state.in_(_MEASURED),
    )
    # A complete measurement says more than an infeasible one, and the original more than its copies.
    .order_by(trials.c.state != TrialState.COMPLETE.value, trials.c.duplicate_of != "", trials.c.finished_at)
    .limit(1)
)


def lookup(connection: Connection, evaluation_digest: str, candidate_digest: str) -> tuple[str, Trial] | None:
    """A measurement of an equal candidate under an equal evaluation, in any search, without metrics added later."""
    values = {"candidate": candidate_digest, "evaluation": evaluation_digest}
    row = connection.execute(_lookup, values).one_or_none()
    if row is None:
        return None
    query = select(trials).where(trials.c.search_id == row.search_id, trials.c.number == row.number)
    return row.name, _with_metrics(connection, query, row.search_id, metrics.c.added.is_(False))[0]
