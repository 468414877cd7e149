"""Racing: a trial ends as soon as what is left of the validation images cannot bring it to the front.

The final top1 is the share of N fixed images that are answered correctly, and the images come in random order. After n
of them the rest is a sample without replacement, so an upper confidence bound of the final value is exact: the largest
count K for which as few correct answers as were seen are not too improbable under the hypergeometric distribution.
The trial is tested after every slice; each test spends a part of the allowed error (a union bound over the looks), more
of it the more images are left, since that is what stopping saves. So the bound holds at all looks at once, whatever the
front does in between: a trial whose final top1 reaches the front is stopped with probability 1 - confidence at most.

Validation images come in class-balanced order (``data.Split.take``), not in plain random order. Such a sample varies
less than a plain one where classes differ in accuracy; where they do not, its variance is larger by a factor of about
1 + classes / N. Racing therefore asks for ten images a class; ``results/racing`` has the rates measured.

Sources: Maron and Moore, Hoeffding Races (1993), for the idea; Lan and DeMets (1983) for spending the error;
Clopper and Pearson (1934) for bounds by inverting an exact test.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from autoprune.config.schema import RacingConfig
from autoprune.errors import ConfigError
from autoprune.types import Measurement, Objective, Outcome, Trial

__all__ = ["IMAGES", "Bound", "Racing", "make_racing"]

IMAGES = "images"
"""Metric of a stopped trial: how many images its estimate comes from."""
_MEASURED = "top1"
_IMAGES_PER_CLASS = 10


class Bound:
    """Upper bounds of the final count of correct answers, all of them true with probability ``confidence``.

    >>> bound = Bound(total=2000, confidence=0.99)
    >>> bound.upper(correct=125, seen=250, before=0)
    1169
    >>> bound.upper(correct=1000, seen=2000, before=1750)
    1000
    """

    def __init__(self, total: int, confidence: float) -> None:
        self._total, self._error = total, 1.0 - confidence
        self._log_factorial = np.concatenate([[0.0], np.cumsum(np.log(np.arange(1, total + 1)))])

    def upper(self, correct: int, seen: int, before: int) -> int:
        """The bound after ``seen`` images with ``correct`` answers, when the look before was after ``before`` images.

        The looks must be settled before the answers are known.
        """
        level = self._spent(seen) - self._spent(before)
        low, high = correct, correct + self._total - seen
        if self.tail(correct, seen, high) > level:
            return high
        while high - low > 1:  # the tail is 1 at ``low`` and falls
            middle = (low + high) // 2
            low, high = (middle, high) if self.tail(correct, seen, middle) > level else (low, middle)
        return low

    def tail(self, correct: int, seen: int, final: int) -> float:
        """P(at most ``correct`` right answers among ``seen`` images | ``final`` among all of them)."""
        wrong = self._total - final
        counts = np.arange(max(0, seen - wrong), min(correct, final) + 1)
        log = self._log_choose(final, counts) + self._log_choose(wrong, seen - counts)
        return float(np.exp(log - self._log_choose(self._total, np.array(seen))).sum())

    def _spent(self, seen: int) -> float:
        """How much of the error may be used up by then: its density is proportional to the images that are left."""
        return self._error * (1.0 - (1.0 - seen / self._total) ** 2)

    def _log_choose(self, of: int, some: np.ndarray) -> np.ndarray:
        table = self._log_factorial
        return np.asarray(table[of] - table[some] - table[of - some])


@dataclass
class _Race:
    """One attempt at a trial."""

    costs: Mapping[str, float]
    looked_at: int = 0
    """Images seen at the last look."""
    reason: str = ""
    """Why it was stopped."""
    images: int = 0


class Racing:
    """Decides which trials are stopped. Not safe for threads: the session holds its lock.

    ``total``: the validation images of a full evaluation. ``objectives``: top1, and costs that are known beforehand.
    """

    def __init__(self, objectives: Sequence[Objective], config: RacingConfig, total: int) -> None:
        self._costs = tuple(item for item in objectives if item.metric != _MEASURED)
        self._confidence, self._min_images, self._total = config.confidence, config.min_images, total
        self._bound = Bound(total, config.confidence)
        self._races: dict[int, _Race] = {}

    def begin(self, number: int, costs: Mapping[str, float]) -> None:
        """A trial starts, or starts again after an accident."""
        self._races[number] = _Race(costs)

    def goes_on(self, number: int, measurement: Measurement, front: Sequence[Trial]) -> bool:
        """False: with the stated confidence, this trial's final top1 is below that of a member of the front which
        costs no more."""
        race, seen, top1 = self._races[number], measurement.step, measurement.metrics.get(_MEASURED, math.nan)
        if not (self._min_images <= seen < self._total and seen > race.looked_at and math.isfinite(top1)):
            return True
        before, race.looked_at = race.looked_at, seen
        rival = self._rival(race.costs, front)
        if rival is None:
            return True
        correct = math.ceil(top1 * seen - 1e-6)  # top1 is a count divided by seen, up to rounding
        upper = self._bound.upper(correct, seen, before) / self._total
        if upper >= rival.metrics[_MEASURED] - 0.5 / self._total:
            return True
        race.reason, race.images = self._reason(top1, seen, upper, rival), seen
        return False

    def marked(self, number: int, outcome: Outcome) -> Outcome:
        """The outcome of a trial that was stopped here, with the reason and the images behind its estimate."""
        race = self._races[number]
        if not race.reason:
            return outcome
        metrics = {**outcome.metrics, IMAGES: float(race.images)}
        return dataclasses.replace(outcome, metrics=metrics, reason=race.reason)

    def end(self, trial: Trial) -> None:
        """Trials that ended are told by the front."""
        self._races.pop(trial.number, None)

    def _rival(self, costs: Mapping[str, float], front: Sequence[Trial]) -> Trial | None:
        """The most accurate member of the front whose costs are all as good."""
        cheaper = [
            trial
            for trial in front
            if all(item.sign * trial.metrics[item.metric] <= item.sign * costs[item.metric] for item in self._costs)
        ]
        return max(cheaper, key=lambda trial: trial.metrics[_MEASURED], default=None)

    def _reason(self, top1: float, seen: int, upper: float, rival: Trial) -> str:
        costs = " and ".join(item.metric for item in self._costs)
        return (
            f"estimate from {seen} of {self._total} images: with confidence {self._confidence:g} top1 stays within "
            f"{100 * upper:.2f} %, below the {100 * rival.metrics[_MEASURED]:.2f} % of trial {rival.number}"
            + (f" at no worse {costs}" if costs else "")
        )


def make_racing(
    config: RacingConfig | None, objectives: Sequence[Objective], labels: np.ndarray, batch_size: int
) -> Racing | None:
    """Racing over validation images with these ``labels``, (N,), that come in batches; None where it is off.

    Raises ConfigError where it could stop nothing, or where its confidence would not hold.
    """
    if config is None:
        return None
    total, classes = len(labels), len(np.unique(labels))
    if total < _IMAGES_PER_CLASS * classes:
        raise ConfigError(
            f"racing needs {_IMAGES_PER_CLASS} validation images a class for its confidence to hold: "
            f"there are {total} of {classes} classes.",
            "Raise evaluator.validation_images, or leave racing out.",
        )
    first = math.ceil(config.min_images / batch_size) * batch_size
    if first >= total:
        raise ConfigError(
            f"racing could stop nothing: its first look is after {first} images (racing.min_images "
            f"{config.min_images}, evaluator.batch_size {batch_size}), and there are only {total}.",
            "Lower one of the two, or leave racing out.",
        )
    return Racing(objectives, config, total)
