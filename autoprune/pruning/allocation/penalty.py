"""Costly channels go first: a charge on the score, after the normaliser."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

__all__ = ["penalise"]


def penalise(scores: Mapping[str, np.ndarray], costs: Mapping[str, float], strength: float) -> dict[str, np.ndarray]:
    """``score - strength * cost`` for every unit (Molchanov et al. 2017, FLOPs regularisation, there with 0.001).

    ``costs``: what one unit of each group costs, here in millions of multiply-accumulates of one forward pass. The
    strength means nothing without that unit, nor before scores are normalised: a group whose scores are a thousand
    times larger would hardly feel it. Raises KeyError for a group without a cost.
    """
    return {name: np.asarray(each, dtype=np.float64) - strength * costs[name] for name, each in scores.items()}
