"""Size of all the weights that leave together with a channel: the filters that make it and those that read it.

Fang, Ma, Song, Mi, Wang, "DepGraph: Towards Any Structural Pruning", CVPR 2023, section 3.3: the importance of unit k
of a group is the sum over the group's parameters w of ||w[k]||_2^2. Two things are ours. Each layer's norms are divided
by their mean over the units before the mean over layers is taken, so that a large layer does not outvote the others.
And only producers and consumers count: a BatchNorm's scale or a bias is one number beside whole filters, which the
division would make as heavy as they are.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from autoprune.protocols import KnownStatistics, Statistic
from autoprune.types import ChannelGroup, Slice

__all__ = ["GroupNormCriterion", "slice_norms"]


@dataclass
class GroupNormCriterion:
    """Mean over the group's producers and consumers of sum |w|^power, relative to each layer's mean over the units."""

    name: str
    power: int
    needs: frozenset[Statistic] = frozenset()

    def score(
        self, group: ChannelGroup, tensors: Mapping[str, Any], statistics: KnownStatistics | None = None
    ) -> np.ndarray:
        """Shape (units,), float64, 1 on average. A layer whose weights are all zero has no say.

        Raises ValueError for a group without producing or consuming layers.
        """
        norms = [slice_norms(part, tensors, self.power) for part in group.members if part.role != "through"]
        if not norms:
            raise ValueError(f"group {group.name} has no producing or consuming layer")
        voting = [each / each.mean() for each in norms if each.any()]
        mean: np.ndarray = np.mean(voting or norms, axis=0)
        return mean


def slice_norms(part: Slice, tensors: Mapping[str, Any], power: int) -> np.ndarray:
    """Sum of |w|^power over everything that leaves with a unit: (units,) float64."""
    weight = tensors[part.parameter].detach().to(torch.float64).abs().pow(power)
    others = [dim for dim in range(weight.ndim) if dim != part.dim]
    sums = (weight.sum(dim=others) if others else weight).cpu().numpy()
    total: np.ndarray = sums[part.index].sum(axis=1)
    return total
