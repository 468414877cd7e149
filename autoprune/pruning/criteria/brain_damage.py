"""Second-order change of the loss when a channel is taken away.

LeCun, Denker, Solla, "Optimal Brain Damage", NIPS 1989: at a minimum, with the cross terms left out, deleting parameter
u_k costs s_k = h_kk u_k^2 / 2. Here the parameter is the gate of a unit, whose value is 1: s_k = h_kk / 2, the cost of
deleting the whole channel, including the products of its positions. Three estimates of h_kk:

- ``fisher``: the mean over the examples of t^2, t = dC/d gate (Theis, Korshunova, Tejani, Huszar, "Faster gaze
  prediction with dense networks and Fisher pruning", 2018). Squared example by example: the square of the
  batch's mean gradient is something else.
- ``gauss_newton``: the diagonal of J' H J, which is never negative and needs no labels.
- ``hutchinson``: the diagonal of the Hessian itself by random v = +-1, E[v * Hv]. It may be negative away from a
  minimum, where the derivation does not hold: ``negative="clip"`` makes those 0, ``"keep"`` leaves them to go first.

Several readers of a channel (residual streams) share its gate.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from autoprune.protocols import KnownStatistics, Statistic
from autoprune.pruning.statistics.curvature import GaussNewton, Hutchinson
from autoprune.pruning.statistics.gradients import GateGradient, GateGradients
from autoprune.types import ChannelGroup

__all__ = ["FisherCriterion", "GaussNewtonCriterion", "HutchinsonCriterion"]

_GRADIENTS = GateGradients()


@dataclass
class FisherCriterion:
    """Mean of t^2 / 2."""

    name: str = "fisher"
    needs: frozenset[Statistic] = frozenset({_GRADIENTS})

    def score(
        self, group: ChannelGroup, tensors: Mapping[str, Any], statistics: KnownStatistics | None = None
    ) -> np.ndarray:
        """Shape (units,), float64, >= 0. Raises UndefinedScore where the readers of the group cannot be seen."""
        assert statistics is not None
        found: GateGradient = statistics.of(_GRADIENTS, group)
        return found.mean_square / 2


@dataclass
class GaussNewtonCriterion:
    """Half the diagonal of the Gauss-Newton matrix."""

    draws: int = 1
    """Labels that are drawn for each example; 0: all classes, exactly."""
    name: str = "gauss_newton"

    @property
    def needs(self) -> frozenset[Statistic]:
        return frozenset({GaussNewton(self.draws)})

    def score(
        self, group: ChannelGroup, tensors: Mapping[str, Any], statistics: KnownStatistics | None = None
    ) -> np.ndarray:
        """Shape (units,), float64, >= 0. Raises UndefinedScore where the readers of the group cannot be seen."""
        assert statistics is not None
        diagonal: np.ndarray = statistics.of(GaussNewton(self.draws), group)
        return diagonal / 2


@dataclass
class HutchinsonCriterion:
    """Half the diagonal of the Hessian."""

    draws: int = 1
    """Random vectors for each example."""
    negative: Literal["clip", "keep"] = "clip"
    name: str = "hutchinson"

    @property
    def needs(self) -> frozenset[Statistic]:
        return frozenset({Hutchinson(self.draws)})

    def score(
        self, group: ChannelGroup, tensors: Mapping[str, Any], statistics: KnownStatistics | None = None
    ) -> np.ndarray:
        """Shape (units,), float64. Raises UndefinedScore where the readers of the group cannot be seen."""
        assert statistics is not None
        diagonal: np.ndarray = statistics.of(Hutchinson(self.draws), group)
        return (np.maximum(diagonal, 0.0) if self.negative == "clip" else diagonal) / 2
