"""What the wrapped samplers share."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np
import optuna
from optuna.distributions import BaseDistribution
from optuna.trial import FrozenTrial

__all__ = ["Known", "seeded"]


class Known:
    """A sampler told of the search space, which Optuna otherwise infers from all earlier trials at each proposal."""

    def __init__(self, together: Mapping[str, BaseDistribution], **options: Any) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            super().__init__(**options)
        self._together = dict(together)

    def infer_relative_search_space(self, study: optuna.Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        return self._together


def seeded(*entropy: int) -> int:
    """A seed of 32 bits."""
    return int(np.random.SeedSequence(entropy).generate_state(1)[0])
