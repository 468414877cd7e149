"""The virtual clock: who finishes when, and what a session sees of it."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence

import pytest

from autoprune.executors.simulated import SimulatedExecutor
from autoprune.types import Candidate, Measurement, Outcome, OutcomeKind, Trial, TrialState


class Timed:
    """A candidate takes the seconds that its width says, and reports after each ``every`` of them."""

    def __init__(self, every: float = 1e9) -> None:
        self.every = every

    def evaluate(self, candidate: Candidate) -> Iterator[Measurement]:
        whole = float(candidate.widths["g"])
        at = self.every
        while at < whole:
            yield Measurement({"top1": at / 100}, 0, at, False)
            at += self.every
        yield Measurement({"top1": whole / 100}, 0, whole, True, {"evaluate": whole})


class Scripted:
    """Hands out widths in order; trial numbers count from 0."""

    wants_estimates = True

    def __init__(self, widths: Sequence[int], most: int = 99, stop_at: float = 1.0) -> None:
        self._queue = deque(
            Trial(number, Candidate({"g": width}), TrialState.RUNNING) for number, width in enumerate(widths)
        )
        self._most, self._stop_at = most, stop_at
        self._running: set[int] = set()
        self.executor: SimulatedExecutor | None = None
        self.events: list[tuple[str, int, float]] = []
        self.outcomes: list[Outcome] = []

    @property
    def done(self) -> bool:
        return not self._queue and not self._running

    def ask(self) -> Trial | None:
        if not self._queue or len(self._running) >= self._most:
            return None
        trial = self._queue.popleft()
        self._running.add(trial.number)
        self._note("ask", trial.number)
        return trial

    def report(self, number: int, measurement: Measurement) -> bool:
        self._note("report", number)
        return measurement.metrics["top1"] < self._stop_at

    def tell(self, number: int, outcome: Outcome) -> None:
        self._running.remove(number)
        self.outcomes.append(outcome)
        self._note("tell", number)

    def stop(self, reason: str) -> None:
        raise AssertionError(reason)

    def _note(self, what: str, number: int) -> None:
        assert self.executor is not None
        self.events.append((what, number, self.executor.now))

    def told(self) -> list[tuple[int, float]]:
        return [(number, now) for what, number, now in self.events if what == "tell"]


def run(session: Scripted, parallel: int, every: float = 1e9) -> Scripted:
    session.executor = SimulatedExecutor(Timed(every), parallel)
    session.executor.run(session)
    return session


def test_one_worker_takes_the_sum_of_the_seconds() -> None:
    session = run(Scripted([5, 1, 2]), 1)
    assert session.told() == [(0, 5.0), (1, 6.0), (2, 8.0)]
    assert session.outcomes[0] == Outcome(OutcomeKind.MEASURED, {"top1": 0.05}, "", {"evaluate": 5.0}, "simulated")


def test_two_workers_finish_out_of_order() -> None:
    session = run(Scripted([5, 1, 2, 4]), 2)
    assert session.told() == [(1, 1.0), (2, 3.0), (0, 5.0), (3, 7.0)]
    assert session.events[:4] == [("ask", 0, 0.0), ("ask", 1, 0.0), ("tell", 1, 1.0), ("ask", 2, 1.0)]


def test_what_ends_at_the_same_time_ends_in_the_order_of_asking() -> None:
    assert [number for number, _ in run(Scripted([2, 2, 2, 2]), 3).told()] == [0, 1, 2, 3]


def test_workers_wait_while_nothing_is_asked() -> None:
    """A controller that allows one trial at a time: a second worker changes nothing."""
    assert run(Scripted([5, 1, 2], most=1), 4).told() == run(Scripted([5, 1, 2]), 1).told()


def test_reports_come_when_they_would_and_may_stop_a_trial() -> None:
    session = run(Scripted([4, 9], stop_at=0.06), 2, every=3.0)
    assert session.events[2:] == [
        *(("report", 0, 3.0), ("report", 1, 3.0), ("tell", 0, 4.0)),
        *(("report", 1, 6.0), ("tell", 1, 6.0)),
    ]
    assert [outcome.kind for outcome in session.outcomes] == [OutcomeKind.MEASURED, OutcomeKind.STOPPED]
    assert session.outcomes[1].metrics == {"top1": 0.06}


def test_errors_of_the_evaluator_are_raised() -> None:
    class Broken:
        def evaluate(self, candidate: Candidate) -> Iterator[Measurement]:
            raise ValueError("no such candidate")
            yield

    session = Scripted([1])
    session.executor = SimulatedExecutor(Broken(), 2)
    with pytest.raises(ValueError, match="no such candidate"):
        session.executor.run(session)
