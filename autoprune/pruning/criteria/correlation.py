"""How closely the neurons that read a channel follow it.

Sun, Wang, Tang, "Sparsifying Neural Network Connections for Face Recognition", CVPR 2016, keeps connections whose ends
correlate: r = E[(a - mean a)(b - mean b)] / (sigma_a sigma_b) over examples, and for shared weights the mean |r| over
the positions where a weight is applied. The paper masks single weights. Reduced to channels (ours), a channel scores
the mean |r| of its outgoing connections; several readers count alike. A neuron that does not vary correlates with
nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from autoprune.protocols import KnownStatistics, Statistic
from autoprune.pruning.statistics.contributions import Correlations
from autoprune.types import ChannelGroup

__all__ = ["CorrelationCriterion"]

_CORRELATIONS = Correlations()


@dataclass
class CorrelationCriterion:
    """Mean |correlation| of a channel with the outputs that it is connected to."""

    name: str = "correlation"
    needs: frozenset[Statistic] = frozenset({_CORRELATIONS})

    def score(
        self, group: ChannelGroup, tensors: Mapping[str, Any], statistics: KnownStatistics | None = None
    ) -> np.ndarray:
        """Shape (units,), float64, in [0, 1]. Raises UndefinedScore where no reader of the group can be looked into."""
        assert statistics is not None
        found: np.ndarray = statistics.of(_CORRELATIONS, group)
        return found
