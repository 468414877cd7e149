"""The order in which the LASSO takes channels up to explain the next layer's outputs.

He, Zhang, Sun, "Channel Pruning for Accelerating Very Deep Neural Networks", ICCV 2017, section 3.1, first step: with
z_i what channel i contributes to the outputs of the next layer, its weights W_i scaled to norm 1, minimise
|y - sum of b_i z_i|^2 / 2 + lambda |b|_1. The paper raises lambda until few enough b_i are left. The whole path is
followed here (LARS, by scikit-learn): a channel that is taken up at a larger lambda ranks higher; equal ones by |b_i|
at the path's end. A channel that leaves the path again keeps the place of its entry, so the kept sets of all widths are
nested. Outputs are taken about their means, since the second step fits an intercept. Where a channel has several
readers, their rows are stacked, each scaled to unit total variance.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from autoprune.protocols import KnownStatistics, Statistic
from autoprune.pruning.statistics.contributions import Contribution, Contributions
from autoprune.types import ChannelGroup

__all__ = ["LassoCriterion", "entry_ranks", "lasso_path"]

_CONTRIBUTIONS = Contributions()
_DEAD = 1e-12
"""Of the largest variance of a contribution: less is none."""


@dataclass
class LassoCriterion:
    """The place of a channel in the order of the LASSO path, the first one taken up highest, from 0."""

    name: str = "lasso"
    needs: frozenset[Statistic] = frozenset({_CONTRIBUTIONS})

    def score(
        self, group: ChannelGroup, tensors: Mapping[str, Any], statistics: KnownStatistics | None = None
    ) -> np.ndarray:
        """Shape (units,), float64. Raises UndefinedScore where no reader of the group can be looked into."""
        assert statistics is not None
        found: Sequence[Contribution] = statistics.of(_CONTRIBUTIONS, group)
        stacked, squares = np.zeros((group.units, group.units)), np.zeros(group.units)
        for each in found:
            total = each.covariance.sum()
            if total > 0:
                stacked += each.covariance / total
                squares += each.norms**2 / total
        to_norm_1 = np.zeros(group.units)
        np.divide(1, np.sqrt(squares), out=to_norm_1, where=squares > 0)
        return entry_ranks(*lasso_path(stacked * to_norm_1 * to_norm_1[:, None], stacked.sum(1) * to_norm_1))


def lasso_path(gram: np.ndarray, right: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Knots lambda (steps,), falling, and the coefficients at them (units, steps), of the LASSO with second moments
    ``gram`` (units, units) between the columns and ``right`` (units,) with the target.

    Columns without variance, and copies of others, keep the coefficient 0.
    """
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import lars_path_gram

    own = np.diagonal(gram)
    alive = np.flatnonzero(own > _DEAD * own.max(initial=0.0))
    if not len(alive):
        return np.zeros(1), np.zeros((len(gram), 1))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # of copies, which it leaves out
        knots, _, found = lars_path_gram(
            right[alive].copy(), gram[np.ix_(alive, alive)].copy(), n_samples=1, max_iter=8 * len(alive), method="lasso"
        )
    coefficients = np.zeros((len(gram), len(knots)))
    coefficients[alive] = found
    return knots, coefficients


def entry_ranks(knots: np.ndarray, coefficients: np.ndarray) -> np.ndarray:
    """Rank of each unit, (units,) float64 from 0: by the knot at which it leaves zero first, then by its size at the
    path's end; equal ones in reverse order of the units, so that the first of them is kept."""
    active = coefficients != 0
    first = np.where(active.any(1), active.argmax(1), len(knots))
    ranks = np.empty(len(coefficients))
    ranks[np.lexsort((-np.arange(len(ranks)), np.abs(coefficients[:, -1]), -first))] = np.arange(len(ranks))
    return ranks
