"""The front of the trials before a resume, found without looking at each of them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from autoprune.store import Store
from autoprune.types import Objective, Trial

__all__ = ["front_members"]

_BLOCK = 4096


def front_members(store: Store, name: str, objectives: Sequence[Objective]) -> list[Trial]:
    """The COMPLETE trials on the front, in the order in which they finished; of equal ones the lowest number."""
    numbers, values = store.columns(name, [item.metric for item in objectives])
    rows = undominated(values * [float(item.sign) for item in objectives])
    found = store.trials(name, numbers=numbers[rows].tolist())
    return sorted(found, key=lambda trial: trial.finished_at or 0.0)


def undominated(points: np.ndarray) -> np.ndarray:
    """Rows of points (N, M), smaller is better, that no other is at least as good as; of equal ones the first.

    >>> undominated(np.array([[2.0, 1.0], [1.0, 2.0], [2.0, 1.0], [3.0, 3.0]])).tolist()
    [0, 1]
    """
    order = np.lexsort(points.T[::-1])  # what could dominate a point comes before it
    front, rows = np.empty((0, points.shape[1])), []
    for start in range(0, len(order), _BLOCK):
        block = order[start : start + _BLOCK]
        for row in block[~_covered(points[block], front)].tolist():
            if not _covered(points[row][None], front)[0]:
                front = np.vstack([front, points[row]])
                rows.append(row)
    return np.sort(np.array(rows, dtype=np.int64))


def _covered(points: np.ndarray, front: np.ndarray) -> np.ndarray:
    """(N,) bool: a point of the front (F, M) is at least as good everywhere."""
    covers = np.ones((len(points), len(front)), dtype=bool)
    for column, others in zip(points.T, front.T, strict=True):
        covers &= others <= column[:, None]
    return np.asarray(covers.any(axis=1))
