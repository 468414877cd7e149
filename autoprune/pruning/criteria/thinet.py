"""Which channels the next layer can do without, chosen one after the other.

Luo, Wu, Lin, "ThiNet: A Filter Level Pruning Method for Deep Neural Network Compression", ICCV 2017, section 3.2 and
algorithm 1: the set T of channels to remove grows by the channel that keeps the sum over rows of (sum over j in T of
x_j)^2 smallest, x_j being what channel j contributes to one output of the next layer, its bias left out. The order of
removal is the ranking. The paper draws one output filter for each row; here the rows of a place stand for all filters
at once. Where a channel has several readers, their rows are stacked, each scaled to unit total.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from autoprune.protocols import KnownStatistics, Statistic
from autoprune.pruning.statistics.contributions import Contribution, Contributions
from autoprune.types import ChannelGroup

__all__ = ["ThinetCriterion", "removal_order"]

_CONTRIBUTIONS = Contributions()


@dataclass
class ThinetCriterion:
    """The round of ThiNet's greedy search in which a channel is removed, from 0."""

    name: str = "thinet"
    needs: frozenset[Statistic] = frozenset({_CONTRIBUTIONS})

    def score(
        self, group: ChannelGroup, tensors: Mapping[str, Any], statistics: KnownStatistics | None = None
    ) -> np.ndarray:
        """Shape (units,), float64. Raises UndefinedScore where no reader of the group can be looked into."""
        assert statistics is not None
        found: Sequence[Contribution] = statistics.of(_CONTRIBUTIONS, group)
        totals = [each.second.sum() for each in found]
        stacked = sum(each.second / total for each, total in zip(found, totals, strict=True) if total > 0)
        scores = np.zeros(group.units)
        scores[removal_order(np.broadcast_to(stacked, (group.units, group.units)))] = np.arange(group.units)
        return scores


def removal_order(second: np.ndarray) -> np.ndarray:
    """Greedy: each next channel is the one with which the removed ones' sum is smallest. Of equal ones, the first.

    ``second`` (units, units) are the second moments E[x_i x_j]. Shape (units,), int64.
    """
    own = np.diagonal(second).copy()
    with_removed = np.zeros(len(second))
    left = np.ones(len(second), dtype=bool)
    order = np.empty(len(second), dtype=np.int64)
    for round_ in range(len(second)):
        growth = np.where(left, own + 2 * with_removed, np.inf)
        order[round_] = chosen = int(growth.argmin())
        left[chosen] = False
        with_removed += second[chosen]
    return order
