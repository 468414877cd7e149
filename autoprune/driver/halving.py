"""Asynchronous successive halving: after some epochs of training, a trial goes on only if it is among the better ones.

Which share goes on is the rule's business (``executors/ray_asha.py``: Ray's); what "better" means is decided here.
Accuracies of a large and of a small network do not compare: by top1 alone nearly all small networks would be stopped.
So a trial's reward at a rung is how far its top1 is below the best top1 that any trial had there at no higher cost, in
log-odds, which spread alike near 60 and near 99 %. Whoever is on the rung's own front has the greatest reward there is,
0, and always goes on. With top1 as the only objective the reward is top1. Rewards of earlier trials are computed anew
for each decision, since later trials move the front; so a decision depends on what was measured and on nothing else,
and a resumed search, which knows that from its trials, decides as the uncut one.

Other rewards were tried on 64 recorded candidates; ``results/fidelity-digits`` has the numbers.

Source: Li et al. 2020, A System for Massively Parallel Hyperparameter Tuning.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from autoprune.types import Measurement, Objective, Outcome, Trial

__all__ = ["EPOCHS", "Halving", "Rule", "epoch_metric", "rewards"]

EPOCHS = "epochs"
"""Metric of a stopped trial: after how many epochs its estimate was taken."""
_MEASURED = "top1"


def epoch_metric(epoch: int) -> str:
    """Name of the metric that keeps top1 after an epoch.

    >>> epoch_metric(3)
    'top1_epoch3'
    """
    return f"{_MEASURED}_epoch{epoch}"


class Rule(Protocol):
    """Who goes on at a rung."""

    @property
    def rungs(self) -> Sequence[int]:
        """Epochs after which a trial may be stopped."""
        ...

    @property
    def reduction(self) -> float:
        """About one in so many goes on."""
        ...

    def stops(self, epoch: int, reward: float, others: Sequence[float]) -> bool:
        """Whether a trial with this reward is stopped, when these are the rewards of those who were there before."""
        ...


def rewards(top1: np.ndarray, costs: np.ndarray, images: int) -> np.ndarray:
    """``top1`` (N,) and ``costs`` (N, metrics), smaller is better -> (N,), larger is better, at most 0.

    Without costs, ``top1`` itself. ``images``: how many top1 was counted on, which keeps log-odds finite.

    >>> rewards(np.array([0.9, 0.8, 0.95]), np.array([[1.0], [2.0], [3.0]]), images=100).round(2).tolist()
    [0.0, -0.79, 0.0]
    """
    if not costs.shape[1]:
        return top1
    odds = np.log((top1 * images + 0.5) / ((1 - top1) * images + 0.5))
    cheaper = (costs[None, :, :] <= costs[:, None, :]).all(axis=2)
    best: np.ndarray = np.where(cheaper, odds[None, :], -np.inf).max(axis=1)
    return odds - best


@dataclass
class _Climb:
    """What one trial measured at the rungs that it reached."""

    costs: tuple[float, ...]
    top1: dict[int, float] = field(default_factory=dict)
    """Epoch -> top1, where finite."""
    reason: str = ""
    """Why it was stopped."""
    epochs: int = 0


class Halving:
    """Decides which trials are stopped; see :class:`autoprune.driver.stopping.Stopper`.

    ``objectives``: top1, and costs that are known beforehand. ``epochs``: those of a trial that is not stopped.
    ``images``: those that top1 is counted on.
    """

    def __init__(self, objectives: Sequence[Objective], rule: Rule, epochs: int, images: int) -> None:
        self._costs = tuple(item for item in objectives if item.metric != _MEASURED)
        self._rule, self._epochs, self._images = rule, epochs, images
        self._running: dict[int, _Climb] = {}
        self._ended: dict[str, _Climb] = {}
        """By candidate: one that was looked up counts once."""

    def begin(self, number: int, costs: Mapping[str, float]) -> None:
        """A trial starts, or starts again after an accident."""
        self._running[number] = _Climb(self._signed(costs))

    def goes_on(self, number: int, measurement: Measurement, front: Sequence[Trial]) -> bool:
        """False at a rung where the rule stops it. A top1 that is not finite is for the judge, not for the rule."""
        climb, epoch, top1 = self._running[number], measurement.step, measurement.metrics.get(_MEASURED, math.nan)
        if epoch not in self._rule.rungs or epoch in climb.top1 or not math.isfinite(top1):
            return True
        others = [other for other in (*self._ended.values(), *self._running.values()) if epoch in other.top1]
        climb.top1[epoch] = top1
        reached = [*others, climb]
        tops = np.array([each.top1[epoch] for each in reached])
        costs = np.array([each.costs for each in reached]).reshape(len(reached), len(self._costs))
        *theirs, own = rewards(tops, costs, self._images).tolist()
        if not self._rule.stops(epoch, own, theirs):
            return True
        best = float(tops[(costs <= costs[-1]).all(axis=1)].max())
        climb.reason, climb.epochs = self._reason(epoch, top1, best, len(others)), epoch
        return False

    def marked(self, number: int, outcome: Outcome) -> Outcome:
        """The outcome of a trial that was stopped here, with the reason and the epochs behind its estimate."""
        climb = self._running[number]
        if not climb.reason:
            return outcome
        metrics = {**outcome.metrics, EPOCHS: float(climb.epochs)}
        return dataclasses.replace(outcome, metrics=metrics, reason=climb.reason)

    def end(self, trial: Trial) -> None:
        """What a finished trial measured at the rungs counts from now on, wherever it was measured."""
        self._running.pop(trial.number, None)
        known = {epoch: trial.metrics.get(epoch_metric(epoch), math.nan) for epoch in self._rule.rungs}
        reached = {epoch: top1 for epoch, top1 in known.items() if math.isfinite(top1)}
        if reached:
            self._ended[trial.candidate.digest] = _Climb(self._signed(trial.metrics), reached)

    def _signed(self, metrics: Mapping[str, float]) -> tuple[float, ...]:
        return tuple(item.sign * metrics[item.metric] for item in self._costs)

    def _reason(self, epoch: int, top1: float, best: float, others: int) -> str:
        costs = " and ".join(item.metric for item in self._costs)
        return (
            f"ASHA: estimate after {epoch} of {self._epochs} epochs: top1 is {100 * top1:.2f} %, "
            f"{100 * (best - top1):.2f} points below the best of {others} others"
            + (f" at no worse {costs}" if costs else "")
            + f"; about one in {self._rule.reduction:g} goes on"
        )
