"""Routes that read searches, trials and candidates."""

from __future__ import annotations

from typing import Annotated, Literal

import numpy as np
from fastapi import APIRouter, Query, Response

from autoprune.api.reader import Page
from autoprune.api.views import ranked_numbers
from autoprune.errors import ConfigError
from autoprune.service.context import Context, Here
from autoprune.service.parameters import Number, SearchName, Where, errors
from autoprune.service.replies import encoded, reply
from autoprune.service.schemas import CandidateBody, SearchBody, SearchesBody, TrialsBody
from autoprune.service.shapes import candidate_body, search_body, search_summary, trial_body
from autoprune.types import TrialState

__all__ = ["router"]

router = APIRouter(tags=["searches"], responses=errors())

_State = Literal["running", "complete", "stopped", "infeasible", "diverged", "failed"]


@router.get("/searches", response_model=SearchesBody)
def searches(here: Here) -> Response:
    """All searches of the store, the youngest first."""
    activity = here.reader.activity()
    driven = {name for name, (_, held) in activity.items() if held}
    found = [search_summary(record, driven=record.name in driven) for record in here.reader.searches()]
    return reply({"searches": found})


@router.get("/searches/{name}", response_model=SearchBody)
def search(name: SearchName, here: Here) -> Response:
    """One search, with its configuration."""
    record = here.reader.search(name)
    metrics = sorted(here.reader.measured(name))
    return reply(search_body(record, driven=here.reader.driven(name), metrics=metrics))


@router.get("/searches/{name}/trials", response_model=TrialsBody)
def trials(
    name: SearchName,
    here: Here,
    state: Annotated[list[_State], Query(description="Only these; may be given several times.")] = [],  # noqa: B006
    where: Where = [],  # noqa: B006
    sort: Annotated[
        str,
        Query(
            max_length=100,
            pattern="^-?[A-Za-z_][A-Za-z0-9_]*$",
            description="`number`, or a metric that only complete trials have; `-` before it: descending.",
            examples=["number", "-top1"],
        ),
    ] = "number",
    after: Annotated[
        int | None, Query(ge=-1, le=2**31, description="Only trials with a higher number: for polling.")
    ] = None,
    cursor: Annotated[str | None, Query(pattern="^[0-9]{1,10}$", description="`next` of the page before.")] = None,
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
) -> Response:
    """A page of trials. Budgets in `where` hold for complete trials only, since others have no final metrics."""
    metric, descending = sort.removeprefix("-"), sort.startswith("-")
    states = {TrialState(each) for each in state} or None
    last = None if cursor is None else int(cursor)
    if metric == "number" and not where:
        return _by_number(here, name, states, after, last, descending, limit)
    if states is not None and TrialState.COMPLETE not in states:
        return reply({"next": None, "total": 0}, lists={"trials": here.bodies.of(name, [])})
    numbers = ranked_numbers(here.reader, name, where=where, sort=metric, descending=descending)
    return _of_ranking(here, name, numbers if after is None else numbers[numbers > after], last, limit)


def _by_number(
    here: Context,
    name: str,
    states: set[TrialState] | None,
    after: int | None,
    last: int | None,
    descending: bool,
    limit: int,
) -> Response:
    if last is not None and not descending:
        after = last if after is None else max(after, last)
    page = Page(limit + 1, after, last if descending else None, descending, states)
    if states is None:
        numbers = here.reader.numbers(name, page)
        found = here.bodies.of(name, numbers[:limit])
    else:  # what is asked for by its state must not have another one a moment later
        trials = here.reader.page(name, page)
        numbers, found = [each.number for each in trials], [encoded(trial_body(each)) for each in trials[:limit]]
    following = str(numbers[limit - 1]) if len(numbers) > limit else None
    return reply({"next": following, "total": None}, lists={"trials": found})


def _of_ranking(here: Context, name: str, numbers: np.ndarray, last: int | None, limit: int) -> Response:
    begin = 0
    if last is not None:
        places = np.flatnonzero(numbers == last)
        if not len(places):
            raise ConfigError(f"cursor {last} is not of this list.", "Begin again without a cursor.")
        begin = int(places[0]) + 1
    page = numbers[begin : begin + limit].tolist()
    following = str(page[-1]) if begin + limit < len(numbers) else None
    return reply({"next": following, "total": len(numbers)}, lists={"trials": here.bodies.of(name, page)})


@router.get("/searches/{name}/trials/{number}", response_model=CandidateBody)
def candidate(name: SearchName, number: Number, here: Here) -> Response:
    """One candidate: its widths against the baseline, its metrics, where it comes from."""
    return reply(candidate_body(here.reader.search(name), here.reader.trial(name, number)))
