"""First-order change of the loss when a channel is taken away.

Molchanov, Tyree, Karras, Aila, Kautz, "Pruning Convolutional Neural Networks for Resource Efficient Inference", ICLR
2017, section 2.2: Theta(z) = | 1/M sum over the M positions of a feature map of z dC/dz |, for each example, averaged
over the examples (``reduce="mean_abs"``). ``reduce="abs_of_sum"`` takes the absolute value once, of the mean over the
examples, as jacobgil/pytorch-pruning does: there signs cancel between examples.

Measured where the channel is read, behind BatchNorm and activation: before a BatchNorm the sum is about 0 for every
channel, whose scale the BatchNorm takes out. Channels with several readers (residual streams) add up their derivatives,
which is that of the one gate of all readers. M is the size of the map
behind the activation, before pooling.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from autoprune.protocols import KnownStatistics, Statistic
from autoprune.pruning.statistics.gradients import GateGradient, GateGradients
from autoprune.types import ChannelGroup

__all__ = ["TaylorCriterion"]

_GRADIENTS = GateGradients()


@dataclass
class TaylorCriterion:
    """Mean of |t| / M, or |mean of t| / M; t = sum of z dC/dz."""

    reduce: Literal["mean_abs", "abs_of_sum"] = "mean_abs"
    name: str = "taylor"
    needs: frozenset[Statistic] = frozenset({_GRADIENTS})

    def score(
        self, group: ChannelGroup, tensors: Mapping[str, Any], statistics: KnownStatistics | None = None
    ) -> np.ndarray:
        """Shape (units,), float64. Raises UndefinedScore where the readers of the group cannot be seen."""
        assert statistics is not None
        found: GateGradient = statistics.of(_GRADIENTS, group)
        total = found.mean_abs if self.reduce == "mean_abs" else np.abs(found.mean)
        return total / found.size
