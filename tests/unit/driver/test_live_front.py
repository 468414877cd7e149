"""The incremental front against its definition."""

from __future__ import annotations

import random

import pytest

from autoprune.driver.observers import LiveFront
from autoprune.types import Candidate, Objective, Trial, TrialState

AXES = (Objective("top1", "max"), Objective("macs", "min"), Objective("params", "min"))


def trial(number: int, point: tuple[int, ...], state: TrialState = TrialState.COMPLETE) -> Trial:
    metrics = {axis.metric: float(value) for axis, value in zip(AXES, point, strict=False)}
    return Trial(number, Candidate({}), state, metrics)


def by_definition(trials: list[Trial], axes: tuple[Objective, ...]) -> set[int]:
    points = {t.number: tuple(axis.sign * t.metrics[axis.metric] for axis in axes) for t in trials}

    def beaten(number: int) -> bool:
        mine = points[number]
        return any(
            all(a <= b for a, b in zip(other, mine, strict=True)) and (other != mine or rival < number)
            for rival, other in points.items()
            if rival != number
        )

    return {number for number in points if not beaten(number)}


@pytest.mark.parametrize("axes", [AXES[:1], AXES[:2], AXES])
@pytest.mark.parametrize("seed", range(40))
def test_it_is_the_front_whatever_the_order(axes: tuple[Objective, ...], seed: int) -> None:
    rng = random.Random(seed)
    trials = [trial(number, tuple(rng.randint(0, 6) for _ in range(3))) for number in range(25)]
    rng.shuffle(trials)
    front = LiveFront(axes)
    for place, item in enumerate(trials):
        before = front.trials
        moved = front.add(item)
        assert moved == (front.trials != before)
        assert {t.number for t in front.trials} == by_definition(trials[: place + 1], axes)


def test_it_is_sorted_by_the_cost_axis() -> None:
    front = LiveFront(AXES[:2])
    for number, point in enumerate([(5, 50), (1, 10), (3, 30)]):
        front.add(trial(number, point))
    assert [t.metrics["macs"] for t in front.trials] == [10, 30, 50]


def test_only_complete_trials_enter() -> None:
    front = LiveFront(AXES[:2])
    for state in TrialState:
        assert front.add(trial(0, (1, 1), state)) == (state is TrialState.COMPLETE)
