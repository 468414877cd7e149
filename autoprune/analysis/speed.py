"""What ``autoprune bench`` measured: rows with a median, its spread and a target, and seconds by channel count."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

__all__ = ["SpeedReport", "SpeedRow", "WidthCurve", "format_amount", "row"]


@dataclass(frozen=True)
class SpeedRow:
    """One measured thing."""

    section: str
    name: str
    unit: str
    median: float
    low: float
    high: float
    n: int
    """Repeats behind the median; 1: a single measurement, or a ratio of medians."""
    target: float | None = None
    target_is_least: bool = False
    """The target is to be reached from below (a rate), not to stay under (a time)."""
    note: str = ""

    @property
    def met(self) -> bool | None:
        """Whether the median meets the target; None without one."""
        if self.target is None:
            return None
        return self.median >= self.target if self.target_is_least else self.median <= self.target

    @property
    def times_target(self) -> float:
        """How many times as good as the target: 2 is twice as fast, or half the time. NaN without a target."""
        if self.target is None or not (self.target > 0 and math.isfinite(self.median)):
            return math.nan
        share = max(self.median, 1e-9 * self.target) / self.target
        return share if self.target_is_least else 1 / share


def row(
    section: str,
    name: str,
    unit: str,
    values: Sequence[float],
    *,
    target: float | None = None,
    at_least: bool = False,
    note: str = "",
    quartiles: bool = False,
) -> SpeedRow:
    """The row of repeated measurements; its spread is from the least to the most, or between the quartiles.

    >>> row("queries", "front", "ms", [3.0, 1.0, 2.0], target=300.0).met
    True

    Raises ValueError without any value.
    """
    if not values:
        raise ValueError(f"{name}: nothing was measured")
    median, low, high = statistics.median(values), min(values), max(values)
    if quartiles and len(values) > 1:
        low, _, high = statistics.quantiles(values, n=4, method="inclusive")
    return SpeedRow(section, name, unit, median, low, high, len(values), target, at_least, note)


@dataclass(frozen=True)
class WidthCurve:
    """Seconds of the same layers at different channel counts, and the multiple to round widths to."""

    channels: tuple[int, ...]
    seconds: tuple[float, ...]
    """The least of several rounds, one a channel count."""
    multiple: int
    layers: str
    """What was timed, in words."""
    rule: str
    """How the multiple was chosen."""


@dataclass(frozen=True)
class SpeedReport:
    """The whole table, on which machine it was measured, and how."""

    rows: tuple[SpeedRow, ...]
    facts: Mapping[str, str]
    curve: WidthCurve | None = None
    notes: tuple[str, ...] = field(default=())
    """Which evaluation ran, what a row means."""

    def content(self) -> dict[str, Any]:
        """For JSON."""
        rows = [{**asdict(each), "met": each.met} for each in self.rows]
        curve = None if self.curve is None else asdict(self.curve)
        return {"rows": rows, "curve": curve, "facts": dict(self.facts), "notes": list(self.notes)}


def format_amount(value: float) -> str:
    """
    >>> [format_amount(value) for value in (1234.5, 87.31, 3.456, 0.0471, 0.0)]
    ['1234', '87.3', '3.46', '0.047', '0']
    """
    if not math.isfinite(value):
        return "-"
    if value == 0 or abs(value) >= 99.95:
        return f"{value:.0f}"
    return f"{value:.1f}" if abs(value) >= 9.995 else f"{value:.2f}" if abs(value) >= 0.9995 else f"{value:.3f}"
