"""Where a worker's time goes between evaluations, on a clock that is set by hand."""

from __future__ import annotations

import pytest

from autoprune.executors.turnaround import Turnaround


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def test_all_seconds_of_a_worker_are_counted_once() -> None:
    clock = Clock()
    turnaround = Turnaround(clock)
    clock.now += 7  # the worker starts: no trial's time
    turnaround.free()
    began, counted = clock.now, 0.0
    for proposing, way, busy, taking in [(1, 2, 10, 4), (8, 16, 20, 32), (0, 0, 5, 64)]:
        clock.now += proposing
        turnaround.handed()
        clock.now += way + busy
        between = turnaround.heard(busy)
        assert between["wait"] == proposing
        counted += busy + between["report"] + between["wait"]
        ended = clock.now
        clock.now += taking
        turnaround.told()
    assert counted == ended - began


def test_taking_an_outcome_in_counts_for_the_next_trial() -> None:
    clock = Clock()
    turnaround = Turnaround(clock)
    turnaround.free()
    turnaround.handed()
    assert turnaround.heard(0.0) == {"report": 0.0, "wait": 0.0}
    clock.now += 3
    turnaround.told()
    turnaround.handed()
    clock.now += 1
    assert turnaround.heard(1.0) == {"report": 3.0, "wait": 0.0}


@pytest.mark.parametrize("busy", [5.0, 1e9])
def test_a_worker_whose_clock_runs_fast_gives_no_negative_time(busy: float) -> None:
    clock = Clock()
    turnaround = Turnaround(clock)
    turnaround.handed()
    clock.now += 4
    assert turnaround.heard(busy)["report"] == 0.0
