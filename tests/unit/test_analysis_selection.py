"""Selection under several budgets and the nearest miss."""

from __future__ import annotations

import math

import pytest

from autoprune.analysis.selection import select
from autoprune.errors import ConfigError, NothingFeasible
from autoprune.types import Candidate, Constraint, Objective, Trial, TrialState

BASELINE = {"top1": 0.92, "macs": 40e6, "params": 270e3}
TOP1 = Objective("top1", "max")
HALF = Constraint("macs", "<=", 0.5, relative=True)
GOOD = Constraint("top1", ">=", 0.9)


def trial(number: int, top1: float, macs: float, params: float = 1e5, **kwargs: object) -> Trial:
    state = kwargs.get("state", TrialState.COMPLETE)
    assert isinstance(state, TrialState)
    return Trial(number, Candidate({"a": number}), state, {"top1": top1, "macs": macs, "params": params})


def test_best_trial_that_meets_every_budget() -> None:
    trials = [
        trial(0, 0.95, 30e6),
        trial(1, 0.91, 19e6, params=2e5),
        trial(2, 0.90, 19e6),
        trial(3, 0.99, 10e6, state=TrialState.STOPPED),
    ]
    assert select(trials, [HALF], BASELINE, TOP1).number == 1
    assert select(trials, [HALF, Constraint("params", "<=", 150e3)], BASELINE, TOP1).number == 2
    assert select(trials, [], BASELINE, TOP1).number == 0
    assert select(trials, [GOOD], BASELINE, Objective("macs", "min")).number == 1


def test_ties_go_to_fewer_macs_then_to_the_lower_number() -> None:
    trials = [trial(5, 0.91, 19e6), trial(3, 0.91, 18e6), trial(2, 0.91, 18e6), trial(1, 0.91, 19.5e6)]
    assert select(trials, [HALF], BASELINE, TOP1).number == 2


def test_a_bound_is_met_exactly() -> None:
    assert select([trial(0, 0.9, 20e6)], [HALF, GOOD], BASELINE, TOP1).number == 0


def test_nearest_miss_names_trial_constraint_and_amount() -> None:
    trials = [trial(7, 0.93, 30e6), trial(8, 0.88, 21e6), trial(9, 0.45, 20e6)]
    with pytest.raises(NothingFeasible) as caught:
        select(trials, [HALF, GOOD], BASELINE, TOP1)
    message = caught.value.message
    assert "none of 3 complete trials" in message
    assert "trial 8 misses" in message  # 5 % + 2.2 %, against 50 % and 50 %
    assert "'macs <= 0.5 * baseline' by 1.00M (5 %): it has 21.0M, wanted at most 20.0M" in message
    assert "'top1 >= 0.9' by 2.00 points (2.2 %): it has 88.00 %, wanted at least 90.00 %" in message
    assert caught.value.exit_code == 5
    assert caught.value.hint


def test_constraints_that_the_nearest_trial_meets_are_not_listed_as_missed() -> None:
    with pytest.raises(NothingFeasible) as caught:
        select([trial(1, 0.95, 22e6)], [HALF, GOOD], BASELINE, TOP1)
    assert caught.value.message.count("it has") == 1


def test_nothing_complete() -> None:
    with pytest.raises(NothingFeasible, match="no complete trial"):
        select([trial(1, 0.9, 1e6, state=TrialState.INFEASIBLE)], [HALF], BASELINE, TOP1)


def test_trials_without_a_finite_objective_are_never_selected() -> None:
    trials = [trial(1, math.nan, 1e6), trial(2, 0.5, 2e6)]
    assert select(trials, [HALF], BASELINE, TOP1).number == 2
    with pytest.raises(NothingFeasible, match="finite 'top1'"):
        select(trials[:1], [HALF], BASELINE, TOP1)


def test_unknown_metrics_are_named_with_the_nearest_known() -> None:
    with pytest.raises(ConfigError, match=r"'mac' is not measured.*'macs'"):
        select([trial(1, 0.9, 1e6)], [Constraint("mac", "<=", 1.0)], BASELINE, TOP1)
    with pytest.raises(ConfigError, match="'top2' is not measured"):
        select([trial(1, 0.9, 1e6)], [], BASELINE, Objective("top2", "max"))


def test_relative_bound_needs_the_baseline_metric() -> None:
    measured = Trial(1, Candidate({"a": 1}), TrialState.COMPLETE, {"top1": 0.9, "latency_ms": 2.0})
    with pytest.raises(ConfigError, match="baseline, which has no 'latency_ms'"):
        select([measured], [Constraint("latency_ms", "<=", 0.5, relative=True)], BASELINE, TOP1)
