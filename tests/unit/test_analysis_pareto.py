"""Fronts against a brute-force definition and moocore; hypervolumes against hand-computed areas."""

from __future__ import annotations

import math

import moocore
import numpy as np
import pytest

from autoprune.analysis.pareto import (
    front_order,
    hypervolume,
    hypervolume_history,
    minimised,
    pareto_front,
    reference_point,
    volume_history,
)
from autoprune.errors import ConfigError
from autoprune.types import Candidate, Objective, Trial, TrialState

TOP1, MACS, PARAMS = Objective("top1", "max"), Objective("macs", "min"), Objective("params", "min")


def trial(number: int, state: TrialState = TrialState.COMPLETE, **metrics: float) -> Trial:
    return Trial(number, Candidate({"a": number}), state, metrics)


def random_trials(rng: np.random.Generator, count: int, levels: int) -> list[Trial]:
    """Few levels: many ties and equal points."""
    draws = rng.integers(0, levels, (count, 3))
    numbers = rng.permutation(count)
    return [
        trial(int(n), top1=a / levels, macs=float(b), params=float(c))
        for n, (a, b, c) in zip(numbers, draws, strict=True)
    ]


def brute_front(trials: list[Trial], objectives: list[Objective]) -> set[int]:
    points = {each.number: tuple(o.sign * each.metrics[o.metric] for o in objectives) for each in trials}
    kept = set()
    for number, point in points.items():
        beaten = any(
            all(a <= b for a, b in zip(other, point, strict=True)) and (other != point or rival < number)
            for rival, other in points.items()
            if rival != number
        )
        if not beaten:
            kept.add(number)
    return kept


def test_hand_computed_front_is_sorted_by_cost() -> None:
    trials = [
        trial(0, top1=0.90, macs=50.0),
        trial(1, top1=0.95, macs=100.0),
        trial(2, top1=0.90, macs=60.0),  # as good as 0 and dearer
        trial(3, top1=0.80, macs=20.0),
        trial(4, top1=0.94, macs=100.0),  # as dear as 1 and worse
        trial(5, top1=0.80, macs=20.0),  # equal to 3
    ]
    assert [each.number for each in pareto_front(trials, [TOP1, MACS])] == [3, 0, 1]
    assert [each.number for each in pareto_front(trials[::-1], [MACS, TOP1])] == [3, 0, 1]
    assert [each.number for each in pareto_front(trials, [TOP1])] == [1]
    assert [each.number for each in pareto_front(trials, [MACS])] == [3]


@pytest.mark.parametrize("objectives", [[TOP1], [TOP1, MACS], [MACS, PARAMS], [TOP1, MACS, PARAMS]], ids=str)
@pytest.mark.parametrize("levels", [2, 5, 1000])
def test_front_equals_the_definition(objectives: list[Objective], levels: int) -> None:
    rng = np.random.default_rng(levels)
    for count in (1, 2, 7, 40):
        for _ in range(12):
            trials = random_trials(rng, count, levels)
            assert {each.number for each in pareto_front(trials, objectives)} == brute_front(trials, objectives)


def test_two_objectives_agree_with_moocore_on_many_points() -> None:
    rng = np.random.default_rng(7)
    for levels in (3, 30, 10**6):
        trials = sorted(random_trials(rng, 3000, levels), key=lambda each: each.number)
        points = minimised(trials, [TOP1, MACS])
        expected = {trials[i].number for i in np.flatnonzero(moocore.is_nondominated(points))}
        assert {each.number for each in pareto_front(trials, [TOP1, MACS])} == expected


def clouds(rng: np.random.Generator, count: int) -> dict[str, np.ndarray]:
    """Points (count, 2) of shapes that a shortcut might get wrong."""
    x = rng.random(count)
    line = np.stack([x, 1 - x], axis=1)
    return {
        "anywhere": rng.random((count, 2)),
        "ties": rng.integers(0, 30, (count, 2)).astype(float),
        "all on the front": line,
        "near the front": line + 0.01 * rng.random((count, 2)) ** 4,
        "equal": np.ones((count, 2)),
        "better and better": rng.random((count, 2)) - np.linspace(0, 3, count)[:, None],
        "worse and worse": rng.random((count, 2)) + np.linspace(0, 3, count)[:, None],
        "far away": rng.random((count, 2)) * [1e308, 1] * np.where(np.arange(count)[:, None] % 2, [1, 1], [-1, 1]),
        "one outlier": np.where(np.arange(count)[:, None] == 7, 1e9, rng.random((count, 2))),
        "nearly equal": 1 + rng.integers(0, 5, (count, 2)) * np.finfo(float).eps,
        "one good point off the sample": np.where(np.arange(count)[:, None] == 1, -1.0, rng.random((count, 2))),
    }


@pytest.mark.parametrize("count", [19_999, 20_000, 50_001])
def test_fronts_of_many_points_agree_with_moocore(count: int) -> None:
    for shape, points in clouds(np.random.default_rng(count), count).items():
        found = front_order(points, [MACS, PARAMS])
        assert sorted(found.tolist()) == np.flatnonzero(moocore.is_nondominated(points)).tolist(), shape
        assert (np.diff(points[found, 0]) > 0).all(), shape


def test_one_objective_of_many_points() -> None:
    points = np.random.default_rng(0).integers(1, 1000, (30_000, 1)).astype(float)
    assert front_order(points, [MACS]).tolist() == [int(points[:, 0].argmin())]


def test_only_complete_trials_with_finite_metrics_take_part() -> None:
    trials = [
        trial(0, TrialState.STOPPED, top1=0.99, macs=1.0),
        trial(1, TrialState.INFEASIBLE, top1=0.99, macs=1.0),
        trial(2, TrialState.DIVERGED, top1=math.nan, macs=1.0),
        trial(3, top1=math.nan, macs=1.0),
        trial(4, top1=math.inf, macs=1.0),
        trial(5, top1=0.9),
        trial(6, top1=0.5, macs=2.0),
    ]
    assert [each.number for each in pareto_front(trials, [TOP1, MACS])] == [6]
    assert pareto_front(trials[:6], [TOP1, MACS]) == []


@pytest.mark.parametrize("objectives", [[], [TOP1, MACS, PARAMS, Objective("loss", "min")]])
def test_other_numbers_of_objectives_are_refused(objectives: list[Objective]) -> None:
    with pytest.raises(ConfigError, match="one to three objectives"):
        pareto_front([], objectives)


def test_hypervolume_of_hand_computed_areas() -> None:
    assert hypervolume(np.array([[1.0, 1.0]]), [3.0, 4.0]) == 6.0
    assert hypervolume(np.array([[1.0, 3.0], [2.0, 1.0]]), [4.0, 4.0]) == 3.0 + 4.0  # 3*1 + 2*(3-1)
    assert hypervolume(np.array([[1.0, 1.0], [5.0, 0.0]]), [3.0, 4.0]) == 6.0  # beyond the reference
    assert hypervolume(np.empty((0, 2)), [3.0, 4.0]) == 0.0
    assert hypervolume(np.array([[1.0, 1.0, 1.0]]), [2.0, 3.0, 4.0]) == 6.0


@pytest.mark.parametrize("objectives", [[TOP1], [TOP1, MACS], [TOP1, MACS, PARAMS]], ids=str)
def test_history_is_the_hypervolume_of_every_prefix(objectives: list[Objective]) -> None:
    rng = np.random.default_rng(3)
    trials = random_trials(rng, 120, 12)
    trials[10] = trial(900, TrialState.STOPPED, top1=1.0, macs=0.0, params=0.0)
    trials[20] = trial(901, top1=math.nan, macs=0.0, params=0.0)
    usable = [each for i, each in enumerate(trials) if i not in (10, 20)]
    corner = reference_point(minimised(usable, objectives))
    history = hypervolume_history(trials, objectives, corner)
    for end in range(1, len(trials) + 1):
        prefix = [each for each in trials[:end] if each.number < 900]
        assert history[end - 1] == pytest.approx(hypervolume(minimised(prefix, objectives), corner), rel=1e-12)
    assert history[10] == history[9]
    assert history[20] == history[19]


def test_history_of_many_points() -> None:
    for shape, points in clouds(np.random.default_rng(1), 3000).items():
        if shape == "far away":  # areas overflow
            continue
        points[::7] = [math.nan, 0.0]
        points[::11] = [-math.inf, -math.inf]
        corner = np.nanquantile(points[np.isfinite(points).all(axis=1)], 0.9, axis=0)
        history = volume_history(points, corner)
        for end in (1, 3, 2047, 2048, 2049, 3000):
            prefix = points[:end]
            expected = hypervolume(prefix[np.isfinite(prefix).all(axis=1)], corner)
            assert history[end - 1] == pytest.approx(expected, rel=1e-9), shape
        assert (np.diff(history) >= 0).all()


def test_reference_point_leaves_room_beyond_the_worst() -> None:
    corner = reference_point(np.array([[-0.9, 10.0, 5.0], [-0.5, 30.0, 5.0]]))
    assert corner == pytest.approx([-0.46, 32.0, 5.5])
