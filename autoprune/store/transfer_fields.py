"""What a record of ``transfer`` may hold: a file from elsewhere is checked before anything of it reaches a store."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from typing import Any

from autoprune.errors import ConfigError
from autoprune.types import SearchState, TrialState

__all__ = ["check_record"]

Check = tuple[Callable[[Any], bool], str]

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_MOST = 2**31


def _text(longest: int) -> Check:
    return lambda value: isinstance(value, str) and len(value) <= longest and _encodable(value), "a text"


def _encodable(value: str) -> bool:
    """Neither database takes half a surrogate pair, and PostgreSQL no NUL."""
    return "\0" not in value and (value.isascii() or not any(0xD800 <= ord(letter) < 0xE000 for letter in value))


def _one_of(known: list[str]) -> Check:
    return lambda value: isinstance(value, str) and value in known, f"one of {', '.join(known)}"


def _count(value: Any) -> bool:
    return type(value) is int and 0 <= value < _MOST


def _finite(value: Any) -> bool:
    return type(value) in (int, float) and math.isfinite(value)


def _numbers(value: Any) -> bool:
    """Names to numbers, or to None where there is none."""
    return isinstance(value, dict) and all(each is None or type(each) in (int, float) for each in value.values())


_NAMED: Check = (lambda value: isinstance(value, str) and bool(_NAME.fullmatch(value)), "a search's name")
_WHOLE: Check = (_count, "an integer from 0")
_TIME: Check = (_finite, "a finite number")
_OBJECT: Check = (lambda value: isinstance(value, dict), "a JSON object")
_METRICS: Check = (_numbers, "a JSON object of numbers")
_ROWS: Check = (
    lambda value: _numbers(value) and not any(each != each for each in value.values()),
    "a JSON object of numbers, with null for NaN",
)
_WIDTHS: Check = (
    lambda value: isinstance(value, dict) and all(_count(width) for width in value.values()),
    "a JSON object of integers",
)


def _or_null(check: Check) -> Check:
    return lambda value: value is None or check[0](value), f"{check[1]}, or null"


_FIELDS: Mapping[str, Mapping[str, Check]] = {
    "search": {
        "name": _NAMED,
        "digest": _text(64),
        "evaluation_digest": _text(64),
        "config": _OBJECT,
        "baseline": _METRICS,
        "channels": _WIDTHS,
        "state": _one_of([state.value for state in SearchState]),
        "controller_state": _or_null(_OBJECT),
        "created_at": _TIME,
        "updated_at": _TIME,
        "active_seconds": _TIME,
    },
    "trial": {
        "number": _WHOLE,
        "digest": _text(16),
        "widths": _WIDTHS,
        "state": _one_of([state.value for state in TrialState]),
        "reason": _text(1 << 20),
        "attempt": _WHOLE,
        "note": _OBJECT,
        "timings": _METRICS,
        "worker": _text(200),
        "duplicate_of": _text(120),
        "started_at": _TIME,
        "finished_at": _or_null(_TIME),
        "metrics": _ROWS,
        "added": (lambda value: isinstance(value, list) and all(isinstance(each, str) for each in value), "names"),
    },
    "retraining": {
        "digest": _text(64),
        "search": _NAMED,
        "content": _OBJECT,
        "metrics": _METRICS,
        "worker": _text(200),
        "finished_at": _TIME,
    },
    "audit": {"search": _NAMED, "arm": _text(100), "content": _OBJECT, "finished_at": _TIME},
    "point": {
        "search": _NAMED,
        "digest": _text(64),
        "label": _text(100),
        "content": _OBJECT,
        "widths": _WIDTHS,
        "metrics": _METRICS,
        "finished_at": _TIME,
    },
}


def check_record(record: object) -> tuple[str, dict[str, Any]]:
    """The kind of a record, and its content. Raises ConfigError: what, got, expected."""
    if not isinstance(record, dict) or len(record) != 1:
        raise ConfigError(f"expected an object with one key, one of {', '.join(_FIELDS)}.")
    kind, content = next(iter(record.items()))
    fields = _FIELDS.get(kind)
    if fields is None or not isinstance(content, dict):
        raise ConfigError(f"got {kind!r}, expected an object under one of {', '.join(_FIELDS)}.")
    if content.keys() != fields.keys():
        odd = sorted(content.keys() ^ fields.keys())
        raise ConfigError(f"{kind}: {', '.join(map(repr, odd[:3]))} is missing or unknown.")
    for name, (holds, expected) in fields.items():
        if not holds(content[name]):
            raise ConfigError(f"{kind}: {name} is {_shown(content[name])}, expected {expected}.")
    return kind, content


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
