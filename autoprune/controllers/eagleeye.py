"""EagleEye's search (Li et al. 2020): random widths whose cost lies within a narrow band below the budget.

The original rejects what falls outside the band, without a limit on its tries; here each draw is decoded into it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

from autoprune.config.controllers import EagleEyeControllerConfig
from autoprune.controllers.drawing import Proposed
from autoprune.space import Decoder, SearchSpace
from autoprune.types import Candidate, Constraint, Proposal, Trial

__all__ = ["EagleEyeController"]

_TRIES = 8


class EagleEyeController:
    """Independent keep_ratios, each uniform between its group's smallest width and full, filled up to the band.

    The band is [B * (1 - tolerance), B], B being an upper bound of the search, or ``budget`` times the full model's
    MACs where the search has none (at least what its lower bounds leave reachable). A candidate below the band is one
    that no width can grow in.
    """

    def __init__(self, config: EagleEyeControllerConfig, *, space: SearchSpace, decoder: Decoder, seed: int) -> None:
        self._space, self._seed = space, seed
        self._proposed = Proposed(space)
        bounds = list(decoder.constraints)
        if not any(item.op == "<=" for item in bounds):
            low, high = decoder.cost_range("macs")
            budget = config.budget * space.cost.baseline["macs"]
            bounds.append(Constraint("macs", "<=", min(max(budget, low), high)))
        self._decoder = Decoder(space, bounds, tolerance=config.tolerance)

    @property
    def exhausted(self) -> bool:
        return self._proposed.everything

    def ask(self, number: int) -> Proposal | None:
        return None if self.exhausted else Proposal(self._proposed.first_new(self._attempts(number)))

    def _attempts(self, number: int) -> Iterator[Callable[[], Candidate]]:
        for attempt in range(_TRIES):
            yield partial(self._drawn, np.random.default_rng((self._seed, number, attempt)))

    def _drawn(self, rng: np.random.Generator) -> Candidate:
        ratios = [rng.uniform(item.allowed[0] / item.channels, 1.0) for item in self._space.dimensions]
        pairs = zip(self._space.dimensions, ratios, strict=True)
        drawn = Candidate({item.name: item.nearest(ratio * item.channels) for item, ratio in pairs})
        return self._decoder.decode(drawn)

    def tell(self, trial: Trial) -> None:
        """Learns nothing."""

    def state(self) -> Mapping[str, Any]:
        return {}

    def load_state(self, state: Mapping[str, Any], history: Sequence[Trial]) -> None:
        self._proposed.restore(history)
