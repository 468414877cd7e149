"""What a comparison of controllers says: anytime curves, gains over random search, ranks, time to propose."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from autoprune.analysis.pareto import volume_history
from autoprune.types import Constraint, Objective

__all__ = ["ArmResult", "ArmRun", "ControllerBenchmark", "Setting", "interval", "ranks"]


@dataclass(frozen=True)
class Setting:
    """One problem: its objectives, budgets, and the corner that hypervolumes are measured from."""

    name: str
    objectives: tuple[Objective, ...]
    constraints: tuple[Constraint, ...]
    baseline: Mapping[str, float] = field(repr=False)
    """Metrics of the unpruned model. It is no candidate and adds nothing to any curve."""

    @property
    def reference(self) -> tuple[float, ...]:
        """Fixed: top1 0, and of a cost its upper bound or, without one, the unpruned model's."""
        return tuple(self._worst(item) for item in self.objectives)

    def _worst(self, objective: Objective) -> float:
        if objective.direction == "max":
            return 0.0
        bounds = [item for item in self.constraints if item.metric == objective.metric and item.op == "<="]
        return min((item.bound(self.baseline) for item in bounds), default=self.baseline[objective.metric])

    @property
    def is_front(self) -> bool:
        """Judged by the hypervolume of several objectives; else by the best top1."""
        return len(self.objectives) > 1

    @property
    def measure(self) -> str:
        return "hypervolume" if self.is_front else "best top1"

    def curve(self, metrics: Mapping[str, Sequence[float]]) -> np.ndarray:
        """Share in [0, 1] of the box between the reference and (top1 1, cost 0) that the first 1, 2, ... candidates
        dominate; with top1 alone that is the best top1 so far. Shape (candidates,), float64.

        Candidates with NaN add nothing.
        """
        points = np.array([item.sign * np.asarray(metrics[item.metric], dtype=np.float64) for item in self.objectives])
        corner = [item.sign * worst for item, worst in zip(self.objectives, self.reference, strict=True)]
        box = math.prod(1.0 if item.direction == "max" else self._worst(item) for item in self.objectives)
        return volume_history(points.T, corner) / box

    def __str__(self) -> str:
        budgets = "".join(f", {item}" for item in self.constraints)
        return f"{', '.join(map(str, self.objectives))}{budgets}"


@dataclass(frozen=True)
class ArmRun:
    """One search of one arm with one seed; columns in the order in which trials finished."""

    arm: str
    setting: str
    seed: int
    numbers: tuple[int, ...]
    metrics: Mapping[str, tuple[float, ...]]
    """NaN for a candidate that does not count: it broke a budget, or it was never on the front of an arm that searches
    by other weights."""
    finished: tuple[float, ...]
    """Seconds on the simulated clock."""
    proposal_seconds: float
    """Processor time of the controller, all trials together."""
    evaluation_seconds: float
    """Recorded seconds of the measured candidates."""
    evaluations: int
    """Candidates that were measured: trials without those that repeat one."""
    again: int = 0
    """Candidates measured once more, with everybody's weights."""
    test_top1: float = math.nan
    """Of the candidate with the best top1."""
    own_metrics: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    """As the arm itself saw them, where it searches by other weights than everybody."""


@dataclass(frozen=True)
class ArmResult:
    """One arm on one setting, over its seeds. ``score``: hypervolume (share) or best top1 at the end."""

    setting: str
    arm: str
    score: float
    score_std: float
    gain: float
    """Mean over the seeds of the score minus that of random search with the same seed."""
    gain_low: float
    gain_high: float
    """95 % interval of the gain (Student's t over the seeds)."""
    wins: int
    """Seeds on which it beat random search."""
    rank: float
    """Mean over the seeds of its rank among the arms; ties share theirs."""
    reached: float
    """Median evaluations to random search's mean final score; NaN when fewer than half of the seeds got there."""
    reached_seeds: int
    test_top1: float
    test_top1_std: float
    proposal_ms: float
    """Processor time of the controller a proposal."""
    evaluation_ms: float
    """Recorded time of an evaluation."""
    evaluations: float
    """Candidates measured in a run, mean."""
    again: float
    """Of them, measured once more with everybody's weights, mean."""
    own_score: float
    """The score by the arm's own weights; NaN where it has none."""
    own_score_std: float


@dataclass(frozen=True)
class ControllerBenchmark:
    """All runs of a comparison and what they say."""

    name: str
    settings: tuple[Setting, ...]
    arms: Mapping[str, str]
    """Name -> its configuration in words."""
    runs: tuple[ArmRun, ...]
    trials: int
    seeds: int
    parallel: int
    own_weights: Mapping[str, str] = field(default_factory=dict)
    """Arms that search by other weights than everybody: name -> which."""
    measured: int = 0
    """Candidates measured now; all others were recorded."""
    recorded: int = 0
    """Candidates in the table."""

    def arms_in(self, setting: Setting) -> list[str]:
        """Those that took part."""
        return [arm for arm in self.arms if (setting.name, arm) in self._curves]

    def curves(self, setting: Setting, arm: str) -> np.ndarray:
        """Shape (seeds, trials), float64: the score after 1, 2, ... finished trials; a run that ended keeps its last.

        Row s belongs to seed s.
        """
        return self._curves[setting.name, arm]

    @cached_property
    def _curves(self) -> dict[tuple[str, str], np.ndarray]:
        by_name = {setting.name: setting for setting in self.settings}
        keys = {(run.setting, run.arm) for run in self.runs}
        result = {key: np.zeros((self.seeds, self.trials)) for key in keys}
        for run in self.runs:
            curve = by_name[run.setting].curve(run.metrics)
            row = result[run.setting, run.arm][run.seed]
            row[: len(curve)] = curve
            row[len(curve) :] = curve[-1] if len(curve) else 0.0
        return result

    @cached_property
    def results(self) -> tuple[ArmResult, ...]:
        """By setting, the best mean score first."""
        found = [self._result(setting, arm) for setting in self.settings for arm in self.arms_in(setting)]
        order = {setting.name: place for place, setting in enumerate(self.settings)}
        return tuple(sorted(found, key=lambda item: (order[item.setting], -item.score, item.arm)))

    def _result(self, setting: Setting, arm: str) -> ArmResult:
        curves, others = self.curves(setting, arm), self.curves(setting, "random")
        finals = curves[:, -1]
        gains = finals - others[:, -1]
        gain, low, high = interval(gains)
        target = float(others[:, -1].mean())
        reached = [float(np.argmax(row >= target)) + 1 if row[-1] >= target else math.inf for row in curves]
        median = float(np.median(reached))
        runs = [run for run in self.runs if (run.setting, run.arm) == (setting.name, arm)]
        tests = np.array([run.test_top1 for run in runs])
        own = np.array([setting.curve(run.own_metrics)[-1] if run.own_metrics else math.nan for run in runs])
        proposals = sum(len(run.numbers) for run in runs)
        measured = sum(run.evaluations for run in runs)
        return ArmResult(
            setting=setting.name,
            arm=arm,
            score=float(finals.mean()),
            score_std=float(finals.std(ddof=1)),
            gain=gain,
            gain_low=low,
            gain_high=high,
            wins=int((gains > 0).sum()),
            rank=self._rank(setting, arm),
            reached=median if math.isfinite(median) else math.nan,
            reached_seeds=sum(map(math.isfinite, reached)),
            test_top1=float(tests.mean()),
            test_top1_std=float(tests.std(ddof=1)),
            proposal_ms=1e3 * sum(run.proposal_seconds for run in runs) / max(proposals, 1),
            evaluation_ms=1e3 * sum(run.evaluation_seconds for run in runs) / max(measured, 1),
            evaluations=measured / self.seeds,
            again=sum(run.again for run in runs) / self.seeds,
            own_score=float(own.mean()),
            own_score_std=float(own.std(ddof=1)),
        )

    def _rank(self, setting: Setting, arm: str) -> float:
        arms = self.arms_in(setting)
        finals = np.stack([self.curves(setting, name)[:, -1] for name in arms], axis=1)
        return float(np.mean([ranks(row)[arms.index(arm)] for row in finals]))

    def overall_rank(self, arm: str) -> float:
        """Mean over the settings that it took part in, and the seeds."""
        return float(np.mean([self._rank(item, arm) for item in self.settings if arm in self.arms_in(item)]))

    @cached_property
    def recommended(self) -> str:
        """The arm with the best mean rank over all settings and seeds, among those that took part in all settings and
        search by everybody's weights (others need a training beforehand that is not counted here)."""
        free = [
            arm
            for arm in self.arms
            if arm not in self.own_weights and all(arm in self.arms_in(item) for item in self.settings)
        ]
        return min(free, key=lambda arm: (self.overall_rank(arm), arm))

    def alike(self, setting: Setting, leader: str) -> list[str]:
        """The arms that the figures do not tell from ``leader``: the 95 % interval of the difference holds 0."""
        best = self.curves(setting, leader)[:, -1]
        result = []
        for arm in self.arms_in(setting):
            _, low, high = interval(best - self.curves(setting, arm)[:, -1])
            if arm != leader and low <= 0 <= high:
                result.append(arm)
        return result

    def verdicts(self) -> list[str]:
        """One plain sentence or two a setting, then the recommendation."""
        own = [self._by_own_weights(setting) for setting in self.settings]
        return [*(self._verdict(setting) for setting in self.settings), *filter(None, own), self._recommendation()]

    def _by_own_weights(self, setting: Setting) -> str:
        """Arms that share weights of their own, beside each other; empty where there are not two of them."""
        found = [item for item in self.results if item.setting == setting.name and item.arm in self.own_weights]
        if len(found) < 2:
            return ""
        found.sort(key=lambda item: -item.own_score)
        scale, digits, unit = (1.0, 4, "") if setting.is_front else (100.0, 2, " %")
        shown = [
            f"{item.arm} {scale * item.own_score:.{digits}f} ± {scale * item.own_score_std:.{digits}f}{unit}"
            for item in found
        ]
        return f"{setting.name}, by the weights that each searched with: {', '.join(shown)}."

    def _verdict(self, setting: Setting) -> str:
        of = [item for item in self.results if item.setting == setting.name]
        best = of[0]
        what = "hypervolume" if setting.is_front else "top1"
        text = f"{setting.name}: {best.arm} has the best mean {what}, {_score(setting, best.score)}"
        if best.arm != "random":
            text += f", {self._over_random(setting, best)}"
        alike = self.alike(setting, best.arm)
        text += f"; not told apart from it: {', '.join(alike)}" if alike else "; ahead of every other arm"
        behind = [item.arm for item in of if item.gain_low <= 0 and item.arm != "random"]
        return text + (f". Not shown to be better than random: {', '.join(behind)}." if behind else ".")

    def _over_random(self, setting: Setting, item: ArmResult) -> str:
        span = f"{_gain(setting, item.gain_low)} to {_gain(setting, item.gain_high)}"
        wins = f"better on {item.wins} of {self.seeds} seeds"
        return f"{_gain(setting, item.gain)} over random (95 % interval {span}; {wins})"

    def _recommendation(self) -> str:
        arm = self.recommended
        following = sorted((name for name in self.arms if name != arm), key=self.overall_rank)
        named = dict.fromkeys([*following[:3], *(name for name in ("random", "uniform") if name != arm)])
        others = ", ".join(f"{name} {self.overall_rank(name):.1f}" for name in named)
        return (
            f"Choose {arm}: its mean rank over all settings and seeds is {self.overall_rank(arm):.1f} of "
            f"{len(self.arms)} arms ({others})."
        )


def interval(values: np.ndarray) -> tuple[float, float, float]:
    """Mean, and its 95 % interval by Student's t. Values shape (n,), n >= 2.

    >>> mean, low, high = interval(np.array([1.0, 2.0, 3.0, 4.0, 5.0]))
    >>> mean, round(low, 3), round(high, 3)
    (3.0, 1.037, 4.963)
    """
    mean = float(values.mean())
    half = _t975(len(values) - 1) * float(values.std(ddof=1)) / math.sqrt(len(values))
    return mean, mean - half, mean + half


_T975 = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262)


def _t975(freedom: int) -> float:
    """The 97.5 % quantile; from ten degrees of freedom on by Fisher's expansion around the normal one."""
    if freedom <= len(_T975):
        return _T975[freedom - 1]
    z = 1.959964
    first, second = (z**3 + z) / 4, (5 * z**5 + 16 * z**3 + 3 * z) / 96
    third = (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384
    return z + first / freedom + second / freedom**2 + third / freedom**3


def ranks(scores: np.ndarray) -> np.ndarray:
    """Rank of each score, 1 for the largest; equal ones share the mean of their places.

    >>> ranks(np.array([0.5, 0.9, 0.5])).tolist()
    [2.5, 1.0, 2.5]
    """
    above = (scores[None, :] > scores[:, None]).sum(axis=1)
    equal = (scores[None, :] == scores[:, None]).sum(axis=1)
    return np.asarray(above + (equal + 1) / 2)


def _score(setting: Setting, value: float) -> str:
    return f"{value:.4f}" if setting.is_front else f"{100 * value:.2f} %"


def _gain(setting: Setting, value: float) -> str:
    return f"{value:+.4f}" if setting.is_front else f"{100 * value:+.2f} points"
