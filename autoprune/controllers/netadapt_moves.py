"""What NetAdapt tries from a candidate: steps down in cost, or, at a budget that must be filled, exchanges of width."""

from __future__ import annotations

from typing import Protocol

import numpy as np

from autoprune.controllers.drawing import Aim
from autoprune.space import Decoder
from autoprune.types import Candidate

__all__ = ["Descent", "Exchange", "Moves", "first_step"]

_LEAST = 0.25
"""Reductions never fall below this share of the first, so that any budget is reached."""
_SMALLEST_EXCHANGE = 1 / 64


def first_step(rounds: int, decay: float) -> float:
    """The first reduction, as a share of the way, with which so many rounds go all of it.

    >>> first_step(4, 1.0)
    0.25
    """
    return float(1.0 / np.maximum(decay ** np.arange(max(1, rounds)), _LEAST).sum())


class Moves(Protocol):
    """A round: candidates near a base, one for each group that can give something up."""

    def start(self) -> Candidate: ...

    def around(self, base: Candidate, step: float) -> list[Candidate]:
        """At most one a group, each different from ``base``; empty where there is nothing left to try."""
        ...

    def chosen(
        self, base: Candidate, tried: list[Candidate], losses: dict[str, float], step: float
    ) -> tuple[Candidate, float]:
        """The next base and the next step; ``losses`` by digest, infinite for bad ones, missing where unknown."""
        ...


class Descent:
    """Each candidate lowers one group until the whole costs less by ``step`` of the way from the top to the bottom."""

    def __init__(self, decoder: Decoder, metric: str, first: float, decay: float) -> None:
        self._decoder, self._metric = decoder, metric
        self._low, self._high = decoder.cost_range(metric)
        self._least, self._decay = _LEAST * first, decay

    def start(self) -> Candidate:
        return self._decoder.decode(self._decoder.space.full())

    def around(self, base: Candidate, step: float) -> list[Candidate]:
        cost = self._cost(base)
        if cost <= self._low:
            return []
        target = max(self._low, cost - step * (self._high - self._low))
        found = {item.digest: item for item in self._single(base, target) if self._cost(item) < cost}
        if not found:  # no group alone reaches that far: all together do
            for goal in (target, self._low):
                together = self._decoder.decode_to(base, self._metric, goal)
                if self._cost(together) < cost:
                    return [together]
        return list(found.values())

    def _single(self, base: Candidate, target: float) -> list[Candidate]:
        """``base`` with one group at its largest width that meets the target, for each group that can."""
        space = self._decoder.space
        widths, result = space.vector(base), []
        for at, item in enumerate(space.dimensions):
            allowed = np.array([width for width in item.allowed if width < widths[at]], dtype=np.int64)
            tried = np.repeat(widths[None], len(allowed), axis=0)
            tried[:, at] = allowed
            fits = np.flatnonzero(space.cost.metrics(tried)[self._metric] <= target)
            if len(fits):
                result.append(self._decoder.decode(space.candidate(tried[fits[-1]])))
        return result

    def chosen(
        self, base: Candidate, tried: list[Candidate], losses: dict[str, float], step: float
    ) -> tuple[Candidate, float]:
        """The least loss for what it saves; where nothing was measured, the one that gives up least."""
        cost, before = self._cost(base), losses.get(base.digest, np.inf)

        def price(item: Candidate) -> tuple[float, float]:
            loss = losses.get(item.digest, np.inf)
            rise = (loss - before) / (cost - self._cost(item)) if np.isfinite(before) else loss
            return rise, -self._cost(item)

        return min(tried, key=price), max(self._least, step * self._decay)

    def _cost(self, candidate: Candidate) -> float:
        return self._decoder.space.cost.measure(candidate)[self._metric]


class Exchange:
    """Each candidate takes from one group and gives what that saves to the others, so that the budget stays filled."""

    def __init__(self, decoder: Decoder, aim: Aim) -> None:
        self._decoder, self._aim = decoder, aim

    def start(self) -> Candidate:
        return self._decoder.decode(self._decoder.space.full())

    def around(self, base: Candidate, step: float) -> list[Candidate]:
        while step >= _SMALLEST_EXCHANGE:
            proportions = self._aim.proportions(base)
            shifts = np.eye(len(proportions)) * step
            moved = (self._aim.place(np.clip(proportions - shift, -1.0, 1.0), 0.0) for shift in shifts)
            found = {item.digest: item for item in moved if item.digest != base.digest}
            if found:
                return list(found.values())
            step /= 2
        return []

    def chosen(
        self, base: Candidate, tried: list[Candidate], losses: dict[str, float], step: float
    ) -> tuple[Candidate, float]:
        """The best if it improves on the base, else the base and half the step."""
        best = min(tried, key=lambda item: losses.get(item.digest, np.inf))
        better = losses.get(best.digest, np.inf) < losses.get(base.digest, np.inf)
        return (best, step) if better else (base, step / 2)
