"""Ray's asynchronous successive halving, asked about one candidate at a time.

Source: Li et al. 2020, A System for Massively Parallel Hyperparameter Tuning (ASHA), as Ray implements it: at a rung a
trial goes on unless its reward is below the (1 - 1 / eta) percentile of the rewards that others had there before it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

from ray.tune.schedulers import AsyncHyperBandScheduler

__all__ = ["AshaRule"]


class AshaRule:
    """One bracket of ``AsyncHyperBandScheduler``.

    Tune's trials are slots here, so its scheduler never sees a candidate; and rewards of earlier candidates change when
    more is known (``driver/halving.py``). So the bracket is told what others have at the rung whenever it is asked.
    """

    def __init__(self, epochs: int, grace_epochs: int, reduction: float) -> None:
        self.reduction = reduction
        scheduler = AsyncHyperBandScheduler(
            time_attr="epoch",
            metric="reward",
            mode="max",
            max_t=epochs,
            grace_period=grace_epochs,
            reduction_factor=reduction,
        )
        self._bracket: Any = scheduler._brackets[0]
        self._stop = scheduler.STOP
        milestones = [milestone for milestone, _ in self._bracket._rungs]
        self.rungs = tuple(sorted({math.ceil(each) for each in milestones if math.ceil(each) < epochs}))
        """Epochs after which a trial may be stopped, ascending; the last epoch is none of them."""

    def stops(self, epoch: int, reward: float, others: Sequence[float]) -> bool:
        """Whether a trial with this reward at a rung is stopped, when these are the rewards that others had there."""
        for milestone, recorded in self._bracket._rungs:
            recorded.clear()
            if math.ceil(milestone) == epoch:
                recorded.update(enumerate(others))
        return bool(self._bracket.on_result(SimpleNamespace(trial_id="asked"), epoch, reward) == self._stop)
