"""Requests to a server, and its errors as the exceptions of the library."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import httpx

from autoprune.errors import (
    AutopruneError,
    ConfigError,
    Conflict,
    ExportMismatch,
    NotFound,
    NothingFeasible,
    SearchAborted,
    ServiceError,
    StoreError,
)

__all__ = ["Transport"]

_ERRORS: Mapping[str, type[AutopruneError]] = {
    "invalid": ConfigError,
    "bad_request": ConfigError,
    "not_found": NotFound,
    "conflict": Conflict,
    "store_unavailable": StoreError,
    "aborted": SearchAborted,
    "export_mismatch": ExportMismatch,
}
_API = "/api/v1"
_TRIES = 4
_LONGEST_WAIT = 30.0


class Transport:
    """One connection pool. Raises ServiceError when no autoprune server answers."""

    def __init__(self, url: str, token: str | None, timeout: float) -> None:
        headers = {"accept": "application/json"} | ({} if token is None else {"authorization": f"Bearer {token}"})
        try:
            self._http = httpx.Client(base_url=url.rstrip("/") + _API, headers=headers, timeout=timeout)
        except (httpx.InvalidURL, ValueError) as error:
            raise ConfigError(f"{url!r} is no URL of a server: {error}.", "Write http://127.0.0.1:8642.") from None
        if self._http.base_url.scheme not in ("http", "https"):
            raise ConfigError(f"{url!r} is no URL of a server.", "Write http://127.0.0.1:8642.")
        self._url, self._timeout = url, timeout

    def close(self) -> None:
        self._http.close()

    def get(self, path: str, **query: Any) -> Any:
        """The JSON of an answer."""
        return self._answer("GET", path, params=_given(query)).json()

    def change(self, method: str, path: str, body: Any = None, **query: Any) -> Any:
        """Send something; the JSON of the answer, None without any."""
        answer = self._answer(method, path, params=_given(query), **({} if body is None else {"json": body}))
        return answer.json() if answer.content else None

    def _answer(self, method: str, path: str, **arguments: Any) -> httpx.Response:
        for left in reversed(range(_TRIES)):
            with self._told():
                answer = self._http.request(method, path, **arguments)
            wait = float(answer.headers.get("retry-after", 1)) if answer.status_code == 429 else None
            if wait is None or wait > _LONGEST_WAIT or not left:
                break
            time.sleep(wait)
        self._check(answer)
        return answer

    @contextmanager
    def stream(self, path: str, headers: Mapping[str, str] | None = None, **query: Any) -> Iterator[httpx.Response]:
        """An answer whose body is read piece by piece; its silences have no limit."""
        with self._told():
            timeout = httpx.Timeout(self._timeout, read=None)
            arguments: dict[str, Any] = {"params": _given(query), "headers": headers, "timeout": timeout}
            with self._http.stream("GET", path, **arguments) as answer:
                if answer.is_error:
                    answer.read()
                self._check(answer)
                yield answer

    @contextmanager
    def _told(self) -> Iterator[None]:
        try:
            yield
        except httpx.HTTPError as error:
            raise ServiceError(
                f"no answer from {self._url}: {str(error) or type(error).__name__}.", "Is 'autoprune serve' running?"
            ) from None

    def _check(self, answer: httpx.Response) -> None:
        if answer.is_success:
            return
        try:
            content = answer.json()
            code, message, hint = (str(content["error"][key]) for key in ("code", "message", "hint"))
        except (ValueError, KeyError, TypeError):
            raise ServiceError(
                f"{self._url} answered with status {answer.status_code}, not as an autoprune server does.",
                "Check the URL.",
            ) from None
        if code == "nothing_feasible":
            raise NothingFeasible(message, hint, content.get("nearest"))
        raise _ERRORS.get(code, ServiceError)(message, hint)


def _given(query: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in query.items() if value is not None}
