"""Answers: JSON without NaN, and one shape for every error."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.types import Send

from autoprune.analysis.finite import finite
from autoprune.errors import (
    AutopruneError,
    ConfigError,
    Conflict,
    ExportMismatch,
    NotFound,
    NothingFeasible,
    SearchAborted,
    StoreError,
)
from autoprune.logs import emit

__all__ = ["add_handlers", "encoded", "error_reply", "refusal", "reply", "send_refusal"]

_log = logging.getLogger(__name__)

_CODES: Mapping[type[AutopruneError], str] = {
    ConfigError: "invalid",
    NotFound: "not_found",
    Conflict: "conflict",
    StoreError: "store_unavailable",
    NothingFeasible: "nothing_feasible",
    SearchAborted: "aborted",
    ExportMismatch: "export_mismatch",
}
_BY_STATUS = {403: "not_allowed"}
_HTTP_CODES = {400: "bad_request", 404: "not_found", 405: "method_not_allowed", 415: "unsupported_media_type"}
_SHOWN = 20


def encoded(content: Any, lists: Mapping[str, Sequence[bytes]] | None = None) -> bytes:
    """JSON in UTF-8; a number that is not finite is null.

    Args:
        lists: further members of an object with something in it; each a list whose elements are JSON already.

    >>> encoded({"a": float("inf")}, {"b": [b"1", b"{}"]})
    b'{"a":null,"b":[1,{}]}'
    """
    try:
        text = json.dumps(content, allow_nan=False, separators=(",", ":"))
    except (TypeError, ValueError):  # seldom: going through all of it takes longer than writing it
        text = json.dumps(finite(content), allow_nan=False, separators=(",", ":"))
    found = text.encode("utf-8", "replace")
    if not lists:
        return found
    more = (b"%s:[%s]" % (json.dumps(name).encode(), b",".join(parts)) for name, parts in lists.items())
    return b",".join([found[:-1], *more]) + b"}"


def reply(content: Any, status: int = 200, lists: Mapping[str, Sequence[bytes]] | None = None) -> Response:
    """A JSON answer; ``lists`` as in ``encoded``."""
    return Response(encoded(content, lists), status, media_type="application/json")


def refusal(code: str, message: str, hint: str = "") -> dict[str, Any]:
    """The body of an error."""
    return {"error": {"code": code, "message": message, "hint": hint}}


def error_reply(error: AutopruneError) -> Response:
    """One of autoprune's own errors, with the nearest miss where it has one."""
    code = next((_CODES[kind] for kind in type(error).__mro__ if kind in _CODES), "failed")
    code = _BY_STATUS.get(error.http_status, code)
    content = refusal(code, error.message, error.hint)
    if isinstance(error, NothingFeasible):
        content["nearest"] = error.nearest
    return reply(content, error.http_status)


def add_handlers(app: FastAPI) -> None:
    """Turn whatever a route raises into the one shape; what it was given is not echoed."""

    @app.exception_handler(AutopruneError)
    def ours(request: Request, error: AutopruneError) -> Response:
        return error_reply(error)

    @app.exception_handler(RequestValidationError)
    def invalid(request: Request, error: RequestValidationError) -> Response:
        found = error.errors()
        malformed = any(item["type"] == "json_invalid" for item in found)
        lines = [f"{'.'.join(str(part) for part in item['loc'])[:200]}: {item['msg'][:200]}" for item in found[:_SHOWN]]
        message = "the request is not understood: " + "; ".join(lines)
        return reply(refusal("bad_request" if malformed else "invalid", message), 400 if malformed else 422)

    @app.exception_handler(HTTPException)
    def http(request: Request, error: HTTPException) -> Response:
        code = _HTTP_CODES.get(error.status_code, "failed")
        answer = reply(refusal(code, f"{request.method} {request.url.path[:200]}: {error.detail}"), error.status_code)
        answer.headers.update(error.headers or {})
        return answer

    @app.exception_handler(Exception)
    def defect(request: Request, error: Exception) -> Response:
        about = {"method": request.method, "path": request.url.path}
        emit(_log, logging.ERROR, "request.failed", "%s %s failed", *about.values(), exc_info=error, **about)
        return reply(refusal("internal", "autoprune failed unexpectedly.", "The server's log has the details."), 500)


async def send_refusal(
    send: Send, status: int, code: str, message: str, hint: str = "", headers: Mapping[str, str] | None = None
) -> None:
    """An error in the one shape, from outside of the routes."""
    body = encoded(refusal(code, message, hint))
    raw = {"content-type": "application/json", "content-length": str(len(body)), **(headers or {})}
    start = [(name.encode(), value.encode()) for name, value in raw.items()]
    await send({"type": "http.response.start", "status": status, "headers": start})
    await send({"type": "http.response.body", "body": body})
