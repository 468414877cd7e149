"""Does inheriting weights help? Differences between ways to train the same architectures, and what they support.

Runs of two arms are paired by seed, since they share the order of the data. Intervals are Student's t on the paired
differences; the bootstrap's are shown beside them (with five seeds they come out too narrow). Differences are of test
accuracy; everything that is *chosen* (the best learning rate policy) is chosen by search-val accuracy.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy import stats

__all__ = ["LOW_TAU", "ArmRuns", "Comparison", "Difference", "Subject", "Tau", "difference", "kendall"]

LOW_TAU = 0.5
"""Below this, what the search ranked by said little about final accuracy."""
_FEWEST = 5
"""Fewer architectures give no interval: their resamples hardly differ."""
_ENOUGH = 10
"""From here on, agreement without an exception is believed."""
_RESAMPLES = 5000
_EQUAL = 0.05
"""Compute within this share of each other counts as equal."""


@dataclass(frozen=True)
class Subject:
    """An architecture that is trained."""

    name: str
    """``trial 12``, ``uniform for trial 12``, ``random for trial 12`` or ``dense``."""
    role: str
    """``candidate``, ``uniform``, ``random`` or ``dense``."""
    of: str
    """Name of the candidate that it is a reference for; empty for candidates and the dense model."""
    widths: Mapping[str, int]
    macs: float
    params: float
    proxy: float
    """Top-1 accuracy that the search ranked it by."""


@dataclass(frozen=True, eq=False)
class ArmRuns:
    """One arm of one subject, over the seeds."""

    subject: str
    arm: str
    start: str
    epochs: int
    training_macs: float
    """Of one run, without the base model's own training."""
    seeds: tuple[int, ...]
    """Of the runs that ended, ascending."""
    top1: np.ndarray
    """(N,) search-val accuracy after the last epoch; NaN where training diverged."""
    test_top1: np.ndarray
    """(N,)"""
    seconds: np.ndarray
    """(N,)"""

    @property
    def inherits(self) -> bool:
        return self.start == "inherit"

    @property
    def diverged(self) -> int:
        return int(np.isnan(self.test_top1).sum())

    def mean(self, metric: str = "test_top1") -> float:
        """Over the runs that did not diverge; NaN without any."""
        values = self._finite(metric)
        return float(values.mean()) if len(values) else math.nan

    def std(self, metric: str = "test_top1") -> float:
        """Of a single run (n - 1); NaN with fewer than two."""
        values = self._finite(metric)
        return float(values.std(ddof=1)) if len(values) > 1 else math.nan

    def _finite(self, metric: str) -> np.ndarray:
        values = np.asarray(getattr(self, metric))
        return values[np.isfinite(values)]


@dataclass(frozen=True)
class Difference:
    """Of two arms, paired by seed: the first less the second, as fractions."""

    first: str
    second: str
    n: int
    mean: float
    std: float
    low: float
    """Student's t interval; NaN with fewer than two pairs, or where all differ by the same."""
    high: float
    bootstrap_low: float
    bootstrap_high: float

    @property
    def clear(self) -> bool:
        """The t interval leaves out zero."""
        return self.low > 0 or self.high < 0

    @property
    def margin(self) -> float:
        """Half of the t interval."""
        return (self.high - self.low) / 2


@dataclass(frozen=True)
class Tau:
    """Kendall's tau-b between what ranked and what came out, with a bootstrap interval over the architectures."""

    tau: float
    low: float
    """NaN with fewer than five architectures, or where all resamples agree."""
    high: float
    n: int

    @property
    def warning(self) -> str:
        """Empty where the ranking can be relied on."""
        if self.n < _FEWEST:
            few = f"{self.n} architecture{'' if self.n == 1 else 's'} cannot say how well the search's accuracy ranks"
            return f"{few}; it takes at least {_FEWEST}: 'autoprune audit' samples them from the whole search."
        if not math.isfinite(self.tau):
            return f"all of the {self.n} architectures are equal in one of the two, so there is no ranking to compare."
        if self.tau < LOW_TAU:
            return f"tau is below {LOW_TAU:g}: what the search ranked by says little about final accuracy here."
        if math.isnan(self.low) and self.n < _ENOUGH:
            return f"{self.n} architectures without an exception give no interval: more of them are needed."
        if self.low < LOW_TAU:
            return f"the interval reaches below {LOW_TAU:g}: more architectures are needed to rely on the ranking."
        return ""


def difference(first: ArmRuns, second: ArmRuns, *, confidence: float = 0.95) -> Difference:
    """Test accuracy of ``first`` less that of ``second`` over the seeds that both ended with a number.

    Mean over n pairs, t interval mean +- t(n - 1) s / sqrt(n), percentile bootstrap of the mean.
    """
    shared = [seed for seed in first.seeds if seed in second.seeds]
    pairs = np.array([_at(first, seed) - _at(second, seed) for seed in shared])
    pairs = np.round(pairs[np.isfinite(pairs)], 12)  # rounding errors of equal accuracies are no differences
    n = len(pairs)
    mean = round(float(pairs.mean()), 12) + 0.0 if n else math.nan
    if n < 2:
        return Difference(first.arm, second.arm, n, mean, *[math.nan] * 5)
    std = round(float(pairs.std(ddof=1)), 12)
    if std == 0 and mean != 0:  # accuracies come in steps of an image: equal differences are chance, not certainty
        return Difference(first.arm, second.arm, n, mean, std, *[math.nan] * 4)
    margin = float(stats.t.ppf(0.5 + confidence / 2, n - 1)) * std / math.sqrt(n)
    low, high = mean, mean
    if std > 0:
        found = stats.bootstrap(
            (pairs,), np.mean, confidence_level=confidence, n_resamples=_RESAMPLES, method="percentile", random_state=0
        ).confidence_interval
        low, high = float(found.low), float(found.high)
    return Difference(first.arm, second.arm, n, mean, std, mean - margin, mean + margin, low, high)


def kendall(proxy: Sequence[float], final: Sequence[float], *, confidence: float = 0.95) -> Tau:
    """Tau-b of two rankings of the same architectures; resamples without an order (all ties) are left out."""
    a, b = np.asarray(proxy, dtype=float), np.asarray(final, dtype=float)
    usable = np.isfinite(a) & np.isfinite(b)
    a, b = a[usable], b[usable]
    n = len(a)
    if n < 2:
        return Tau(math.nan, math.nan, math.nan, n)
    if n < _FEWEST:
        return Tau(_tau(a, b), math.nan, math.nan, n)
    rng = np.random.default_rng(0)
    drawn = [_tau(a[rows], b[rows]) for rows in rng.integers(0, n, (1000, n))]
    taus = np.array([value for value in drawn if math.isfinite(value)])
    edge = (1 - confidence) / 2
    low, high = np.quantile(taus, [edge, 1 - edge]) if len(np.unique(taus)) > 1 else (math.nan, math.nan)
    return Tau(_tau(a, b), float(low), float(high), n)


def _tau(a: np.ndarray, b: np.ndarray) -> float:
    if len(np.unique(a)) < 2 or len(np.unique(b)) < 2:
        return math.nan
    return round(float(stats.kendalltau(a, b).statistic), 12)  # a perfect order is 1 and not nearly 1


def _at(runs: ArmRuns, seed: int) -> float:
    return float(runs.test_top1[runs.seeds.index(seed)])


@dataclass(frozen=True, eq=False)
class Comparison:
    """All that was trained for the candidates of one search."""

    search: str
    dense_macs: float
    base_training_macs: float
    """What the base model's own training took: inheriting arms begin with it."""
    base_epochs: int
    seeds: tuple[int, ...]
    subjects: tuple[Subject, ...]
    results: tuple[ArmRuns, ...]
    notes: tuple[str, ...] = ()
    confidence: float = 0.95
    hypernet_macs: float | None = None
    """What the hypernetwork's training took, the base model's counted where it began there; None: there is none."""
    audits: tuple[str, ...] = ()
    """What audits of the search's ranking found, in sentences."""

    @property
    def candidates(self) -> tuple[Subject, ...]:
        return tuple(item for item in self.subjects if item.role == "candidate")

    def of(self, subject: str) -> list[ArmRuns]:
        """The arms of a subject that have a run, in their order."""
        return [item for item in self.results if item.subject == subject and item.seeds]

    def total_macs(self, item: ArmRuns) -> float:
        """Training MACs with those of the base model or the hypernetwork, where their weights were used."""
        if item.start == "hypernet" and self.hypernet_macs is not None:
            return item.training_macs + self.hypernet_macs
        return item.training_macs + (0.0 if item.start == "scratch" else self.base_training_macs)

    def compared(self, first: ArmRuns, second: ArmRuns) -> Difference:
        return difference(first, second, confidence=self.confidence)

    def equal_epochs(self, subject: str) -> tuple[ArmRuns, ArmRuns] | None:
        """The inheriting arm of as many epochs as ``scratch_e`` (the best by search-val), and that."""
        arms = self.of(subject)
        scratch = next((item for item in arms if item.arm == "scratch_e"), None)
        if scratch is None:
            return None
        equal = [item for item in arms if item.inherits and item.epochs == scratch.epochs]
        return (_best(equal), scratch) if equal else None

    def equal_compute(self, subject: str) -> tuple[ArmRuns, ArmRuns] | None:
        """An inheriting arm, the base model's training counted, and a new start of as much compute, the nearest pair.

        None when no pair is within 5 %.
        """
        arms = self.of(subject)
        pairs = [
            (abs(math.log(self.total_macs(mine) / self.total_macs(new))), place, mine, new)
            for place, (mine, new) in enumerate((a, b) for a in arms for b in arms if a.inherits)
            if new.start == "scratch" and new.arm != "scratch_e"
        ]
        if not pairs:
            return None
        gap, _, mine, new = min(pairs, key=lambda item: item[:2])
        return (mine, new) if gap <= math.log1p(_EQUAL) else None

    @cached_property
    def tau(self) -> Tau:
        """Between what the search ranked by and the final test accuracy of the arm that most subjects have."""
        arm = self.audit_arm
        ended = {item.subject: item.mean() for item in self.results if item.arm == arm and item.seeds}
        rows = [(item.proxy, ended[item.name]) for item in self._distinct() if item.name in ended]
        return kendall([row[0] for row in rows], [row[1] for row in rows], confidence=self.confidence)

    @property
    def audit_arm(self) -> str:
        """The arm that the proxy is held against: the one of most pruned architectures; inheriting arms win ties."""
        counts: dict[str, tuple[int, bool]] = {}
        for item in self.results:
            if item.subject != "dense" and item.seeds:
                counts[item.arm] = (counts.get(item.arm, (0, False))[0] + 1, item.inherits)
        return max(counts, key=lambda arm: counts[arm]) if counts else ""

    def _distinct(self) -> list[Subject]:
        """Pruned architectures, each once."""
        found: dict[tuple[tuple[str, int], ...], Subject] = {}
        for item in self.subjects:
            if item.role != "dense":
                found.setdefault(tuple(sorted(item.widths.items())), item)
        return list(found.values())


def _best(arms: Sequence[ArmRuns]) -> ArmRuns:
    """By search-val accuracy, so that test decides nothing."""
    return max(arms, key=lambda item: np.nan_to_num(item.mean("top1"), nan=-1.0))
