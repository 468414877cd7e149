"""A search without a network: the cost table of a plain convolutional chain and a made-up accuracy."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from autoprune.config.schema import RuleConfig
from autoprune.cost.table import CostTable, Cut, Term
from autoprune.space import SearchSpace
from autoprune.types import Candidate, ChannelGroup, Constraint, Objective

__all__ = ["ToySearch", "toy_space"]


def toy_space(
    channels: Sequence[int] = (16, 16, 32, 32, 64, 64), *, multiple: int = 4, floor: float = 0.25, pixels: int = 32
) -> SearchSpace:
    """A chain of 3x3 convolutions, the map halved where the channels double, then a linear layer of ten outputs.

    >>> toy_space((8, 16)).cost.baseline["macs"]  # 3*3 * (3*8*32*32 + 8*16*16*16) + 16*10
    516256.0
    """
    terms, before = [], 3
    for at, width in enumerate(channels):
        pixels = pixels // 2 if at and width > before else pixels
        cuts = (Cut(0, at, 1), *((Cut(1, at - 1, 1),) if at else ()))
        terms.append(Term(f"conv{at}.weight", (width, before, 3, 3), max(pixels, 1) ** 2, cuts))
        terms.append(Term(f"bn{at}.weight", (width,), 0, (Cut(0, at, 1),)))
        before = width
    terms.append(Term("fc.weight", (10, before), 1, (Cut(1, len(channels) - 1, 1),)))
    names = tuple(f"conv{at}" for at in range(len(channels)))
    groups = tuple(ChannelGroup(name, width, ()) for name, width in zip(names, channels, strict=True))
    cost = CostTable(names, np.array(channels), np.ones(len(channels), dtype=np.int64), tuple(terms))
    return SearchSpace.build(groups, cost, (RuleConfig(multiple=multiple, floor=floor),))


@dataclass(frozen=True)
class ToySearch:
    """A space with an accuracy of diminishing returns: each group costs ``weight * (1 - keep) / keep``."""

    space: SearchSpace
    objectives: tuple[Objective, ...] = (Objective("top1", "max"), Objective("macs", "min"))
    constraints: tuple[Constraint, ...] = ()
    landscape: int = 0
    """Seed of the groups' weights, which differ by about a factor of thirty."""

    @property
    def weights(self) -> np.ndarray:
        """(G,) float64: how much each group matters."""
        return np.exp(np.random.default_rng(self.landscape).normal(-4.0, 1.2, len(self.space.dimensions)))

    def measure(self, candidate: Candidate) -> dict[str, float]:
        """top1 in (0, 0.95), loss = 1 - top1, and the costs."""
        keep = self.space.vector(candidate) / np.array([item.channels for item in self.space.dimensions])
        top1 = float(0.95 * np.exp(-np.sum(self.weights * (1 - keep) / keep)))
        return {"top1": top1, "loss": 1.0 - top1, **self.space.cost.measure(candidate)}
