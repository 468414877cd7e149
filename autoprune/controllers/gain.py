"""How much of the objectives' space a candidate would newly dominate, counted on random points."""

from __future__ import annotations

import moocore
import numpy as np

__all__ = ["Gain"]

_POINTS = 2048


class Gain:
    """Counts the points of a box that candidates dominate and what is already there does not.

    All values are (N, objectives) with larger better. ``known``: what is there. The box reaches from the worst of
    ``floor`` and ``known`` to the best of ``known`` and ``possible``.
    """

    def __init__(self, known: np.ndarray, possible: np.ndarray, floor: np.ndarray, rng: np.random.Generator) -> None:
        together = np.vstack([known, possible])
        low, high = np.vstack([floor[None], known]).min(axis=0), together.max(axis=0)
        points = low + (high - low) * rng.uniform(size=(_POINTS, together.shape[1]))
        front = known[moocore.is_nondominated(known, maximise=True)] if len(known) else known
        self._points = points[~_dominated(front, points).any(axis=0)]
        self._low, self._range = low, np.where(high > low, high - low, 1.0)

    def __call__(self, values: np.ndarray) -> np.ndarray:
        """(N,) the count; where it is equal, what lies higher within the box comes first."""
        tie = np.clip((values - self._low) / self._range, -1.0, 2.0).mean(axis=1) / 4
        return np.asarray(_dominated(values, self._points).sum(axis=1) + tie)


def _dominated(values: np.ndarray, points: np.ndarray) -> np.ndarray:
    """(N, points) bool: no coordinate of the point is beyond the value's."""
    result = np.ones((len(values), len(points)), dtype=bool)
    for at in range(points.shape[1]):
        result &= values[:, at, None] >= points[None, :, at]
    return result
