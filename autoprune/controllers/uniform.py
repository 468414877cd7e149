"""One keep_ratio for all groups: the baseline arm of every search, and the seeds of the others."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from autoprune.controllers.drawing import nearest
from autoprune.space import Decoder, SearchSpace
from autoprune.types import Candidate, Proposal, Trial

__all__ = ["UNIFORM", "UniformController", "uniform_widths"]

UNIFORM = {"origin": "uniform"}
"""The note of a proposal of uniform widths: plots and reports mark it as the baseline arm."""

_MOST_RATIOS = 4096


def uniform_widths(space: SearchSpace, decoder: Decoder, count: int) -> list[Candidate]:
    """At most ``count`` different candidates of equal keep_ratio in all groups, falling in about even steps of MACs.

    Those that rounding or the budgets leave no room for are skipped; where no uniform candidate stands as it is
    (a narrow budget), what they are decoded into takes their place.
    """
    if count < 1:
        return []
    ratios = np.linspace(1.0, 0.0, min(max(4 * count, 512), _MOST_RATIOS))
    vectors = np.stack([nearest(np.array(item.allowed), ratios * item.channels) for item in space.dimensions], axis=1)
    candidates = [space.candidate(row) for row in _distinct(vectors)]
    decoded = [decoder.decode(candidate) for candidate in candidates]
    pool = [before for before, after in zip(candidates, decoded, strict=True) if before is after] or decoded
    vectors = _distinct(np.stack([space.vector(candidate) for candidate in pool]))
    macs = space.cost.macs(vectors)
    vectors, macs = vectors[np.argsort(-macs, kind="stable")], np.sort(macs)[::-1]
    if len(vectors) > count:
        targets = np.linspace(macs[0], macs[-1], count)
        picks = np.abs(macs[None, :] - targets[:, None]).argmin(axis=1)
        vectors = vectors[list(dict.fromkeys(picks.tolist()))]
    return [space.candidate(row) for row in vectors]


def _distinct(vectors: np.ndarray) -> np.ndarray:
    """Rows in their order, each once."""
    _, first = np.unique(vectors, axis=0, return_index=True)
    return np.asarray(vectors[np.sort(first)])


class UniformController:
    """Proposal ``number`` is the number-th point of the grid: from the widest feasible to the smallest."""

    def __init__(self, *, space: SearchSpace, decoder: Decoder, trials: int) -> None:
        self._grid = uniform_widths(space, decoder, trials)
        self._next = 0

    @property
    def exhausted(self) -> bool:
        return self._next >= len(self._grid)

    def ask(self, number: int) -> Proposal | None:
        self._next = max(self._next, number + 1)
        return Proposal(self._grid[number], UNIFORM) if number < len(self._grid) else None

    def tell(self, trial: Trial) -> None:
        """Learns nothing."""

    def state(self) -> Mapping[str, Any]:
        return {}

    def load_state(self, state: Mapping[str, Any], history: Sequence[Trial]) -> None:
        self._next = max((trial.number + 1 for trial in history), default=0)
