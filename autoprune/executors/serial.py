"""One trial after another in this process."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Generator, Iterator
from dataclasses import replace

from autoprune.errors import EvaluationError
from autoprune.executors.memory import allocations_limited, explained, is_memory_error
from autoprune.executors.turnaround import Turnaround
from autoprune.protocols import AskTell, Evaluator
from autoprune.types import Measurement, Outcome, OutcomeKind, Trial

__all__ = ["SerialExecutor"]


class SerialExecutor:
    """Runs trials in the calling thread.

    ``trial_seconds`` is checked whenever the evaluator yields a measurement: a trial that hangs without yielding is
    not ended (the Ray executor, whose trials are processes of their own, can end it). ``trial_memory`` (bytes) is
    kept by the system's limit on allocations (Linux): beyond it they fail, which is the trial's accident.

    Ctrl-C stops the session and returns; the trial that was running is left for a resume.
    """

    def __init__(
        self, make_evaluator: Callable[[], Evaluator], trial_seconds: float, trial_memory: float = math.inf
    ) -> None:
        self._make_evaluator = make_evaluator
        self._trial_seconds = trial_seconds
        self._trial_memory = trial_memory

    def run(self, session: AskTell) -> None:
        """Return when the session is done or Ctrl-C was pressed."""
        try:
            self._run(session)
        except KeyboardInterrupt:
            session.stop("interrupted")

    def _run(self, session: AskTell) -> None:
        if session.done:
            return
        evaluator = self._make_evaluator()
        turnaround = Turnaround()
        while not session.done:
            trial = session.ask()
            if trial is not None:
                turnaround.handed()
                session.tell(trial.number, self._timed(turnaround, evaluator, trial, session))
                turnaround.told()

    def _timed(self, turnaround: Turnaround, evaluator: Evaluator, trial: Trial, session: AskTell) -> Outcome:
        """Worker and driver are one here: ``report`` is what taking in the outcome before it took."""
        began = time.perf_counter()
        outcome = self._outcome(evaluator, trial, session)
        between = turnaround.heard(time.perf_counter() - began)
        if outcome.kind.is_accident:
            return outcome
        return replace(outcome, timings={**outcome.timings, **between})

    def _outcome(self, evaluator: Evaluator, trial: Trial, session: AskTell) -> Outcome:
        try:
            with allocations_limited(self._trial_memory):
                measurements = evaluator.evaluate(trial.candidate)
                try:
                    return self._pull(measurements, trial, session)
                finally:
                    if isinstance(measurements, Generator):
                        measurements.close()
        except Exception as error:  # noqa: BLE001 (whatever the evaluator raises is this attempt's accident)
            reason = f"{type(error).__name__}: {error}"
            if is_memory_error(error):
                return Outcome(OutcomeKind.OUT_OF_MEMORY, reason=explained(reason, self._trial_memory), worker="serial")
            return Outcome(OutcomeKind.ACCIDENT, reason=reason, worker="serial")

    def _pull(self, measurements: Iterator[Measurement], trial: Trial, session: AskTell) -> Outcome:
        began = time.monotonic()
        for measurement in measurements:
            if measurement.final:
                return Outcome(OutcomeKind.MEASURED, measurement.metrics, timings=measurement.timings, worker="serial")
            if not session.report(trial.number, measurement):
                return Outcome(OutcomeKind.STOPPED, measurement.metrics, "stopped early", measurement.timings, "serial")
            if time.monotonic() - began > self._trial_seconds:
                reason = f"took longer than {self._trial_seconds:g} s: raise limits.trial_seconds"
                return Outcome(OutcomeKind.ACCIDENT, reason=reason, worker="serial")
        raise EvaluationError("the evaluator ended without a final measurement.")
