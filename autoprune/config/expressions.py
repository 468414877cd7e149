"""Objectives and constraints as people write them: ``top1 max``, ``macs <= 0.5 * baseline``.

Grammar of a constraint: ``metric (<= | >= | < | >) bound``, or a range ``bound <= metric <= bound``. A bound is a
number (``40e6``, ``40M``, ``1.5k``, ``50%``), ``baseline``, ``0.5 * baseline``, ``baseline / 2`` or
``50% of baseline``.
``<`` and ``>`` read as ``<=`` and ``>=``.
"""

from __future__ import annotations

import math
import re

from autoprune.errors import ConfigError
from autoprune.types import Constraint, Objective

__all__ = ["parse_constraint", "parse_objective"]

_METRIC = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_NUMBER = re.compile(r"([+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)\s*([kKMG%]?)")
_SUFFIX = {"": 1.0, "k": 1e3, "K": 1e3, "M": 1e6, "G": 1e9, "%": 0.01}
_HINT = "Write for example 'macs <= 0.5 * baseline', 'params <= 200k' or '20M <= macs <= 30M'."


def parse_objective(text: str) -> Objective:
    """Read ``metric max`` or ``metric min``.

    >>> parse_objective("top1 max")
    Objective(metric='top1', direction='max')

    Raises ConfigError on anything else.
    """
    parts = text.split()
    if len(parts) == 2 and _METRIC.fullmatch(parts[0]) and parts[1] in ("max", "min"):
        return Objective(parts[0], parts[1])
    raise ConfigError(
        f"objective {text!r} is not understood: expected a metric and 'max' or 'min'.",
        "Write for example 'top1 max'.",
    )


def parse_constraint(text: str) -> list[Constraint]:
    """Read one bound, or the two of a range.

    >>> parse_constraint("macs <= 0.5 * baseline")
    [Constraint(metric='macs', op='<=', value=0.5, relative=True)]
    >>> [str(bound) for bound in parse_constraint("20M <= macs <= 30M")]
    ['macs >= 2e+07', 'macs <= 3e+07']

    Raises ConfigError with the text, what is wrong with it, and an example.
    """
    parts = [part.strip() for part in re.split(r"(<=|>=|<|>)", text)]
    if len(parts) == 3:
        left, op, right = parts
        if _is_metric(left):
            return [_bound(text, left, op, right)]
        if _is_metric(right):
            return [_bound(text, right, _mirrored(op), left)]
    elif len(parts) == 5 and _is_metric(parts[2]) and parts[1][0] == parts[3][0]:
        low, op, metric, op2, high = parts
        bounds = [_bound(text, metric, _mirrored(op), low), _bound(text, metric, op2, high)]
        _check_order(text, bounds)
        return bounds
    raise ConfigError(f"constraint {text!r} is not understood: expected a metric, '<=' or '>=', and a bound.", _HINT)


def _is_metric(text: str) -> bool:
    return text != "baseline" and _METRIC.fullmatch(text) is not None


def _mirrored(op: str) -> str:
    return op.translate(str.maketrans("<>", "><"))


def _bound(text: str, metric: str, op: str, bound: str) -> Constraint:
    value, relative = _value(text, bound)
    return Constraint(metric, op[0] + "=", value, relative)


def _check_order(text: str, bounds: list[Constraint]) -> None:
    low, high = sorted(bounds, key=lambda bound: bound.op, reverse=True)
    if low.relative == high.relative and low.value > high.value:
        raise ConfigError(f"constraint {text!r} can never hold: its lower bound is above its upper bound.", _HINT)


def _value(text: str, bound: str) -> tuple[float, bool]:
    """The number and whether it multiplies the baseline."""
    if bound == "baseline":
        return 1.0, True
    if divided := re.fullmatch(r"baseline\s*/\s*(.+)", bound):
        divisor = _number(text, divided.group(1))
        if divisor == 0:
            raise ConfigError(f"constraint {text!r} divides by zero.", _HINT)
        return 1.0 / divisor, True
    multiple = re.fullmatch(r"(.+?)\s*(?:\*|\bof\b)\s*baseline|baseline\s*\*\s*(.+)", bound)
    if multiple:
        return _number(text, multiple.group(1) or multiple.group(2)), True
    return _number(text, bound), False


def _number(text: str, number: str) -> float:
    match = _NUMBER.fullmatch(number)
    if match is None:
        raise ConfigError(f"constraint {text!r}: bound {number!r} is not a number or a multiple of 'baseline'.", _HINT)
    value = float(match.group(1)) * _SUFFIX[match.group(2)]
    if not math.isfinite(value):
        raise ConfigError(f"constraint {text!r}: bound {number!r} is not finite.", _HINT)
    return value
