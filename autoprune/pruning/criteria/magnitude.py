"""Size of the filters that make a channel.

Li, Kadav, Durdanovic, Samet, Graf, "Pruning Filters for Efficient ConvNets", ICLR 2017, section 3.1: the importance of
output channel j of a convolution is s_j = sum over inputs and kernel positions of |W_j|. ``l2`` takes the Euclidean
norm of the same filter instead. Where residual sums couple several producers, the score is the mean over the
producers; where channels leave together (grouped convolutions), the norm is over all their filters.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from autoprune.protocols import KnownStatistics, Statistic
from autoprune.pruning.criteria.group_norm import slice_norms
from autoprune.types import ChannelGroup

__all__ = ["MagnitudeCriterion"]


@dataclass
class MagnitudeCriterion:
    """``l1`` (power 1) or ``l2`` (power 2) norm of the producing filters."""

    name: str
    power: int
    needs: frozenset[Statistic] = frozenset()

    def score(
        self, group: ChannelGroup, tensors: Mapping[str, Any], statistics: KnownStatistics | None = None
    ) -> np.ndarray:
        """Shape (units,), float64. Raises ValueError for a group without a producing layer."""
        scores = []
        for member in group.members:
            if member.role == "producer":
                scores.append(slice_norms(member, tensors, self.power) ** (1.0 / self.power))
        if not scores:
            raise ValueError(f"group {group.name} has no producing layer")
        mean: np.ndarray = np.mean(scores, axis=0)
        return mean
