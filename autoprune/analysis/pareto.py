"""Non-dominated trials and hypervolume for one to three objectives."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from autoprune.analysis.metrics import finite
from autoprune.errors import ConfigError
from autoprune.types import Objective, Trial, TrialState

__all__ = ["comparable", "hypervolume", "hypervolume_history", "minimised", "pareto_front", "reference_point"]

_BLOCK = 1024
"""Trials compared with the front at once; bounds the memory of the comparison."""


def comparable(trials: Sequence[Trial], objectives: Sequence[Objective]) -> list[Trial]:
    """The COMPLETE trials on which every objective is a finite number."""
    return [trial for trial in trials if _usable(trial, objectives)]


def minimised(trials: Sequence[Trial], objectives: Sequence[Objective]) -> np.ndarray:
    """Shape (trials, objectives), float64, signs turned so that smaller is better."""
    rows = [[objective.sign * trial.metrics[objective.metric] for objective in objectives] for trial in trials]
    return np.array(rows, dtype=np.float64).reshape(len(trials), len(objectives))


def pareto_front(trials: Sequence[Trial], objectives: Sequence[Objective]) -> list[Trial]:
    """The trials that no other trial matches everywhere and beats somewhere.

    Only COMPLETE trials with finite metrics take part; of equal points the lowest number stays. Sorted by the first
    objective that is minimised (the cost), or by the first objective when none is.

    Raises ConfigError unless there are one to three objectives.
    """
    if not 1 <= len(objectives) <= 3:
        raise ConfigError(f"a front needs one to three objectives, got {len(objectives)}.")
    usable = sorted(comparable(trials, objectives), key=lambda trial: trial.number)
    if not usable:
        return []
    points = minimised(usable, objectives)
    kept = _flat_front(points) if len(objectives) <= 2 else _solid_front(points)
    cost = next((i for i, objective in enumerate(objectives) if objective.direction == "min"), 0)
    keys = [points[kept, i] for i in reversed(range(len(objectives))) if i != cost] + [points[kept, cost]]
    return [usable[i] for i in kept[np.lexsort(keys)]]


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
    worst, best = points.max(axis=0), points.min(axis=0)
    span = worst - best
    scale = np.where(np.abs(worst) > 0, np.abs(worst), 1.0)
    return np.asarray(worst + margin * np.where(span > 0, span, scale))


def hypervolume_history(
    trials: Sequence[Trial], objectives: Sequence[Objective], reference: Sequence[float] | np.ndarray
) -> np.ndarray:
    """Hypervolume of the first 1, 2, ... trials, in the order given. Shape (trials,), float64.

    Trials that cannot be on a front (not COMPLETE, not finite) repeat the value before them. The volume is computed
    anew only when the front moves, and each trial is compared with the front only.
    """
    corner = np.asarray(reference, dtype=np.float64)
    history = np.zeros(len(trials))
    positions = [i for i, trial in enumerate(trials) if _usable(trial, objectives)]
    points = minimised([trials[i] for i in positions], objectives)
    front = np.empty((0, len(objectives)))
    volume = 0.0
    for start in range(0, len(points), _BLOCK):
        block = points[start : start + _BLOCK]
        for row in np.flatnonzero((block < corner).all(axis=1) & ~_covered(block, front)):
            point = block[row]
            if _covered(point[None], front)[0]:
                continue
            front = np.vstack([front[~(point <= front).all(axis=1)], point])
            before, volume = volume, hypervolume(front, corner)
            history[positions[start + row]] = max(volume - before, 0.0)
    return np.cumsum(history)


def _usable(trial: Trial, objectives: Sequence[Objective]) -> bool:
    return trial.state is TrialState.COMPLETE and all(finite(trial.metrics, each.metric) for each in objectives)


def _covered(points: np.ndarray, front: np.ndarray) -> np.ndarray:
    """Whether a point of the front is at least as good everywhere. Shape (points,), bool."""
    beats = front[None] <= points[:, None]
    return np.any(np.all(beats, axis=2), axis=1)


def _flat_front(points: np.ndarray) -> np.ndarray:
    """Rows on the front of one or two objectives; rows come in trial order, so stable sorting keeps the first equal."""
    first, last = points[:, 0], points[:, -1]
    order = np.lexsort((last, first))
    best = np.minimum.accumulate(last[order])
    leads = np.ones(len(order), dtype=bool)
    leads[1:] = last[order][1:] < best[:-1]
    return order[leads]


def _solid_front(points: np.ndarray) -> np.ndarray:
    import moocore

    return np.flatnonzero(moocore.is_nondominated(points))
