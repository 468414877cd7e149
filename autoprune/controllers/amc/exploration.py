"""How far from the actor's choice an episode strays."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

__all__ = ["Schedule", "truncated_normal"]


def truncated_normal(mean: float, sigma: float, rng: np.random.Generator) -> float:
    """A draw of the normal distribution restricted to [0, 1], by inversion."""
    if sigma <= 0:
        return min(1.0, max(0.0, mean))
    normal = NormalDist(mean, sigma)
    at = rng.uniform(normal.cdf(0.0), normal.cdf(1.0))
    return min(1.0, max(0.0, normal.inv_cdf(min(max(at, 1e-12), 1 - 1e-12))))


@dataclass(frozen=True)
class Schedule:
    """Standard deviation of an episode: ``first`` up to the end of the warm-up, then falling geometrically."""

    first: float
    factor: float
    """From one episode to the next."""
    warmup: int

    @classmethod
    def over(cls, episodes: int, warmup: int, first: float, last: float) -> Schedule:
        """Falls to ``last`` by the end, however many episodes there are."""
        return cls(first, (last / first) ** (1 / max(1, episodes - warmup)), warmup)

    def sigma(self, episode: int) -> float:
        return self.first * self.factor ** max(0, episode - self.warmup)
