"""Routes that compute over all trials of a search: front, selection, history; and comparisons that were made."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response

from autoprune.analysis.front import front_axes
from autoprune.api.preset_points import preset_points
from autoprune.api.queries import choosing_by, own_axes, read_history, read_select
from autoprune.api.reader import Page
from autoprune.api.views import FrontView, Points, front_view
from autoprune.config.expressions import parse_constraint
from autoprune.errors import NotFound
from autoprune.files import Damaged, without_digest
from autoprune.service.context import Context, Here
from autoprune.service.parameters import CostAxis, QualityAxis, SearchName, ThirdAxis, Where, errors
from autoprune.service.replies import encoded, reply
from autoprune.service.schemas import (
    ComparisonsBody,
    FrontBody,
    HistoryBody,
    InfeasibleBody,
    PresetsBody,
    SelectionBody,
)
from autoprune.service.shapes import axis_body, trial_body

__all__ = ["router"]

router = APIRouter(tags=["fronts"], responses=errors())

_UNCHANGED: dict[int | str, dict[str, Any]] = {304: {"description": "As the client has it (If-None-Match)."}}
_INFEASIBLE: dict[int | str, dict[str, Any]] = {
    422: {"model": InfeasibleBody, "description": "Nothing meets the budgets, with the nearest miss; or not valid."}
}
_Metric = Annotated[str | None, Query(max_length=100, examples=["top1"])]
_REPORT_BYTES = 32 * 1024 * 1024


@router.get("/searches/{name}/front", response_model=FrontBody, responses=_UNCHANGED)
async def front(
    name: SearchName,
    here: Here,
    request: Request,
    x: CostAxis = None,
    y: QualityAxis = None,
    z: ThirdAxis = None,
    where: Where = [],  # noqa: B006
    others: Annotated[
        int, Query(ge=0, le=20_000, description="At most so many trials off the front (and all with uniform widths).")
    ] = 0,
) -> Response:
    """The Pareto front on two or three axes among the complete trials that meet every budget.

    With `others`, some of the trials behind it, evenly spread; the front itself is never thinned.
    """

    def make(stamp: float) -> bytes:
        view = front_view(here.reader, name, x=x, y=y, z=z, where=where, others=others)
        return _front_body(here, name, view, stamp)

    return await here.answer(request, name, ("front", x, y, z, tuple(where), others), make)


def _front_body(here: Context, name: str, view: FrontView, stamp: float) -> bytes:
    content = {
        "search": name,
        "axes": [axis_body(each) for each in view.axes],
        "constraints": [str(each) for each in view.constraints],
        "baseline": here.reader.baseline(name),
        "considered": view.considered,
        "others": {**_points(view.others), "total": view.others_total},
        "uniform": view.uniform.tolist(),
        "updated_at": stamp,
    }
    return encoded(content, {"front": here.bodies.of(name, view.members.numbers.tolist())})


def _points(points: Points) -> dict[str, Any]:
    return {"number": points.numbers.tolist(), "values": [column.tolist() for column in points.values.T]}


@router.get("/searches/{name}/select", response_model=SelectionBody, responses=_INFEASIBLE)
def select(
    name: SearchName,
    here: Here,
    where: Where = [],  # noqa: B006
    maximize: _Metric = None,
    minimize: _Metric = None,
) -> Response:
    """The best trial under all budgets at once. When there is none: 422 with the trial that comes nearest."""
    constraints = [item for text in where for item in parse_constraint(text)]
    found = read_select(here.reader, name, constraints, choosing_by(maximize, minimize, constraints))
    return reply(
        {
            "search": name,
            "trial": trial_body(found.trial),
            "baseline": found.baseline,
            "considered": found.considered,
        }
    )


@router.get("/searches/{name}/history", response_model=HistoryBody, responses=_UNCHANGED)
async def history(
    name: SearchName,
    here: Here,
    request: Request,
    x: CostAxis = None,
    y: QualityAxis = None,
    every: Annotated[bool, Query(description="All trials instead, without seconds.")] = False,
) -> Response:
    """How the hypervolume of two metrics grew: the trials that moved it, and the last."""

    def make(stamp: float) -> bytes:
        found = read_history(here.reader, name, front_axes(*own_axes(here.reader, name, x, y)))
        at = slice(None) if every else found.moves
        numbers = found.numbers[at].tolist()
        times = here.reader.finished_times(name, [] if every else numbers)
        first = here.reader.page(name, Page(1))
        begin = first[0].started_at if first else 0.0
        reference = zip(found.objectives, found.reference.tolist(), strict=True)
        content = {
            "search": name,
            "axes": [axis_body(each) for each in found.objectives],
            "reference": {each.metric: value for each, value in reference},
            "box": found.box,
            "trials": len(found.numbers),
            "trial": numbers,
            "hypervolume": found.volumes[at].tolist(),
            "share": found.shares[at].tolist(),
            "seconds": [times[number] - begin if number in times else None for number in numbers if not every],
        }
        return encoded(content)

    return await here.answer(request, name, ("history", x, y, every), make)


@router.get("/searches/{name}/presets", response_model=PresetsBody)
def presets(name: SearchName, here: Here) -> Response:
    """What `autoprune prune PROCEDURE ... --search NAME` made, to be seen beside the front: never part of it."""
    here.reader.stamp(name)
    found = preset_points(here.reader.store, name)
    shown = [{"label": each.label, "widths": dict(each.widths), "metrics": dict(each.metrics)} for each in found]
    return reply({"presets": shown})


@router.get("/searches/{name}/comparisons", response_model=ComparisonsBody)
def comparisons(name: SearchName, here: Here) -> Response:
    """What `autoprune compare` found for this search: inherited against new weights."""
    output = Path(str(here.reader.config(name).get("output", "results")))
    path = output / name / "compare" / "comparison.json"
    try:
        status = path.stat()
        content = json.loads(path.read_text("utf-8")) if status.st_size <= _REPORT_BYTES else None
    except (OSError, ValueError):
        content = None
    if not isinstance(content, dict):
        raise NotFound(f"search {name!r} has no comparison.", f"Make one with 'autoprune compare {name}'.")
    try:
        content = without_digest(content)
    except Damaged as error:
        raise NotFound(
            f"the comparison of search {name!r} is damaged: {error.message}.",
            f"Make it again with 'autoprune compare {name}'.",
        ) from None
    return reply({"comparisons": [{"search": name, "report": content, "written_at": status.st_mtime}]})
