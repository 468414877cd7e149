"""The scale that BatchNorm gives a channel.

``bn_scale``: Liu, Li, Shen, Huang, Yan, Zhang, "Learning Efficient Convolutional Networks through Network Slimming",
ICCV 2017, section 3: the score of a channel is |gamma|, best after training with an L1 penalty on all gammas.

``gamma_weight``: |gamma| ||W||_1 / sigma, the L1 norm of the filter that convolution and BatchNorm are together in
evaluation mode; ||W|| alone says little where a BatchNorm rescales the filter.

Both read every BatchNorm through which the group's channels pass on their way from producers to consumers. Of several
(depthwise layers, residual streams) the mean is taken. ``gamma_weight`` multiplies producer by producer where there are
as many BatchNorms as producers, in the order of the model's layers, and otherwise the means of both. The epsilon under
sigma is torch's default, 1e-5. A group without such a BatchNorm has no score.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from autoprune.errors import UndefinedScore
from autoprune.protocols import KnownStatistics, Statistic
from autoprune.pruning.criteria.group_norm import slice_norms
from autoprune.types import ChannelGroup

__all__ = ["BatchNormCriterion", "FoldedNormCriterion"]

_EPSILON = 1e-5


@dataclass
class BatchNormCriterion:
    """Mean of |gamma|."""

    name: str = "bn_scale"
    needs: frozenset[Statistic] = frozenset()

    def score(
        self, group: ChannelGroup, tensors: Mapping[str, Any], statistics: KnownStatistics | None = None
    ) -> np.ndarray:
        """Shape (units,), float64. Raises UndefinedScore without a BatchNorm."""
        scale: np.ndarray = np.mean([gamma for gamma, _ in _norms(group, tensors)], axis=0)
        return scale


@dataclass
class FoldedNormCriterion:
    """Mean of |gamma| ||W||_1 / sigma."""

    name: str = "gamma_weight"
    needs: frozenset[Statistic] = frozenset()

    def score(
        self, group: ChannelGroup, tensors: Mapping[str, Any], statistics: KnownStatistics | None = None
    ) -> np.ndarray:
        """Shape (units,), float64. Raises UndefinedScore without a BatchNorm, ValueError without a producing layer."""
        filters = [slice_norms(part, tensors, 1) for part in group.members if part.role == "producer"]
        if not filters:
            raise ValueError(f"group {group.name} has no producing layer")
        scales = [gamma / sigma for gamma, sigma in _norms(group, tensors)]
        if len(filters) != len(scales):
            filters, scales = [np.mean(filters, axis=0)], [np.mean(scales, axis=0)]
        folded: np.ndarray = np.mean([norm * scale for norm, scale in zip(filters, scales, strict=True)], axis=0)
        return folded


def _norms(group: ChannelGroup, tensors: Mapping[str, Any]) -> list[tuple[np.ndarray, np.ndarray]]:
    """(|gamma|, sigma) of each BatchNorm, both (units,) float64, the mean over the channels of a unit."""
    found = []
    for part in group.members:
        path, _, attribute = part.parameter.rpartition(".")
        variance = tensors.get(f"{path}.running_var")
        if part.role == "through" and attribute == "weight" and variance is not None:
            gamma = tensors[part.parameter].detach().to("cpu", torch.float64).abs().numpy()
            sigma = (variance.detach().to("cpu", torch.float64) + _EPSILON).sqrt().numpy()
            found.append((gamma[part.index].mean(1), sigma[part.index].mean(1)))
    if not found:
        raise UndefinedScore("no BatchNorm with a scale lies between the layers that make and read its channels")
    return found
