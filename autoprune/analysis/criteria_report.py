"""How well criteria rank channels: Spearman's correlation with an oracle that tries each channel.

The protocol is that of Molchanov et al. 2017 (ICLR), section 3.2 and Table 1: the oracle is the change of the loss when
one unit alone is ablated, and a criterion is held against its absolute value layer by layer, over all layers at once,
and over all layers after its scores are divided by their Euclidean norm in each layer (a group here, since coupled
layers leave together). The oracle itself is never rescaled: losses are comparable anyway.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy import stats

from autoprune.analysis.rank_correlation import spearman

__all__ = [
    "MEASURES",
    "CriteriaReport",
    "CriterionScores",
    "Figure",
    "Oracle",
    "Row",
    "agreement",
    "figure",
    "finite_scores",
]

MEASURES = ("per layer", "all layers", "all layers, l2")
_BLOCKS = 10
_SPLITS = 20

Scores = Mapping[str, np.ndarray]
"""Group -> (units,) float64, larger = keep."""


@dataclass(frozen=True, eq=False)
class Oracle:
    """What the loss does when a unit is ablated: group -> (units, images) float64, loss without it less loss with it.

    Cross-entropy in nats; a positive change means that the unit was useful for the image.
    """

    changes: Mapping[str, np.ndarray]

    @property
    def images(self) -> int:
        return next(iter(self.changes.values())).shape[1]

    def signed(self, images: np.ndarray | None = None) -> dict[str, np.ndarray]:
        """``oracle-loss``: mean change over the images (all, or those of the indices)."""
        return {name: (each if images is None else each[:, images]).mean(axis=1) for name, each in self.changes.items()}

    def absolute(self, images: np.ndarray | None = None) -> dict[str, np.ndarray]:
        """``oracle-abs``: |mean change|."""
        return {name: np.abs(each) for name, each in self.signed(images).items()}

    @cached_property
    def without_blocks(self) -> tuple[dict[str, np.ndarray], ...]:
        """``absolute`` without each of up to ten interleaved blocks of images."""
        blocks = min(_BLOCKS, self.images)
        numbers = np.arange(self.images)
        return tuple(self.absolute(numbers[numbers % blocks != block]) for block in range(blocks))


@dataclass(frozen=True, eq=False)
class CriterionScores:
    """Scores of one criterion, from several draws of images (or of random numbers)."""

    name: str
    draws: tuple[Scores, ...]
    """Groups for which the criterion is undefined are missing in all of them."""
    left_out: Mapping[str, str]
    """Those groups, and why."""
    needs: str = "weights"
    seconds: float = math.nan
    """Processor time of one draw: the pass for what it needs, and the scores."""


@dataclass(frozen=True)
class Figure:
    """A correlation, its standard error and its 95 % interval (NaN where no error can be given)."""

    value: float
    error: float = math.nan
    low: float = math.nan
    high: float = math.nan


@dataclass(frozen=True)
class Row:
    """One criterion held against the oracle."""

    criterion: str
    needs: str
    figures: tuple[Figure, Figure, Figure]
    """In the order of ``MEASURES``."""
    groups: int
    """That the criterion is defined for."""
    seconds: float


def agreement(scores: Scores, oracle: Scores) -> np.ndarray:
    """(3,) float64, in the order of ``MEASURES``, over the groups of ``scores``.

    A layer whose scores are all equal counts as 0, since they rank nothing; one where the oracle does not distinguish
    (a single unit, say) is left out of the mean. NaN where nothing is left.
    """
    names = [name for name in oracle if name in scores]
    if not names:
        return np.full(3, math.nan)
    layers = [_correlation(scores[name], oracle[name]) for name in names]
    known = [value for value in layers if not math.isnan(value)]
    truth = np.concatenate([oracle[name] for name in names])
    raw = np.concatenate([scores[name] for name in names])
    rescaled = np.concatenate([_rescaled(scores[name]) for name in names])
    per_layer = float(np.mean(known)) if known else math.nan
    return np.array([per_layer, _correlation(raw, truth), _correlation(rescaled, truth)])


def _figures(draws: np.ndarray, left_out: np.ndarray) -> tuple[Figure, Figure, Figure]:
    """From (K, 3) and (B, 3), in the order of ``MEASURES``."""
    first, second, third = (figure(draws[:, place], left_out[:, place]) for place in range(len(MEASURES)))
    return first, second, third


def _correlation(scores: np.ndarray, oracle: np.ndarray) -> float:
    if len(oracle) < 2 or (oracle == oracle[0]).all():
        return math.nan
    return 0.0 if (scores == scores[0]).all() else spearman(scores, oracle)


def _rescaled(scores: np.ndarray) -> np.ndarray:
    """Molchanov et al., equation 12: divided by the layer's Euclidean norm."""
    norm = float(np.linalg.norm(scores))
    return scores / norm if norm > 0 else scores


def figure(draws: np.ndarray, left_out: np.ndarray) -> Figure:
    """The mean over the draws of a criterion, with the errors of both choices of images.

    ``draws`` (K,): the value of each draw; their standard error is s / sqrt(K). ``left_out`` (B,): the mean over the
    draws with one block of the oracle's images left out; Tukey's jackknife, (B - 1) / B sum (x_b - mean)^2. The sum of
    both variances has about Welch's and Satterthwaite's degrees of freedom. The interval stays within [-1, 1].
    """
    value = float(np.mean(draws))
    blocks, count = len(left_out), len(draws)
    images = float((blocks - 1) / blocks * np.sum((left_out - left_out.mean()) ** 2))
    drawn = float(np.var(draws, ddof=1) / count) if count > 1 else 0.0
    error = math.sqrt(images + drawn)
    if not math.isfinite(value) or not math.isfinite(error) or blocks < 2:
        return Figure(value)
    if error < 1e-12:
        return Figure(value, 0.0, value, value)
    freedom = (images + drawn) ** 2 / (images**2 / (blocks - 1) + (drawn**2 / (count - 1) if count > 1 else 0.0))
    margin = float(stats.t.ppf(0.975, freedom)) * error
    return Figure(value, error, max(-1.0, value - margin), min(1.0, value + margin))


@dataclass(frozen=True, eq=False)
class CriteriaReport:
    """Criteria of one trained network against its oracle."""

    name: str
    oracle: Oracle
    criteria: tuple[CriterionScores, ...]
    facts: Mapping[str, str]
    """What was measured and how, as it is to be printed."""

    @property
    def groups(self) -> tuple[str, ...]:
        return tuple(self.oracle.changes)

    @property
    def units(self) -> int:
        return sum(len(each) for each in self.oracle.changes.values())

    @cached_property
    def rows(self) -> tuple[Row, ...]:
        """Best per layer first; criteria that no group defines last."""
        rows = [self._row(each) for each in self.criteria]
        return tuple(sorted(rows, key=lambda row: -np.nan_to_num(row.figures[0].value, nan=-2.0)))

    @cached_property
    def controls(self) -> tuple[Row, ...]:
        """The oracle against itself; its sign kept; and one half of its images against the other, which shows how far
        the oracle itself depends on the images (mean over random halves, no error given)."""
        signed = CriterionScores("oracle-loss", (self.oracle.signed(),), {}, "every unit ablated")
        return self._itself(), self._row(signed), self._halves()

    @cached_property
    def layers(self) -> dict[str, dict[str, float]]:
        """Criterion -> group -> Spearman, mean over the draws; groups that either does not rank are missing."""
        truth = self.oracle.absolute()
        found: dict[str, dict[str, float]] = {}
        for each in self.criteria:
            means = {
                name: float(np.mean([_correlation(draw[name], truth[name]) for draw in each.draws]))
                for name in truth
                if name not in each.left_out
            }
            found[each.name] = {name: value for name, value in means.items() if not math.isnan(value)}
        return found

    def _row(self, scores: CriterionScores) -> Row:
        truth = self.oracle.absolute()
        drawn = np.array([agreement(draw, truth) for draw in scores.draws])
        left = np.array(
            [np.mean([agreement(draw, part) for draw in scores.draws], axis=0) for part in self.oracle.without_blocks]
        )
        groups = sum(name not in scores.left_out for name in self.groups)
        return Row(scores.name, scores.needs, _figures(drawn, left), groups, scores.seconds)

    def _itself(self) -> Row:
        truth = self.oracle.absolute()
        left = np.array([agreement(part, part) for part in self.oracle.without_blocks])
        figures = _figures(agreement(truth, truth)[None], left)
        return Row("oracle-abs", "every unit ablated", figures, len(self.groups), math.nan)

    def _halves(self) -> Row:
        rng = np.random.default_rng(0)
        values = []
        for _ in range(_SPLITS):
            order = rng.permutation(self.oracle.images)
            first, second = np.array_split(order, 2)
            values.append(agreement(self.oracle.absolute(first), self.oracle.absolute(second)))
        mean = np.mean(values, axis=0)
        figures = (Figure(float(mean[0])), Figure(float(mean[1])), Figure(float(mean[2])))
        return Row("oracle-abs by halves", "half of the images each", figures, len(self.groups), math.nan)


def finite_scores(scores: Mapping[str, Sequence[float] | np.ndarray]) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """The groups whose scores are all numbers, and why the others are left out."""
    arrays = {name: np.asarray(each, dtype=np.float64) for name, each in scores.items()}
    bad = {name: int((~np.isfinite(each)).sum()) for name, each in arrays.items() if not np.isfinite(each).all()}
    reasons = {name: f"{count} of {len(arrays[name])} scores are not finite" for name, count in bad.items()}
    return {name: each for name, each in arrays.items() if name not in bad}, reasons
