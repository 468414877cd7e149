"""Distance to the other filters: what lies nearest to all of them can be replaced by them.

He, Liu, Wang, Hu, Yang, "Filter Pruning via Geometric Median for Deep Convolutional Neural Networks Acceleration", CVPR
2019: the filter that minimises g(x) = sum_j ||x - F_j||_2 over the layer's own filters goes first, so the score is
s_i = sum_j ||F_i - F_j||_2. ``norm_share`` is the paper's mixed mode: that share of the units, those with the smallest
norms, goes before all others, whose distances are then taken among themselves. The share of n units is the whole number
next to it (``ranking.portion``), halves up; the paper's code cuts it off, which drops none of 10 at a share of 0.1.

A unit's filter is everything that makes it: channels that leave together are one point. Where a residual sum couples
several producers, norms and distances are averaged over them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from autoprune.protocols import KnownStatistics, Statistic
from autoprune.pruning.ranking import portion
from autoprune.types import ChannelGroup, Slice

__all__ = ["GeometricMedianCriterion"]


@dataclass
class GeometricMedianCriterion:
    """Sum of distances; units dropped by their norm lie below 0, the smallest norm lowest."""

    norm_share: float = 0.0
    """Share of the units that go by their norm, in [0, 1)."""
    name: str = "fpgm"
    needs: frozenset[Statistic] = frozenset()

    def score(
        self, group: ChannelGroup, tensors: Mapping[str, Any], statistics: KnownStatistics | None = None
    ) -> np.ndarray:
        """Shape (units,), float64. Raises ValueError for a group without a producing layer."""
        points = [_filters(member, tensors) for member in group.members if member.role == "producer"]
        if not points:
            raise ValueError(f"group {group.name} has no producing layer")
        norms = np.mean([each.norm(dim=1).numpy() for each in points], axis=0)
        dropped = portion(group.units, self.norm_share)
        by_norm = np.argsort(norms, kind="stable")
        rest = np.sort(by_norm[dropped:])
        scores = -1.0 / (1.0 + norms)
        scores[rest] = np.mean([_distances(each[rest]) for each in points], axis=0)
        return scores


def _filters(part: Slice, tensors: Mapping[str, Any]) -> torch.Tensor:
    """(units, weights of a unit) float64."""
    weight = tensors[part.parameter].detach().to("cpu", torch.float64).movedim(part.dim, 0)
    return weight[torch.from_numpy(part.index)].flatten(1)


def _distances(points: torch.Tensor) -> np.ndarray:
    """Sum over j of ||x_i - x_j||, (points,). Computed from the differences, so that equal points tie."""
    each = torch.cdist(points, points, compute_mode="donot_use_mm_for_euclid_dist")
    total: np.ndarray = each.sum(dim=1).numpy()
    return total
