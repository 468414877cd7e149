"""Parameters that several routes take, and the errors that every route may answer with."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import Path, Query

from autoprune.service.schemas import ErrorBody

__all__ = ["CostAxis", "Errors", "Number", "QualityAxis", "SearchName", "ThirdAxis", "Where", "errors"]

SearchName = Annotated[
    str, Path(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$", description="A search.", examples=["digits-quickstart"])
]
Number = Annotated[int, Path(ge=0, le=2**31, description="A trial of the search.", examples=[7])]
_Budget = Annotated[str, Query(max_length=200)]
Where = Annotated[
    list[_Budget],
    Query(
        max_length=20,
        description="A budget such as `macs <= 0.5 * baseline`; may be given several times.",
        examples=[["macs <= 0.5 * baseline", "params <= 200k"]],
    ),
]
CostAxis = Annotated[
    str | None, Query(max_length=100, description="The cost; by default the search's own.", examples=["macs"])
]
QualityAxis = Annotated[
    str | None,
    Query(max_length=100, description="The quality; `METRIC max` sets its direction.", examples=["top1", "loss min"]),
]
ThirdAxis = Annotated[str | None, Query(max_length=100, description="A third axis.", examples=["params"])]

Errors = dict[int | str, dict[str, Any]]
_TEXTS = {
    400: "The request is not HTTP or JSON as expected.",
    401: "No valid token.",
    403: "The Host, the Origin or the token's scope does not allow it.",
    404: "There is no such thing.",
    405: "Not with this method.",
    408: "The body took too long.",
    409: "It is not possible now.",
    413: "The body is too long.",
    415: "Bodies are JSON or YAML.",
    422: "A parameter or the body is not valid.",
    429: "Too many requests; see Retry-After.",
    500: "A defect.",
    503: "The store cannot be used now.",
}
_ALWAYS = (400, 401, 403, 404, 405, 408, 413, 422, 429, 500, 503)


def errors(*more: int) -> Errors:
    """Documented error answers of a route: those that any request can get, and ``more``."""
    return {status: {"model": ErrorBody, "description": _TEXTS[status]} for status in sorted({*_ALWAYS, *more})}
