"""Random search: the arm that every other controller has to beat."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

from autoprune.controllers.drawing import Aim, Proposed, draw
from autoprune.controllers.uniform import UNIFORM, uniform_widths
from autoprune.space import Decoder, SearchSpace
from autoprune.types import Candidate, Objective, Proposal, Trial

__all__ = ["RandomController"]

_ATTEMPTS = 8


class RandomController:
    """Draws from ``default_rng((seed, number, attempt))``; another attempt only where the draw repeats a proposal."""

    def __init__(
        self,
        *,
        space: SearchSpace,
        decoder: Decoder,
        objectives: Sequence[Objective],
        seed: int,
        seed_uniform: int = 0,
    ) -> None:
        self._space = space
        self._aim = Aim(decoder, objectives)
        self._seed = seed
        self._uniform = uniform_widths(space, decoder, seed_uniform)
        self._proposed = Proposed(space)

    @property
    def exhausted(self) -> bool:
        return self._proposed.everything

    def ask(self, number: int) -> Proposal | None:
        if self.exhausted:
            return None
        candidate = self._proposed.first_new(self._attempts(number))
        return Proposal(candidate, UNIFORM if candidate in self._uniform[number : number + 1] else {})

    def _attempts(self, number: int) -> Iterator[Callable[[], Candidate]]:
        if number < len(self._uniform):
            yield partial(self._uniform.__getitem__, number)
        for attempt in range(_ATTEMPTS):
            rng = np.random.default_rng((self._seed, number, attempt))
            yield partial(draw, self._space, self._aim, rng)

    def tell(self, trial: Trial) -> None:
        """Learns nothing."""

    def state(self) -> Mapping[str, Any]:
        return {}

    def load_state(self, state: Mapping[str, Any], history: Sequence[Trial]) -> None:
        self._proposed.restore(history)
