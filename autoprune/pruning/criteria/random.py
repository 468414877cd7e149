"""Uniformly random order: the control that every criterion has to beat.

Mittal, Bhardwaj, Khapra, Ravindran, "Recovering from Random Pruning", WACV 2018.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from autoprune.protocols import KnownStatistics, Statistic
from autoprune.types import ChannelGroup

__all__ = ["RandomCriterion"]


@dataclass
class RandomCriterion:
    """Scores drawn from a generator seeded by (seed, group name): the same in every process."""

    seed: int = 0
    name: str = "random"
    needs: frozenset[Statistic] = frozenset()

    def score(
        self, group: ChannelGroup, tensors: Mapping[str, Any], statistics: KnownStatistics | None = None
    ) -> np.ndarray:
        """Shape (units,), float64, in [0, 1)."""
        digest = hashlib.sha256(group.name.encode()).digest()
        return np.random.default_rng((self.seed, int.from_bytes(digest[:8], "big"))).random(group.units)
