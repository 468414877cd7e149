"""Whether the trials of one search are what a session writes. Functions of a connection; memory stays constant."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, and_, func, inspect, or_, select
from sqlalchemy.engine import Row

from autoprune.store import packs
from autoprune.store.tables import metrics, searches, trials
from autoprune.types import Candidate, TrialState

__all__ = ["Fault", "decoded", "trial_faults"]

_PAGE = 4096
_SHOWN = 5
_LARGEST = 1.7976931348623157e308


@dataclass(frozen=True)
class Fault:
    """One thing that is not as it must be."""

    check: str
    message: str
    expected: str = ""
    search: str = ""
    serious: bool = True
    """False: it is worth knowing, and mends itself or does no harm."""


def decoded(text: str) -> object:
    """The content of a JSON column; None when it is damaged."""
    try:
        return json.loads(text)
    except (TypeError, ValueError, RecursionError):
        return None


def trial_faults(
    connection: Connection, search: Row[Any], required: Sequence[str], channels: Mapping[str, int], *, driven: bool
) -> Iterator[Fault]:
    """What is wrong with the trials of the search in ``search`` (all columns of ``searches``).

    Args:
        required: metrics that every COMPLETE trial must have as a finite number.
        channels: full width of each group; empty where the search does not say.
        driven: a driver that may live holds the search, so RUNNING trials are in order.
    """
    yield from _numbers(connection, search)
    yield from _running(connection, search, driven)
    yield from _required(connection, search, required)
    yield from _rows(connection, search, channels)
    if inspect(connection).has_table("packs"):
        for start in packs.disagreeing(connection, search.id):
            text = f"the pack of the trials from {start} on does not say what their rows say."
            yield Fault("packs", text, "equal", search.name)


def _numbers(connection: Connection, search: Row[Any]) -> Iterator[Fault]:
    """The primary key lets no number be there twice, so the first, the last and the count say all."""
    number = trials.c.number
    query = select(func.count(), func.min(number), func.max(number)).where(trials.c.search_id == search.id)
    count, first, last = connection.execute(query).one()
    if count and (first != 0 or last != count - 1):
        yield Fault("numbers", f"{count} trials have numbers from {first} to {last}.", f"0 to {count - 1}", search.name)


def _running(connection: Connection, search: Row[Any], driven: bool) -> Iterator[Fault]:
    this = (trials.c.search_id == search.id, trials.c.state == TrialState.RUNNING.value)
    numbers = connection.execute(select(trials.c.number).where(*this).order_by(trials.c.number)).scalars().all()
    if numbers and not driven:
        text = f"{_named(numbers)} began and nobody drives the search: they will run again on resume."
        yield Fault("running", text, "", search.name, serious=False)
    is_running = trials.c.state == TrialState.RUNNING.value
    timed = trials.c.finished_at.is_not(None)
    times = or_(and_(is_running, timed), and_(~is_running, ~timed))
    odd = connection.execute(select(trials.c.number).where(trials.c.search_id == search.id, times).limit(99))
    if found := odd.scalars().all():
        text = f"{_named(found)}: finished without a time, or running with one."
        yield Fault("states", text, "a time when it has finished", search.name)


def _required(connection: Connection, search: Row[Any], required: Sequence[str]) -> Iterator[Fault]:
    complete = (trials.c.search_id == search.id, trials.c.state == TrialState.COMPLETE.value)
    total = connection.execute(select(func.count()).select_from(trials).where(*complete)).scalar_one()
    same = (trials.c.search_id == metrics.c.search_id) & (trials.c.number == metrics.c.number)
    infinite = or_(metrics.c.value > _LARGEST, metrics.c.value < -_LARGEST)
    for name in required:
        with_it = select(metrics.c.number).join(trials, same).where(metrics.c.name == name, *complete)
        held = connection.execute(select(func.count()).select_from(with_it.subquery())).scalar_one()
        if held != total:
            text = f"{total - held} of {total} complete trials lack {name}."
            yield Fault("metrics", text, "every complete trial has it", search.name)
        bad = with_it.where(or_(metrics.c.value.is_(None), infinite)).order_by(metrics.c.number)
        if found := connection.execute(bad).scalars().all():
            text = f"{name} is not finite in complete {_named(found)}."
            yield Fault("metrics", text, "a finite number", search.name)


def _rows(connection: Connection, search: Row[Any], channels: Mapping[str, int]) -> Iterator[Fault]:
    """One pass over all rows: what each says by itself, and whether what it was copied from is there."""
    found: dict[tuple[str, str], list[int]] = defaultdict(list)
    last, more = -(2**31), True
    while more:
        query = select(trials).where(trials.c.search_id == search.id, trials.c.number > last)
        page = connection.execute(query.order_by(trials.c.number).limit(_PAGE)).all()
        for row in page:
            for fault in _row(row, channels):
                found[fault].append(row.number)
        copies = {row.number: row.duplicate_of for row in page if row.duplicate_of}
        for number, fault in _copies(connection, copies, {row.number: row.digest for row in page}):
            found[fault].append(number)
        more = len(page) == _PAGE
        last = page[-1].number if page else last
    for (check, text), numbers in found.items():
        serious = check != "origins"
        yield Fault("duplicates" if not serious else check, f"{_named(numbers)}: {text}", "", search.name, serious)


_STATES = {state.value for state in TrialState}


def _row(row: Row[Any], channels: Mapping[str, int]) -> Iterator[tuple[str, str]]:
    if row.state not in _STATES:
        yield "states", "in a state that is unknown."
    widths = decoded(row.widths)
    if not isinstance(widths, dict) or not all(type(width) is int for width in widths.values()):
        yield "content", "the widths are no JSON object of integers."
        return
    if Candidate(widths).digest != row.digest:
        yield "digests", "the digest is not that of the widths."
    if channels and (widths.keys() != channels.keys() or any(not 0 < widths[g] <= channels[g] for g in widths)):
        yield "content", "the widths are not those of the search's groups."
    if not isinstance(decoded(row.note), dict) or not isinstance(decoded(row.timings), dict):
        yield "content", "note or timings are no JSON object."


def _copies(
    connection: Connection, copies: Mapping[int, str], digests: Mapping[int, str]
) -> Iterator[tuple[int, tuple[str, str]]]:
    """What is wrong with the trials (number -> ``search/number``) whose measurement was looked up."""
    wanted: dict[str, set[int]] = defaultdict(set)
    for origin in copies.values():
        name, _, number = origin.rpartition("/")
        wanted[name].add(int(number) if number.isdecimal() and len(number) < 10 else -1)
    known: dict[str, dict[int, str]] = {}
    for name, numbers in wanted.items():
        search_id = connection.execute(select(searches.c.id).where(searches.c.name == name)).scalar()
        if search_id is not None:
            known[name] = _digests(connection, search_id, sorted(numbers))
    for copy, origin in copies.items():
        name, _, number = origin.rpartition("/")
        if name not in known:
            yield copy, ("origins", f"copied from search {name!r}, which is no longer here.")
        elif not number.isdecimal() or int(number) not in known[name]:
            yield copy, ("duplicates", f"copied from a trial of {name!r} that is not there.")
        elif known[name][int(number)] != digests[copy]:
            yield copy, ("duplicates", f"copied from a trial of {name!r} that has other widths.")


def _digests(connection: Connection, search_id: int, numbers: Sequence[int]) -> dict[int, str]:
    found: dict[int, str] = {}
    for start in range(0, len(numbers), 500):
        query = select(trials.c.number, trials.c.digest).where(
            trials.c.search_id == search_id, trials.c.number.in_(numbers[start : start + 500])
        )
        found.update((row.number, row.digest) for row in connection.execute(query))
    return found


def _named(numbers: Sequence[int]) -> str:
    """
    >>> _named([3]), _named(range(9))
    ('trial 3', 'trials 0, 1, 2, 3, 4 and 4 others')
    """
    if len(numbers) == 1:
        return f"trial {numbers[0]}"
    shown = ", ".join(str(number) for number in numbers[:_SHOWN])
    rest = f" and {len(numbers) - _SHOWN} others" if len(numbers) > _SHOWN else ""
    return f"trials {shown}{rest}"
