"""What controllers that draw at random share: spreading proposals over the costs, and not repeating themselves."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import numpy as np

from autoprune.controllers.digests import Digests
from autoprune.protocols import KnowsDigests
from autoprune.space import Decoder, SearchSpace
from autoprune.space.decoding import METRICS
from autoprune.types import Candidate, Objective, Trial

__all__ = ["Aim", "Proposed", "draw", "nearest"]

_FACTORS = 128
_HALVINGS = 9


class Aim:
    """Places candidates along one cost, so that a front is covered evenly.

    Independent widths have nearly the same cost once there are many groups (their sum concentrates around its mean).
    A candidate is therefore described by its proportions, the logarithm of each group's keep_ratio less their mean,
    and its share of the reachable cost: what is learnt about proportions at one cost then holds at the others. The
    cost is the first minimised objective that is a function of the widths, else MACs; there is none where the decoder
    fills proposals up to a budget.
    """

    def __init__(self, decoder: Decoder, objectives: Sequence[Objective]) -> None:
        self._decoder = decoder
        counted = [item.metric for item in objectives if item.direction == "min" and item.metric in METRICS]
        self.metric: str | None = None if decoder.fills else counted[0] if counted else "macs"
        self._low, self._high = decoder.cost_range(self.metric) if self.metric else (0.0, 0.0)
        dimensions = decoder.space.dimensions
        self._channels = np.array([float(item.channels) for item in dimensions])
        self._allowed = [np.array(item.allowed) for item in dimensions]
        self._borders = [_borders(allowed) for allowed in self._allowed]
        self._reach = max(*(float(np.log(item.channels / item.allowed[0])) for item in dimensions), 1e-9)
        self._factors = np.linspace(-2.0 * self._reach, self._reach, _FACTORS)

    def proportions(self, candidate: Candidate) -> np.ndarray:
        """(G,) float64 in [-1, 1]: 0 everywhere for equal keep_ratios, 1 is the largest factor that floors leave."""
        logs = np.log(self._decoder.space.vector(candidate) / self._channels)
        return np.asarray(np.clip((logs - logs.mean()) / self._reach, -1.0, 1.0))

    def share(self, candidate: Candidate) -> float:
        """Where a candidate lies between the lowest reachable cost and the highest, in [0, 1]."""
        if self.metric is None or self._high <= self._low:
            return 0.0
        cost = self._decoder.space.cost.measure(candidate)[self.metric]
        return min(1.0, max(0.0, (cost - self._low) / (self._high - self._low)))

    def place(self, proportions: np.ndarray, share: float) -> Candidate:
        """The candidate of these proportions, (G,) in [-1, 1], at this share of the cost, or filled up to the budget.

        The largest common factor that fits is found on a grid; the decoder does the rest.
        """
        widths = self._scaled(proportions[None], self._factors)
        space = self._decoder.space
        if self.metric is None:
            return self._decoder.decode(space.candidate(widths[_last(self._decoder.feasible(widths))]))
        target = self._low + share * (self._high - self._low)
        fits = _last(space.cost.metric(self.metric, widths) <= target)
        return self._decoder.decode_to(space.candidate(widths[fits]), self.metric, target)

    def widths(self, proportions: np.ndarray, shares: np.ndarray) -> np.ndarray:
        """:meth:`place` for many at once, roughly: (N, G) and (N,) -> (N, G) int64 channels at or below each share.

        Single steps that rounding leaves room for are not taken; decode what is to be run. Without a cost to aim at,
        what just fits the budgets.
        """
        low, high = np.full(len(shares), -2.0 * self._reach), np.full(len(shares), self._reach)
        best = self._scaled(proportions, low)
        target = self._low + shares * (self._high - self._low)
        for _ in range(_HALVINGS):
            middle = (low + high) / 2
            tried = self._scaled(proportions, middle)
            fits = (
                self._decoder.feasible(tried)
                if self.metric is None
                else self._decoder.space.cost.metric(self.metric, tried) <= target
            )
            best = np.where(fits[:, None], tried, best)
            low, high = np.where(fits, middle, low), np.where(fits, high, middle)
        return best

    def _scaled(self, proportions: np.ndarray, factors: np.ndarray) -> np.ndarray:
        """The allowed widths nearest to these proportions times a factor each, (N,) logarithms."""
        keep = np.exp(np.minimum(0.0, self._reach * proportions + factors[:, None]))
        wanted = keep * self._channels
        widths = np.empty(wanted.shape, dtype=np.int64)
        for at, (allowed, borders) in enumerate(zip(self._allowed, self._borders, strict=True)):
            widths[:, at] = allowed[borders.searchsorted(wanted[:, at], side="right")]
        return widths


def nearest(allowed: np.ndarray, widths: np.ndarray) -> np.ndarray:
    """Of ``allowed``, ascending, the one nearest to each of ``widths``; the larger of two equally near."""
    return np.asarray(allowed[np.searchsorted(_borders(allowed), widths, side="right")])


def _borders(allowed: np.ndarray) -> np.ndarray:
    """Where one of ``allowed`` is as near as the next."""
    return np.asarray((allowed[1:] + allowed[:-1]) / 2)


def _last(fits: np.ndarray) -> int:
    """Position of the last True; 0 without any."""
    return int(np.flatnonzero(fits)[-1]) if fits.any() else 0


class Proposed:
    """Digests of everything proposed so far, whatever became of it."""

    def __init__(self, space: SearchSpace) -> None:
        self._size = space.size
        self._digests = Digests()

    def add(self, candidate: Candidate) -> None:
        """It was proposed before a resume."""
        self._digests.add(candidate.digest)

    def restore(self, history: Iterable[Trial]) -> None:
        """Nothing but these was proposed."""
        self._digests = Digests()
        known = history.digests() if isinstance(history, KnowsDigests) else (each.candidate.digest for each in history)
        for digest in known:
            self._digests.add(digest)

    def __contains__(self, candidate: Candidate) -> bool:
        return candidate.digest in self._digests

    @property
    def everything(self) -> bool:
        """The whole space has been proposed."""
        return len(self._digests) >= self._size

    def first_new(self, attempts: Iterable[Callable[[], Candidate]]) -> Candidate:
        """The first attempt that was not proposed before, or the last one; it counts as proposed from now on."""
        candidate: Candidate | None = None
        for attempt in attempts:
            candidate = attempt()
            if candidate.digest not in self._digests:
                break
        if candidate is None:
            raise ValueError("first_new needs at least one attempt")
        self._digests.add(candidate.digest)
        return candidate


def draw(space: SearchSpace, aim: Aim, rng: np.random.Generator) -> Candidate:
    """Proportions and the share of the cost, each uniform."""
    return aim.place(rng.uniform(-1.0, 1.0, len(space.dimensions)), float(rng.uniform()))
