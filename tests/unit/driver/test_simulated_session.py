"""The session without a store: judged, decoded and deduplicated as the real one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pytest

from autoprune.driver.judging import Judge
from autoprune.driver.simulated_session import SimulatedSession
from autoprune.errors import ConfigError, SearchAborted
from autoprune.executors.simulated import SimulatedExecutor
from autoprune.space import Decoder
from autoprune.testing import ToySearch, toy_space
from autoprune.types import Candidate, Constraint, Measurement, Objective, Proposal, Trial, TrialState

SEARCH = ToySearch(toy_space((16, 16)))
FULL, SMALL = Candidate({"conv0": 16, "conv1": 16}), Candidate({"conv0": 4, "conv1": 4})
MIDDLE = Candidate({"conv0": 8, "conv1": 8})


class Scripted:
    """Proposes what it is given; None once means: not now."""

    def __init__(self, script: Sequence[Candidate | None]) -> None:
        self._script = list(script)
        self._place = 0
        self.told: list[Trial] = []
        self.asked: list[int] = []

    @property
    def exhausted(self) -> bool:
        return self._place >= len(self._script)

    def ask(self, number: int) -> Proposal | None:
        self.asked.append(number)
        proposed = self._script[self._place]
        self._place += 1
        return None if proposed is None else Proposal(proposed, {"at": (number, 1)})

    def tell(self, trial: Trial) -> None:
        self.told.append(trial)

    def state(self) -> Mapping[str, Any]:
        return {}

    def load_state(self, state: Mapping[str, Any], history: Sequence[Trial]) -> None:
        raise AssertionError("a simulation is not resumed")


class Evaluator:
    """Takes as many seconds as the first group has channels."""

    def __init__(self) -> None:
        self.ran: list[Candidate] = []

    def evaluate(self, candidate: Candidate) -> Iterator[Measurement]:
        self.ran.append(candidate)
        metrics = {name: SEARCH.measure(candidate)[name] for name in ("top1", "loss")}
        yield Measurement(metrics, 0, float(candidate.widths["conv0"]), True)


def simulate(
    script: Sequence[Candidate | None], *, parallel: int = 1, bound: float = 1.0, trials: int = 99
) -> tuple[SimulatedSession, Scripted, Evaluator]:
    constraints = (Constraint("macs", "<=", bound, relative=True),)
    objectives = (Objective("top1", "max"), Objective("macs", "min"))
    controller, evaluator = Scripted(script), Evaluator()
    executor = SimulatedExecutor(evaluator, parallel)
    session = SimulatedSession(
        controller,
        Decoder(SEARCH.space, constraints, objectives=objectives),
        Judge(objectives, constraints, SEARCH.space.cost.baseline),
        trials=trials,
        sample=0,
        on_trial=lambda: executor.now,
    )
    executor.run(session)
    return session, controller, evaluator


def test_trials_are_told_in_the_order_of_finishing_with_their_costs() -> None:
    session, controller, _ = simulate([FULL, SMALL, MIDDLE], parallel=2)
    assert [(trial.number, at) for trial, at in zip(session.trials, session.times, strict=True)] == [
        *((1, 4.0), (2, 12.0), (0, 16.0)),
    ]
    assert controller.told == session.trials
    assert session.trials[0].metrics == SEARCH.measure(SMALL)
    assert session.trials[0].note == {"at": [1, 1]}  # as JSON gives it back
    assert session.proposal_seconds >= 0


def test_a_repeated_candidate_is_not_run_again() -> None:
    session, _, evaluator = simulate([SMALL, SMALL, FULL, SMALL])
    assert evaluator.ran == [SMALL, FULL]
    assert [(trial.number, trial.duplicate_of) for trial in session.trials] == [(0, ""), (1, "0"), (2, ""), (3, "0")]
    assert session.trials[3].metrics == session.trials[0].metrics
    assert session.times[-1] == 20.0


def test_a_twin_of_a_running_trial_waits_for_it() -> None:
    session, _, evaluator = simulate([FULL, FULL, SMALL], parallel=2)
    assert evaluator.ran == [FULL, SMALL]
    assert [(trial.number, at) for trial, at in zip(session.trials, session.times, strict=True)] == [
        *((2, 4.0), (0, 16.0), (1, 16.0)),
    ]


def test_a_proposal_that_breaks_a_bound_is_decoded() -> None:
    session, *_ = simulate([FULL], bound=0.5)
    (trial,) = session.trials
    assert trial.state is TrialState.COMPLETE
    assert trial.metrics["macs"] <= 0.5 * SEARCH.space.cost.baseline["macs"]


def test_no_more_trials_than_asked_for() -> None:
    session, controller, _ = simulate([FULL, SMALL, MIDDLE], trials=2)
    assert [trial.number for trial in session.trials] == controller.asked == [0, 1]


def test_not_now_is_asked_again_when_a_trial_has_ended() -> None:
    session, controller, _ = simulate([FULL, None, SMALL], parallel=2)
    assert controller.asked == [0, 1, 1]
    assert session.times == [16.0, 20.0]


def test_a_controller_that_waits_for_nothing_is_a_defect() -> None:
    with pytest.raises(SearchAborted, match="proposes nothing for trial 0 although no trial is running"):
        simulate([None, FULL])


def test_widths_that_the_space_does_not_have_are_refused() -> None:
    with pytest.raises(ConfigError, match="width 5"):
        simulate([Candidate({"conv0": 5, "conv1": 4})])
