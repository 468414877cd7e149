"""What becomes of an outcome: accidents, memory, numbers that are none."""

from __future__ import annotations

import math

import pytest

from autoprune.driver.judging import Judge
from autoprune.types import Candidate, Objective, Outcome, OutcomeKind, Trial, TrialState

JUDGE = Judge((Objective("top1", "max"),), (), {})
TRIAL = Trial(0, Candidate({"g": 1}), TrialState.RUNNING)


@pytest.mark.parametrize("kind", [OutcomeKind.MEASURED, OutcomeKind.STOPPED])
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_no_number_is_stored_as_measured_or_as_an_estimate(kind: OutcomeKind, value: float) -> None:
    ended = JUDGE.finished(TRIAL, Outcome(kind, {"top1": 0.5, "loss": value}))
    assert (ended.state, ended.reason) == (TrialState.DIVERGED, f"loss is {value}")


@pytest.mark.parametrize("kind", [kind for kind in OutcomeKind if kind.is_accident])
def test_accidents_end_as_failed_with_their_reason(kind: OutcomeKind) -> None:
    ended = JUDGE.finished(TRIAL, Outcome(kind, reason="out of memory: 2 GB"))
    assert (ended.state, ended.reason) == (TrialState.FAILED, "out of memory: 2 GB")
