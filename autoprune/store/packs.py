"""Finished trials as arrays: what a query over a million trials reads instead of their rows.

A pack holds ``SIZE`` consecutive trials of a search, and is written when all of them have finished. The rows stay the
truth: a pack that is missing costs a query time and nothing else, and it can be made from the rows again.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
from sqlalchemy import ColumnElement, Connection, Table, delete, func, select, update

from autoprune.store.tables import metrics, packed_metrics, packs, trials
from autoprune.types import TrialState

__all__ = ["CODES", "COMPLETE", "amend", "disagreeing", "drop", "is_time", "pack_next", "starts"]

SIZE = 4096
"""Trials in a pack; always a multiple of it begins one."""

CODES: Mapping[str, int] = {
    TrialState.COMPLETE.value: 1,
    TrialState.STOPPED.value: 2,
    TrialState.INFEASIBLE.value: 3,
    TrialState.DIVERGED.value: 4,
    TrialState.FAILED.value: 5,
}
COMPLETE = CODES[TrialState.COMPLETE.value]


def is_time(number: int) -> bool:
    """Whether to look for a full pack after trial ``number``: now and then, since trials may finish in any order."""
    return (number + 1) % max(1, SIZE // 64) == 0


def starts(connection: Connection, search_id: int) -> list[int]:
    """First numbers of the packs, ascending."""
    query = select(packs.c.start).where(packs.c.search_id == search_id).order_by(packs.c.start)
    return list(connection.execute(query).scalars())


def pack_next(connection: Connection, search_id: int) -> bool:
    """Write the first pack that is due; False when none is."""
    for start in _due(connection, search_id):
        made = _from_rows(connection, search_id, start)
        if made is not None:
            states, columns = made
            this = {"search_id": search_id, "start": start}
            connection.execute(packs.insert(), {**this, "states": states})
            contents = [{**this, "name": name, "content": content} for name, content in columns.items()]
            if contents:
                connection.execute(packed_metrics.insert(), contents)
            return True
    return False


def amend(connection: Connection, search_id: int, number: int, values: Mapping[str, float]) -> None:
    """Repeat metrics that were added to a COMPLETE trial in its pack, if it has one."""
    start = number - number % SIZE
    if connection.execute(select(packs.c.start).where(*_at(packs, search_id, start))).one_or_none() is None:
        return
    for name, value in values.items():
        here = (*_at(packed_metrics, search_id, start), packed_metrics.c.name == name)
        found = connection.execute(select(packed_metrics.c.content).where(*here)).scalar_one_or_none()
        column = np.full(SIZE, np.nan, "<f8") if found is None else np.frombuffer(found, "<f8").copy()
        column[number - start] = value
        content = column.tobytes()
        if found is None:
            row = {"search_id": search_id, "start": start, "name": name, "content": content}
            connection.execute(packed_metrics.insert(), row)
        else:
            connection.execute(update(packed_metrics).where(*here).values(content=content))


def drop(connection: Connection, search_id: int) -> None:
    """Delete the packs of a search; ``pack_next`` makes them again."""
    for table in (packed_metrics, packs):
        connection.execute(delete(table).where(table.c.search_id == search_id))


def disagreeing(connection: Connection, search_id: int) -> list[int]:
    """First numbers of the packs that do not say what the rows say."""
    return [
        start
        for start in starts(connection, search_id)
        if _stored(connection, search_id, start) != _from_rows(connection, search_id, start)
    ]


def _due(connection: Connection, search_id: int) -> list[int]:
    """First numbers of packs that are not written and of which no trial runs."""
    last = connection.execute(select(func.max(trials.c.number)).where(trials.c.search_id == search_id)).scalar()
    if last is None or last + 1 < SIZE:
        return []
    running = select(trials.c.number).where(trials.c.search_id == search_id, trials.c.state == TrialState.RUNNING.value)
    busy = {number - number % SIZE for number in connection.execute(running).scalars()}
    done = busy.union(starts(connection, search_id))
    return [start for start in range(0, last + 2 - SIZE, SIZE) if start not in done]


def _from_rows(connection: Connection, search_id: int, start: int) -> tuple[bytes, dict[str, bytes]] | None:
    """What the pack must hold: states, and the content by metric; None while a trial of it is missing or runs."""
    states = select(trials.c.number, trials.c.state).where(*_within(trials, search_id, start))
    codes = {number: CODES.get(state, 0) for number, state in connection.execute(states).all()}
    if len(codes) < SIZE or not all(codes.values()):
        return None
    columns: dict[str, list[float]] = {}
    values = select(metrics.c.number, metrics.c.name, metrics.c.value).where(*_within(metrics, search_id, start))
    for number, name, value in connection.execute(values).all():
        if codes[number] == COMPLETE:
            if name not in columns:
                columns[name] = [math.nan] * SIZE
            columns[name][number - start] = math.nan if value is None else value
    contents = {name: np.array(column, "<f8").tobytes() for name, column in columns.items()}
    return bytes(codes[start + i] for i in range(SIZE)), contents


def _stored(connection: Connection, search_id: int, start: int) -> tuple[bytes, dict[str, bytes]]:
    states = connection.execute(select(packs.c.states).where(*_at(packs, search_id, start))).scalar_one()
    contents = select(packed_metrics.c.name, packed_metrics.c.content).where(*_at(packed_metrics, search_id, start))
    return bytes(states), {name: bytes(content) for name, content in connection.execute(contents)}


def _at(table: Table, search_id: int, start: int) -> tuple[ColumnElement[bool], ...]:
    return table.c.search_id == search_id, table.c.start == start


def _within(table: Table, search_id: int, start: int) -> tuple[ColumnElement[bool], ...]:
    return table.c.search_id == search_id, table.c.number >= start, table.c.number < start + SIZE
