"""How strongly, how variably and how often a channel is active behind its activation function.

``activation_mean`` and ``activation_std``: Molchanov, Tyree, Karras, Aila, Kautz, "Pruning Convolutional Neural
Networks for Resource Efficient Inference", ICLR 2017, section 2.2: mean over examples and positions of the map z, and
sqrt(mean (z - mu)^2). ``apoz``: Hu, Peng, Tai, Tang, "Network Trimming: A Data-Driven Neuron Pruning Approach towards
Efficient Deep Architectures", 2016: the average percentage of zeros, sum over examples and positions of 1[z = 0] over
their number, of z behind the ReLU. A channel that is mostly zero is redundant, so the score is 1 - APoZ.

z is the map behind the activation and before pooling, which hides zeros (``statistics.sources``). A residual stream has
a map behind each addition: the mean over the maps. The standard deviation has a meaning everywhere; the mean has none
where channels are read without an activation (its sign says nothing there), and APoZ needs a ReLU (or ReLU6): neither
linear bottlenecks nor smooth activations give exact zeros.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from autoprune.errors import UndefinedScore
from autoprune.protocols import KnownStatistics, Statistic
from autoprune.pruning.statistics.activations import Activation, Activations
from autoprune.types import ChannelGroup

__all__ = ["ActivationCriterion"]

_ACTIVATIONS = Activations()
_DEFINED = {
    "activation_mean": ("rectified", "smooth"),
    "activation_std": ("rectified", "smooth", "linear"),
    "apoz": ("rectified",),
}


@dataclass
class ActivationCriterion:
    """``activation_mean``, ``activation_std`` or ``apoz``, by its name."""

    name: str
    needs: frozenset[Statistic] = frozenset({_ACTIVATIONS})

    def score(
        self, group: ChannelGroup, tensors: Mapping[str, Any], statistics: KnownStatistics | None = None
    ) -> np.ndarray:
        """Shape (units,), float64. Raises UndefinedScore where the group has no map of the kind that is needed."""
        assert statistics is not None
        found: Activation = statistics.of(_ACTIVATIONS, group)
        if found.kind not in _DEFINED[self.name]:
            without = "a ReLU" if found.kind == "smooth" else "an activation function"
            raise UndefinedScore(f"{found.reader!r} reads its channels without {without} in between")
        if self.name == "apoz":
            return 1.0 - found.zeros
        return found.mean if self.name == "activation_mean" else found.std
