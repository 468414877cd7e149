"""What a page or a remote script shows of a search: fronts with the points behind them, ranked pages, one candidate."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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
    from autoprune.api.growth import Columns
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
    columns = reader.columns(name, asked)
    found = columns.found
    nothing = Points(np.empty(0, np.int64), np.empty((0, len(axes))))
    if not found.complete.any():
        return FrontView(axes, constraints, nothing, 0, nothing, 0, nothing.numbers)
    require_measured(reader, name, asked, found)
    rows, considered = _front(reader, name, columns, axes, constraints, baseline)
    members = _points(found, axes, rows)
    if not others:
        return FrontView(axes, constraints, members, considered, nothing, 0, nothing.numbers)
    behind, total, uniform = _others(found, axes, rows, reader.uniform(name), others)
    return FrontView(axes, constraints, members, considered, _points(found, axes, behind), total, uniform)


@dataclass(frozen=True, eq=False)
class _Kept:
    """Rows in their order, and the baseline that the budgets were relative to."""

    baseline: Mapping[str, float]
    rows: np.ndarray
    considered: int
    numbers: np.ndarray


def _front(
    reader: Reader,
    name: str,
    columns: Columns,
    axes: tuple[Objective, ...],
    constraints: tuple[Constraint, ...],
    baseline: Mapping[str, float],
) -> tuple[np.ndarray, int]:
    """As ``front_rows``. A trial that was off the front stays there: what is on it now was on it, or is new."""
    values = columns.found.values

    def make(earlier: _Kept | None, same: int) -> _Kept:
        if earlier is None or earlier.baseline != baseline:
            rows, considered = front_rows(values, axes, constraints, baseline)
            return _Kept(baseline, rows, considered, columns.found.numbers[rows])
        rows = np.append(np.sort(earlier.rows[earlier.rows < same]), np.arange(same, len(columns.found.numbers)))
        some, _ = front_rows({metric: column[rows] for metric, column in values.items()}, axes, constraints, baseline)
        usable = meets(values, constraints, baseline)
        for each in axes:
            usable &= np.isfinite(values[each.metric])
        return _Kept(baseline, rows[some], int(np.count_nonzero(usable)), columns.found.numbers[rows[some]])

    kept = reader.derived(name, ("front", axes, constraints), columns, make)
    return kept.rows, kept.considered


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
    metrics = [] if sort == "number" else [sort]
    asked = [*metrics, *(each.metric for each in constraints)]
    columns, baseline = reader.columns(name, asked), reader.baseline(name)
    found = columns.found
    if not found.complete.any():
        return np.empty(0, np.int64)
    require_measured(reader, name, asked, found)

    def make(earlier: _Kept | None, same: int) -> _Kept:
        usable = found.complete & meets(found.values, constraints, baseline) if asked else found.complete
        if not metrics:
            rows = np.flatnonzero(usable)[:: -1 if descending else 1]
        else:
            keys = -found.values[sort] if descending else found.values[sort]
            known = earlier is not None and earlier.baseline == baseline
            rows = _sorted(usable & np.isfinite(keys), keys, *((earlier.rows, same) if earlier and known else ()))
        return _Kept(baseline, rows.astype(np.int32), len(rows), found.numbers[rows])

    return reader.derived(name, ("ranking", constraints, sort, descending), columns, make).numbers


def _sorted(usable: np.ndarray, keys: np.ndarray, order: np.ndarray | None = None, same: int = 0) -> np.ndarray:
    """The usable rows by key, then by row; those before ``same`` are in ``order`` as they were then."""
    rows = np.flatnonzero(usable[same:]) + same
    rows = rows[np.argsort(keys[rows], kind="stable")]
    if order is None:
        return rows
    before = order if not len(order) or order.max() < same else order[order < same]
    return np.insert(before, np.searchsorted(keys[before], keys[rows], side="right"), rows)
