"""Spearman's rank correlation where values may be equal.

Equal values get the average of their ranks, and the coefficient is Pearson's between the ranks. The short formula 1 - 6
sum d^2 / n (n^2 - 1) holds without ties only: for (1, 1, 2, 2) and (1, 2, 3, 4), ranked in order, it gives 1.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from scipy import stats

__all__ = ["spearman"]


def spearman(first: Sequence[float] | np.ndarray, second: Sequence[float] | np.ndarray) -> float:
    """In [-1, 1]; NaN where either has fewer than two different values. Raises ValueError for values that are NaN.

    >>> round(spearman([1, 1, 2, 2], [1, 2, 3, 4]), 3)
    0.894
    """
    a, b = np.asarray(first, dtype=np.float64), np.asarray(second, dtype=np.float64)
    if a.shape != b.shape or a.ndim != 1:
        raise ValueError(f"two rows of equally many values are needed, got shapes {a.shape} and {b.shape}")
    if np.isnan(a).any() or np.isnan(b).any():
        raise ValueError("NaN has no rank")
    if len(a) < 2 or (a == a[0]).all() or (b == b[0]).all():
        return math.nan
    ranks = np.stack([stats.rankdata(a), stats.rankdata(b)])
    ranks -= ranks.mean(axis=1, keepdims=True)
    return float(ranks[0] @ ranks[1] / math.sqrt((ranks[0] @ ranks[0]) * (ranks[1] @ ranks[1])))
