"""Making the scores of different groups comparable, before one ranking over all of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from autoprune.errors import ConfigError, did_you_mean

__all__ = ["NORMALISERS", "normalise"]


def _l2(scores: np.ndarray) -> np.ndarray:
    return _divided(scores, float(np.sqrt(np.nansum(scores**2))))


def _max(scores: np.ndarray) -> np.ndarray:
    return _divided(scores, float(np.nanmax(np.abs(scores), initial=0.0)))


def _rank(scores: np.ndarray) -> np.ndarray:
    """Equal scores share the mean of their places; NaN stays."""
    known = scores[~np.isnan(scores)]
    below = np.searchsorted(np.sort(known), scores, side="left")
    upto = np.searchsorted(np.sort(known), scores, side="right")
    places = (below + upto + 1) / 2 / max(len(scores), 1)
    return np.where(np.isnan(scores), np.nan, places)


def _standard(scores: np.ndarray) -> np.ndarray:
    if np.isnan(scores).all():
        return scores
    return _divided(scores - np.nanmean(scores), float(np.nanstd(scores)))


def _divided(scores: np.ndarray, by: float) -> np.ndarray:
    return scores / by if by > 0 else np.zeros_like(scores) + np.where(np.isnan(scores), np.nan, 0.0)


NORMALISERS: Mapping[str, Callable[[np.ndarray], np.ndarray]] = {
    "none": lambda scores: scores,
    "l2": _l2,
    "max": _max,
    "rank": _rank,
    "standard": _standard,
}
"""``l2``: divided by the root of the sum of squares (Molchanov et al. 2017, layer-wise rescaling). ``max``: by the
largest absolute value. ``rank``: place / units, from just above 0 to 1. ``standard``: mean 0 and standard deviation 1,
for thresholds in deviations (Hu et al. 2016)."""


def normalise(name: str, scores: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Each group's scores (units,) rescaled within the group, in the same order; NaN stays NaN.

    Where a group has nothing to divide by (all scores zero, or all equal for ``standard``), its scores become 0.

    >>> normalise("l2", {"a": np.array([3.0, 4.0])})["a"].tolist()
    [0.6, 0.8]

    Raises ConfigError for an unknown name.
    """
    if name not in NORMALISERS:
        raise ConfigError(f"there is no normaliser {name!r}.", did_you_mean(name, NORMALISERS))
    return {group: NORMALISERS[name](np.asarray(each, dtype=np.float64)) for group, each in scores.items()}
