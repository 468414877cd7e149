"""Did the search rank candidates as training them to their end does? Agreement of the two orders, with intervals.

Kendall's tau-b, once over all candidates and once over pairs of about equal size only: the first is inflated by size,
since larger networks are better under any measure, and the second is what a choice within a budget rests on. Strata
have a width, so what is left of size in them is taken out once more by the partial tau.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from autoprune.analysis.rank_correlation import spearman

__all__ = ["Agreement", "Audit", "Audited", "Interval", "StratumResult", "tau_b"]

_RESAMPLES = 2000
_TOP = 3
"""The best third is looked at."""
_Pairs = tuple[np.ndarray, np.ndarray]


@dataclass(frozen=True)
class Audited:
    """A candidate of the search that was trained to its end."""

    trial: int
    macs: float
    stratum: int
    """By size, from 0."""
    proxies: Mapping[str, float]
    """What the search measured of it; accuracies as fractions."""
    seeds: tuple[int, ...]
    """Of the runs that ended."""
    top1: tuple[float, ...]
    """One a seed: search-val accuracy after the last epoch; NaN where training diverged."""
    test_top1: tuple[float, ...]

    @property
    def final(self) -> float:
        """Mean test accuracy of the runs that did not diverge; NaN without any."""
        values = [value for value in self.test_top1 if math.isfinite(value)]
        return float(np.mean(values)) if values else math.nan

    @property
    def std(self) -> float:
        """Of a single run (n - 1); NaN with fewer than two."""
        values = [value for value in self.test_top1 if math.isfinite(value)]
        return float(np.std(values, ddof=1)) if len(values) > 1 else math.nan


@dataclass(frozen=True)
class Interval:
    """An estimate with its percentile bootstrap interval, which is NaN where resamples do not differ."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Agreement:
    """Of one measure with final accuracy."""

    measure: str
    n: int
    overall: Interval
    """Tau-b over all pairs."""
    within: Interval
    """Tau-b over pairs of one stratum."""
    given_size: Interval
    """The same with what MACs explain inside a stratum taken out: Kendall's partial tau (1942)."""
    spearman: float
    """Over all candidates."""


@dataclass(frozen=True)
class StratumResult:
    """Candidates of about equal size: what choosing by the search's measure cost."""

    stratum: int
    n: int
    low_macs: float
    high_macs: float
    tau: float
    chosen_trial: int
    """The best by the search's measure."""
    chosen: float
    """Its final test accuracy."""
    best_trial: int
    best: float
    """The best final accuracy of the sample; partly luck, since it is picked by it."""
    mean: float
    """What a choice at random would give."""
    top: int
    """Size of the best third."""
    shared: int
    """Candidates in the best third by both."""


@dataclass(frozen=True, eq=False)
class Audit:
    """A sample of a search's candidates, ranked by the search and trained to their end."""

    search: str
    arm: str
    epochs: int
    seeds: int
    measure: str
    """The metric that the search ranked by."""
    sign: int
    """1: larger is better; -1: smaller."""
    ranked_by: str
    """The same in words."""
    dense_macs: float
    complete: int
    """Trials of different widths that the sample was drawn from."""
    sample: tuple[Audited, ...]
    notes: tuple[str, ...] = ()
    confidence: float = 0.95

    @cached_property
    def usable(self) -> tuple[Audited, ...]:
        """The candidates with a final accuracy, by size."""
        found = [item for item in self.sample if math.isfinite(item.final)]
        return tuple(sorted(found, key=lambda item: (item.stratum, item.macs, item.trial)))

    @cached_property
    def finals(self) -> np.ndarray:
        """(N,) of the usable ones."""
        return np.array([item.final for item in self.usable])

    @cached_property
    def strata(self) -> np.ndarray:
        """(N,) int64 of the usable ones."""
        return np.array([item.stratum for item in self.usable], dtype=np.int64)

    @property
    def measures(self) -> list[str]:
        """What the search ranked by, then what else its trials have, then size alone."""
        known = [set(item.proxies) for item in self.usable]
        others = sorted(set.intersection(*known)) if known else []
        return [self.measure, *(name for name in others if name not in (self.measure, "macs")), "macs"]

    def values(self, measure: str) -> np.ndarray:
        """(N,) of the usable ones, larger = better; more MACs count as better."""
        if measure == "macs":
            return np.array([item.macs for item in self.usable])
        sign = self.sign if measure == self.measure else 1
        return sign * np.array([item.proxies[measure] for item in self.usable])

    @cached_property
    def agreements(self) -> tuple[Agreement, ...]:
        """One a measure, in their order."""
        return tuple(self._agreement(measure) for measure in self.measures)

    @property
    def main(self) -> Agreement:
        """Of what the search ranked by."""
        return self.agreements[0]

    @cached_property
    def repeatability(self) -> float:
        """Tau within strata between trainings by two seeds, mean over the pairs of seeds: about the most that any
        measure can reach against one run. NaN with one seed."""
        columns = {
            seed: np.array(
                [dict(zip(item.seeds, item.test_top1, strict=True)).get(seed, math.nan) for item in self.usable]
            )
            for seed in sorted({seed for item in self.usable for seed in item.seeds})
        }
        found = []
        for first in columns:
            for second in (seed for seed in columns if seed > first):
                both = np.isfinite(columns[first]) & np.isfinite(columns[second])
                found.append(tau_b(columns[first][both], columns[second][both], self.strata[both]))
        known = [value for value in found if math.isfinite(value)]
        return float(np.mean(known)) if known else math.nan

    @cached_property
    def results(self) -> tuple[StratumResult, ...]:
        """One a stratum that has a usable candidate, by size."""
        return tuple(self._result(stratum) for stratum in np.unique(self.strata).tolist())

    def _agreement(self, measure: str) -> Agreement:
        a, b, size = self.values(measure), self.finals, self.values("macs")
        overall = _pairs(a, b)
        within = [_pairs(*pair, self.strata) for pair in ((a, b), (a, size), (b, size))]
        taus = [_taus(pairs, self._resamples) for pairs in (overall, *within)]
        overall_tau, within_tau, given = (
            self._interval(found) for found in (taus[0], taus[1], _partial(taus[1], taus[2], taus[3]))
        )
        return Agreement(measure, len(a), overall_tau, within_tau, given, spearman(a, b))

    def _interval(self, found: np.ndarray) -> Interval:
        """``found``: of the sample itself, then of its resamples."""
        value, known = float(found[0]), found[1:][np.isfinite(found[1:])]
        if len(np.unique(known.round(12))) < 2:
            return Interval(value, math.nan, math.nan)
        edge = (1 - self.confidence) / 2
        low, high = np.quantile(known, [edge, 1 - edge])
        return Interval(value, float(low), float(high))

    @cached_property
    def _resamples(self) -> np.ndarray:
        """How often each candidate is in: (1 + resamples, N), the first row once each. They are drawn with replacement
        within each stratum, as the sample was; the same for every measure."""
        rng = np.random.default_rng(0)
        result = np.ones((1 + _RESAMPLES, len(self.strata)))
        for stratum in np.unique(self.strata):
            rows = np.flatnonzero(self.strata == stratum)
            result[1:, rows] = rng.multinomial(len(rows), np.full(len(rows), 1 / len(rows)), size=_RESAMPLES)
        return result

    def _result(self, stratum: int) -> StratumResult:
        rows = np.flatnonzero(self.strata == stratum)
        mine, final = self.values(self.measure)[rows], self.finals[rows]
        items = [self.usable[row] for row in rows]
        chosen, best = int(np.argmax(mine)), int(np.argmax(final))
        top = max(1, round(len(rows) / _TOP))
        tops = [set(np.argsort(-values, kind="stable")[:top].tolist()) for values in (mine, final)]
        return StratumResult(
            stratum=stratum,
            n=len(rows),
            low_macs=items[0].macs,
            high_macs=items[-1].macs,
            tau=tau_b(mine, final),
            chosen_trial=items[chosen].trial,
            chosen=float(final[chosen]),
            best_trial=items[best].trial,
            best=float(final[best]),
            mean=float(final.mean()),
            top=top,
            shared=len(tops[0] & tops[1]),
        )


def tau_b(a: np.ndarray, b: np.ndarray, strata: np.ndarray | None = None) -> float:
    """Kendall's tau-b (1945) over all pairs of (N,) values, or over the pairs within ``strata`` alone.

    (agreeing - disagreeing) / sqrt(pairs that differ in a x pairs that differ in b); NaN where none differs in one.

    >>> round(tau_b(np.array([1, 2, 3, 4]), np.array([1, 3, 2, 4])), 3)
    0.667
    """
    return float(_taus(_pairs(a, b, strata), np.ones((1, len(a))))[0])


def _pairs(a: np.ndarray, b: np.ndarray, strata: np.ndarray | None = None) -> _Pairs:
    """Signs of the differences, (N, N) each; 0 for pairs that do not count."""
    first, second = (np.sign(values[:, None] - values[None, :]) for values in (a, b))
    if strata is not None:
        same = strata[:, None] == strata[None, :]
        first, second = first * same, second * same
    return first, second


def _taus(pairs: _Pairs, times: np.ndarray) -> np.ndarray:
    """(R,) of resamples with each candidate so many ``times`` (R, N): twice the same one is no pair."""
    first, second = pairs
    agreeing, in_a, in_b = (
        ((times @ signs) * times).sum(axis=1) for signs in (first * second, abs(first), abs(second))
    )
    scale = np.sqrt(in_a * in_b)
    return np.divide(agreeing, scale, out=np.full(len(times), math.nan), where=scale > 0)


def _partial(ab: np.ndarray, am: np.ndarray, bm: np.ndarray) -> np.ndarray:
    """Of a and b given m: (ab - am bm) / sqrt((1 - am^2)(1 - bm^2)); NaN where m decides one of them."""
    scale = (1 - am * am) * (1 - bm * bm)
    usable = scale > 1e-12
    return np.divide(ab - am * bm, np.sqrt(np.where(usable, scale, 1.0)), out=np.full(len(ab), math.nan), where=usable)
