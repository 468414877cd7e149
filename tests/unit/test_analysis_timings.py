"""What slows a search down, from the timings of its trials."""

from __future__ import annotations

import math

import pytest

from autoprune.analysis.timings import bottleneck, phase_times
from autoprune.types import Candidate, Trial, TrialState


def trial(duplicate_of: str = "", **timings: float) -> Trial:
    return Trial(0, Candidate({"g": 1}), TrialState.COMPLETE, timings=timings, duplicate_of=duplicate_of)


def test_medians_are_of_trials_and_shares_of_all_seconds() -> None:
    found = phase_times([trial(wait=0.0, evaluate=1.0), trial(wait=0.0, evaluate=1.0), trial(wait=6.0, evaluate=2.0)])
    assert [phase.name for phase in found] == ["evaluate", "wait"]
    assert [phase.median_seconds for phase in found] == [1.0, 0.0]
    assert [phase.share for phase in found] == [0.4, 0.6], "one long wait counts, though the median hides it"


def test_trials_that_were_not_run_and_broken_clocks_do_not_count() -> None:
    found = phase_times([trial(evaluate=1.0, slice=math.nan), trial(evaluate=50.0, duplicate_of="other/1")])
    assert [(phase.name, phase.total_seconds) for phase in found] == [("evaluate", 1.0)]
    assert phase_times([]) == []


@pytest.mark.parametrize(
    ("most", "said"),
    [
        ("evaluate", "validation_images"),
        ("calibrate", "calibration_images"),
        ("wait", "controller"),
        ("report", "carrying candidates"),
        ("slice", "cutting models"),
        ("train", "fidelity.epochs"),
        ("warm", "80 % of the workers' time goes into warm."),
    ],
)
def test_the_largest_phase_is_named_with_what_to_do(most: str, said: str) -> None:
    names = {"slice", "evaluate", most}
    timings = {name: 0.8 if name == most else 0.2 / (len(names) - 1) for name in names}
    sentence = bottleneck(phase_times([trial(**timings)]))
    assert sentence.startswith("80 % of the workers' time goes into ")
    assert said in sentence


def test_nothing_is_said_without_timings() -> None:
    assert bottleneck([]) == ""
