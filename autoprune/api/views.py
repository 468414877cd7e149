"""What a page or a remote script shows of a search: fronts with the points behind them, ranked pages, one candidate."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from autoprune.analysis.front import front_rows
from autoprune.analysis.metrics import axis
from autoprune.analysis.selection import meets
from autoprune.api.queries import own_axes, require_measured
from autoprune.config.expressions import parse_constraint
from autoprune.errors import ConfigError
from autoprune.types import Constraint, Objective

if TYPE_CHECKING:
    from autoprune.api.reader import Reader
    from autoprune.store import MetricColumns

__all__ = ["FrontView", "Points", "front_view", "ranked_numbers"]


@dataclass(frozen=True, eq=False)
class Points:
    """Trials on the axes of a front."""

    numbers: np.ndarray
    """(N,) int64."""
    values: np.ndarray
    """(N, axes) float64, finite, in the metrics' own units."""


@dataclass(frozen=True, eq=False)
class FrontView:
    """A front on one to three axes, and some of the trials behind it."""

    axes: tuple[Objective, ...]
    constraints: tuple[Constraint, ...]
    members: Points
    """On the front, cheapest first."""
    considered: int
    """Complete trials that met the constraints and have all axes."""
    others: Points
    """Off the front, thinned evenly by number; those of uniform widths all stay."""
    others_total: int
    uniform: np.ndarray
    """Numbers, among members and others, of the trials with uniform widths."""


def front_view(
    reader: Reader,
    name: str,
    *,
    x: str | None = None,
    y: str | None = None,
    z: str | None = None,
    where: Sequence[str] = (),
    others: int = 0,
) -> FrontView:
    """The front, as :func:`autoprune.front` finds it, with at most ``others`` further trials (and the uniform ones).

    Raises NotFound for an unknown search, ConfigError for an expression, a metric that no trial has, or equal axes.
    """
    axes = _axes(*own_axes(reader, name, x, y), z)
    constraints = tuple(item for text in where for item in parse_constraint(text))
    asked = [*(each.metric for each in axes), *(each.metric for each in constraints)]
    baseline = reader.baseline(name)
    found = reader.metric_columns(name, asked)
    nothing = Points(np.empty(0, np.int64), np.empty((0, len(axes))))
    if not found.complete.any():
        return FrontView(axes, constraints, nothing, 0, nothing, 0, nothing.numbers)
    require_measured(reader, name, asked, found)
    rows, considered = front_rows(found.values, axes, constraints, baseline)
    members = _points(found, axes, rows)
    if not others:
        return FrontView(axes, constraints, members, considered, nothing, 0, nothing.numbers)
    behind, total, uniform = _others(found, axes, rows, reader.uniform(name), others)
    return FrontView(axes, constraints, members, considered, _points(found, axes, behind), total, uniform)


def _axes(x: str, y: str, z: str | None) -> tuple[Objective, ...]:
    axes = tuple(axis(text) for text in (x, y, z) if text is not None)
    if len({each.metric for each in axes}) < len(axes):
        shown = ", ".join(each.metric for each in axes)
        raise ConfigError(f"the axes are {shown}: each must be another metric.", "Choose for example macs and top1.")
    return axes


def _points(found: MetricColumns, axes: Sequence[Objective], rows: np.ndarray) -> Points:
    values = np.stack([found.values[each.metric][rows] for each in axes], axis=1)
    return Points(found.numbers[rows], values)


def _others(
    found: MetricColumns, axes: Sequence[Objective], members: np.ndarray, uniform: np.ndarray, most: int
) -> tuple[np.ndarray, int, np.ndarray]:
    """Rows to show behind the front, how many there are in all, and the uniform numbers among what is shown."""
    usable = np.ones(len(found.numbers), dtype=bool)
    for each in axes:
        usable &= np.isfinite(found.values[each.metric])
    marked = _rows_of(found.numbers, uniform)
    marked = marked[usable[marked]]
    shown_uniform = found.numbers[marked]
    usable[members] = False
    rows = np.flatnonzero(usable)
    some = rows[:: -(-len(rows) // most) or 1]
    return np.union1d(some, marked[usable[marked]]), len(rows), shown_uniform


def _rows_of(numbers: np.ndarray, some: np.ndarray) -> np.ndarray:
    """Rows of those of ``some`` that are among the ascending ``numbers``."""
    rows = np.minimum(np.searchsorted(numbers, some), len(numbers) - 1)
    return rows[numbers[rows] == some]


def ranked_numbers(reader: Reader, name: str, *, where: Sequence[str], sort: str, descending: bool) -> np.ndarray:
    """Numbers of the COMPLETE trials within the constraints, by a metric (``number``: by number), then by number.

    Trials without the metric are left out. Shape (N,) int64. Raises as :func:`front_view`.
    """
    constraints = tuple(item for text in where for item in parse_constraint(text))
    return reader.ranking(
        name, (constraints, sort, descending), lambda: _ranked(reader, name, constraints, sort, descending)
    )


def _ranked(reader: Reader, name: str, constraints: Sequence[Constraint], sort: str, descending: bool) -> np.ndarray:
    metrics = [] if sort == "number" else [sort]
    asked = [*metrics, *(each.metric for each in constraints)]
    found = reader.metric_columns(name, asked)
    if not found.complete.any():
        return np.empty(0, np.int64)
    require_measured(reader, name, asked, found)
    held = found.complete & meets(found.values, constraints, reader.baseline(name)) if asked else found.complete
    if not metrics:
        numbers = found.numbers[held]
        return numbers[::-1] if descending else numbers
    values = found.values[sort]
    rows = np.flatnonzero(held & np.isfinite(values))
    keys = -values[rows] if descending else values[rows]
    return found.numbers[rows[np.argsort(keys, kind="stable")]]
