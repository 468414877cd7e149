"""How evolution sees a candidate: as a vector that it can vary and cross, and that always decodes into the budgets."""

from __future__ import annotations

from typing import Protocol

import numpy as np

from autoprune.controllers.drawing import Aim, draw
from autoprune.space import Decoder
from autoprune.types import Candidate

__all__ = ["Genes", "Proportions", "Widths"]

_STEP = 0.25
"""Standard deviation of a mutation, as a share of a gene's range."""


class Genes(Protocol):
    """An encoding of candidates as vectors (L,)."""

    def encode(self, candidate: Candidate) -> np.ndarray: ...

    def build(self, genes: np.ndarray) -> Candidate:
        """Within the budgets, by decoding."""
        ...

    def mutated(self, genes: np.ndarray, which: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """A copy with the genes of the mask ``which`` (L,) changed."""
        ...

    def random(self, rng: np.random.Generator) -> Candidate: ...


class Proportions:
    """Proportions of the widths, and their share of the cost where no budget fixes it (``drawing.Aim``)."""

    def __init__(self, decoder: Decoder, aim: Aim) -> None:
        self._space, self._aim = decoder.space, aim
        groups = len(self._space.dimensions)
        shares = 0 if aim.metric is None else 1
        self._low = np.concatenate([np.full(groups, -1.0), np.zeros(shares)])

    def encode(self, candidate: Candidate) -> np.ndarray:
        shares = [] if self._aim.metric is None else [self._aim.share(candidate)]
        return np.concatenate([self._aim.proportions(candidate), shares])

    def build(self, genes: np.ndarray) -> Candidate:
        groups = len(self._space.dimensions)
        return self._aim.place(genes[:groups], float(genes[groups]) if len(genes) > groups else 0.0)

    def mutated(self, genes: np.ndarray, which: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        steps = rng.normal(0.0, _STEP, len(genes)) * (1.0 - self._low)
        return np.clip(genes + np.where(which, steps, 0.0), self._low, 1.0)

    def random(self, rng: np.random.Generator) -> Candidate:
        return draw(self._space, self._aim, rng)


class Widths:
    """Positions among the allowed widths, as in MetaPruning: a mutation adds 1 to K - 1 modulo the K widths."""

    def __init__(self, decoder: Decoder) -> None:
        self._decoder = decoder
        self._counts = decoder.lattice.counts

    def encode(self, candidate: Candidate) -> np.ndarray:
        return self._decoder.lattice.index(candidate)

    def build(self, genes: np.ndarray) -> Candidate:
        return self._decoder.decode(self._decoder.lattice.candidate(genes))

    def mutated(self, genes: np.ndarray, which: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        steps = rng.integers(1, np.maximum(self._counts, 2))
        return np.asarray(np.where(which, (genes + steps) % self._counts, genes))

    def random(self, rng: np.random.Generator) -> Candidate:
        return self.build(rng.integers(0, self._counts))
