"""Non-dominated trials and hypervolume for one to three objectives."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Sequence

import numpy as np

from autoprune.analysis.metrics import finite
from autoprune.errors import ConfigError
from autoprune.types import Objective, Trial, TrialState

__all__ = [
    "comparable",
    "front_order",
    "hypervolume",
    "hypervolume_history",
    "metric_columns",
    "minimised",
    "pareto_front",
    "reference_point",
    "volume_history",
]

_BLOCK = 2048
"""Points compared with the front at once; bounds the memory of the comparison."""

_MANY = 20_000
"""From here on, a look at a sample pays before the points are sorted."""

_SAMPLE = 4096


def comparable(trials: Sequence[Trial], objectives: Sequence[Objective]) -> list[Trial]:
    """The COMPLETE trials on which every objective is a finite number."""
    return [trial for trial in trials if _usable(trial, objectives)]


def minimised(trials: Sequence[Trial], objectives: Sequence[Objective]) -> np.ndarray:
    """Shape (trials, objectives), float64, signs turned so that smaller is better."""
    rows = [[objective.sign * trial.metrics[objective.metric] for objective in objectives] for trial in trials]
    return np.array(rows, dtype=np.float64).reshape(len(trials), len(objectives))


def metric_columns(trials: Sequence[Trial], names: Iterable[str]) -> dict[str, np.ndarray]:
    """Metric -> (trials,) float64, NaN where a trial lacks it."""
    return {
        name: np.array([trial.metrics.get(name, np.nan) for trial in trials], dtype=np.float64)
        for name in dict.fromkeys(names)
    }


def pareto_front(trials: Sequence[Trial], objectives: Sequence[Objective]) -> list[Trial]:
    """The trials that no other trial matches everywhere and beats somewhere.

    Only COMPLETE trials with finite metrics take part; of equal points the lowest number stays. Sorted by the first
    objective that is minimised (the cost), or by the first objective when none is.

    Raises ConfigError unless there are one to three objectives.
    """
    usable = sorted(comparable(trials, objectives), key=lambda trial: trial.number)
    return [usable[row] for row in front_order(minimised(usable, objectives), objectives)]


def front_order(points: np.ndarray, objectives: Sequence[Objective]) -> np.ndarray:
    """Rows of the points on the front, in the order and by the rules of ``pareto_front``. Shape (front,), int64.

    Args:
        points: shape (n, objectives), float64, finite, smaller is better, in the order of trial numbers.

    >>> axes = [Objective("macs", "min"), Objective("loss", "min")]
    >>> front_order(np.array([[3.0, 1.0], [1.0, 2.0], [3.0, 1.0]]), axes)
    array([1, 0])

    Raises ConfigError unless there are one to three objectives.
    """
    if not 1 <= len(objectives) <= 3:
        raise ConfigError(f"a front needs one to three objectives, got {len(objectives)}.")
    if not len(points):
        return np.empty(0, np.int64)
    kept = _flat_front(points) if len(objectives) <= 2 else _solid_front(points)
    cost = next((i for i, objective in enumerate(objectives) if objective.direction == "min"), 0)
    keys = [points[kept, i] for i in reversed(range(len(objectives))) if i != cost] + [points[kept, cost]]
    return kept[np.lexsort(keys)]


def hypervolume(points: np.ndarray, reference: Sequence[float] | np.ndarray) -> float:
    """Volume between the points and the reference that the points dominate; all objectives minimised.

    Args:
        points: shape (n, m), float. Points that are not better than the reference everywhere add nothing.
        reference: shape (m,).

    >>> hypervolume(np.array([[1.0, 2.0], [2.0, 1.0]]), [3.0, 3.0])
    3.0
    """
    import moocore

    points = np.asarray(points, dtype=np.float64)
    corner = np.asarray(reference, dtype=np.float64)
    inside = points[(points < corner).all(axis=1)] if len(points) else points
    return float(moocore.hypervolume(inside, ref=corner)) if len(inside) else 0.0


def reference_point(points: np.ndarray, margin: float = 0.1) -> np.ndarray:
    """The worst value of each objective, moved out by a share of its range. Shape (m,).

    A constant objective is moved out by its own size, so that no volume is zero by construction.
    """
    # Column by column: reducing a long, narrow array along its length is ten times slower.
    worst = np.array([column.max() for column in points.T])
    best = np.array([column.min() for column in points.T])
    span = worst - best
    scale = np.where(np.abs(worst) > 0, np.abs(worst), 1.0)
    return np.asarray(worst + margin * np.where(span > 0, span, scale))


def hypervolume_history(
    trials: Sequence[Trial], objectives: Sequence[Objective], reference: Sequence[float] | np.ndarray
) -> np.ndarray:
    """Hypervolume of the first 1, 2, ... trials, in the order given. Shape (trials,), float64.

    Trials that cannot be on a front (not COMPLETE, not finite) repeat the value before them.
    """
    points = np.full((len(trials), len(objectives)), np.nan)
    usable = [row for row, trial in enumerate(trials) if _usable(trial, objectives)]
    points[usable] = minimised([trials[row] for row in usable], objectives)
    return volume_history(points, reference)


def volume_history(points: np.ndarray, reference: Sequence[float] | np.ndarray) -> np.ndarray:
    """Hypervolume of the first 1, 2, ... points. Shape (n,), float64.

    Args:
        points: shape (n, m), float64, one to three objectives, smaller is better; rows that are not finite add nothing.
        reference: shape (m,).

    >>> volume_history(np.array([[2.0, 2.0], [np.nan, 1.0], [1.0, 1.0]]), [3.0, 3.0])
    array([1., 1., 4.])
    """
    corner = np.asarray(reference, dtype=np.float64)
    inside = np.ones(len(points), dtype=bool)
    for column, limit in zip(points.T, corner, strict=True):
        inside &= np.isfinite(column) & (column < limit)
    if points.shape[1] == 1:
        best = np.minimum.accumulate(np.where(inside, points[:, 0], corner[0]))
        return np.asarray(corner[0] - best)
    rows = np.flatnonzero(inside)
    gains = np.zeros(len(points))
    gains[rows] = (_flat_gains if points.shape[1] == 2 else _solid_gains)(points[rows], corner)
    return np.cumsum(gains)


def _usable(trial: Trial, objectives: Sequence[Objective]) -> bool:
    return trial.state is TrialState.COMPLETE and all(finite(trial.metrics, each.metric) for each in objectives)


# --- fronts ----------------------------------------------------------------------------------------------------------


def _flat_front(points: np.ndarray) -> np.ndarray:
    """Rows on the front of one or two objectives; rows come in trial order, so stable sorting keeps the first equal."""
    first, last = points[:, 0], points[:, -1]
    if len(points) < _MANY:
        return _stairs(first, last)
    sample = slice(None, None, len(points) // _SAMPLE)
    steps = _stairs(first[sample], last[sample])
    xs, ys = first[sample][steps], last[sample][steps]
    rows = np.flatnonzero(last <= _coarse_height(xs, ys, first))
    rows = rows[last[rows] <= _height(xs, ys, first[rows])]
    return rows[_stairs(first[rows], last[rows])]


def _stairs(first: np.ndarray, last: np.ndarray) -> np.ndarray:
    """Rows of the front, ``first`` rising and ``last`` falling."""
    order = np.lexsort((last, first))
    best = np.minimum.accumulate(last[order])
    leads = np.ones(len(order), dtype=bool)
    leads[1:] = last[order][1:] < best[:-1]
    return order[leads]


def _height(first: np.ndarray, last: np.ndarray, at: np.ndarray) -> np.ndarray:
    """The smallest ``last`` of a front's points that are no worse on the first objective; infinite where none is."""
    return np.append(last, np.inf)[np.searchsorted(first, at, side="right") - 1]


def _coarse_height(first: np.ndarray, last: np.ndarray, at: np.ndarray) -> np.ndarray:
    """At least ``_height``, by looking up a cell instead of searching: a point counts from the cell behind its own.

    Cells rise with the values, rounding or not, so a point in an earlier cell is better on the first objective.
    """
    low = at.min()
    with np.errstate(over="ignore", divide="ignore"):
        scale = _SAMPLE / (at.max() - low)
    if not 0 < scale < np.inf:
        return np.full(len(at), np.inf)
    heights = np.full(_SAMPLE + 2, np.inf)
    np.minimum.at(heights, ((first - low) * scale).astype(np.intp) + 1, last)
    return np.minimum.accumulate(heights)[((at - low) * scale).astype(np.intp)]


def _solid_front(points: np.ndarray) -> np.ndarray:
    import moocore

    return np.flatnonzero(moocore.is_nondominated(points))


# --- histories -------------------------------------------------------------------------------------------------------


def _flat_gains(points: np.ndarray, corner: np.ndarray) -> np.ndarray:
    """The area that each point adds to those before it; all lie inside the corner. Shape (n,).

    The front is kept as a staircase, ``xs`` rising and ``ys`` falling: whole blocks of points are compared with it,
    and only those that move it are taken one by one.
    """
    gains = np.zeros(len(points))
    xs: list[float] = []
    ys: list[float] = []
    for start in range(0, len(points), _BLOCK):
        x, y = points[start : start + _BLOCK].T
        for row in np.flatnonzero(y < _height(np.array(xs), np.array(ys), x)).tolist():
            gains[start + row] = _add_step(xs, ys, float(x[row]), float(y[row]), corner.tolist())
    return gains


def _add_step(xs: list[float], ys: list[float], x: float, y: float, corner: Sequence[float]) -> float:
    """Put a point into the staircase; the area gained is 0.0 when it is covered."""
    above = bisect_right(xs, x)
    if above and ys[above - 1] <= y:
        return 0.0
    begin = end = bisect_left(xs, x)
    at, roof, gain = x, ys[begin - 1] if begin else corner[1], 0.0
    while end < len(xs) and ys[end] >= y:
        gain += (xs[end] - at) * (roof - y)
        at, roof = xs[end], ys[end]
        end += 1
    gain += ((xs[end] if end < len(xs) else corner[0]) - at) * (roof - y)
    xs[begin:end], ys[begin:end] = [x], [y]
    return gain


def _solid_gains(points: np.ndarray, corner: np.ndarray) -> np.ndarray:
    """The same for three objectives: the volume is computed anew only when the front moves."""
    gains = np.zeros(len(points))
    front = np.empty((0, points.shape[1]))
    volume = 0.0
    for start in range(0, len(points), _BLOCK):
        block = points[start : start + _BLOCK]
        for row in np.flatnonzero(~_covered(block, front)):
            point = block[row]
            if _covered(point[None], front)[0]:
                continue
            front = np.vstack([front[~(point <= front).all(axis=1)], point])
            before, volume = volume, hypervolume(front, corner)
            gains[start + row] = max(volume - before, 0.0)
    return gains


def _covered(points: np.ndarray, front: np.ndarray) -> np.ndarray:
    """Whether a point of the front is at least as good everywhere. Shape (points,), bool."""
    beats = front[None] <= points[:, None]
    return np.any(np.all(beats, axis=2), axis=1)
