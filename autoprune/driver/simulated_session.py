"""A session without a store, for searches that are simulated by the hundred: nothing of it outlives the process."""

from __future__ import annotations

import dataclasses
import json
import time
from collections import defaultdict
from collections.abc import Callable

from autoprune.driver.judging import Judge
from autoprune.errors import SearchAborted
from autoprune.protocols import Controller
from autoprune.space import Decoder
from autoprune.types import Measurement, Outcome, OutcomeKind, Trial, TrialState

__all__ = ["SimulatedSession"]

_SAMPLED = 5


class SimulatedSession:
    """Hands out and judges trials as a ``Session`` does: proposals are decoded where they break a bound, and a
    candidate that was proposed before is not run again but takes the first one's measurement, at once or when that
    ends.

    ``sample`` is the offset of the trials whose proposing is timed, every fifth one: reading the processor's clock is a
    system call, which on some machines costs more than a proposal. ``on_trial`` is called after each finished trial
    and returns the time that it finished at.
    """

    wants_estimates = False

    def __init__(
        self,
        controller: Controller,
        decoder: Decoder,
        judge: Judge,
        *,
        trials: int,
        sample: int,
        on_trial: Callable[[], float],
    ) -> None:
        self._controller, self._decoder, self._judge = controller, decoder, judge
        self._limit, self._sample, self._on_trial = trials, sample, on_trial
        self._next = 0
        self._running: dict[int, Trial] = {}
        self._running_digests: set[str] = set()
        self._twins: dict[str, list[Trial]] = defaultdict(list)
        self._known: dict[str, Trial] = {}
        self._sampled = 0
        self._seconds = 0.0
        self.trials: list[Trial] = []
        """Finished trials in the order in which they finished."""
        self.times: list[float] = []
        self.stopped = ""

    @property
    def proposal_seconds(self) -> float:
        """Processor time of the controller for all trials, from the sample: proposing, and learning from results."""
        return self._seconds / self._sampled * self._next if self._sampled else 0.0

    @property
    def done(self) -> bool:
        return not self._running and not self._may_propose

    @property
    def _may_propose(self) -> bool:
        return not self.stopped and self._next < self._limit and not self._controller.exhausted

    def ask(self) -> Trial | None:
        """Raises SearchAborted when the controller proposes nothing although nothing is running."""
        while self._may_propose:
            trial = self._propose()
            if trial is None:
                return None
            digest = trial.candidate.digest
            if digest in self._known:
                self._copy(trial, self._known[digest])
            elif digest in self._running_digests:
                self._twins[digest].append(trial)
            else:
                self._running[trial.number] = trial
                self._running_digests.add(digest)
                return trial
        return None

    def _propose(self) -> Trial | None:
        number = self._next
        began = self._clock(number)
        proposal = self._controller.ask(number)
        if proposal is None:
            if not self._running and not self._controller.exhausted:
                raise SearchAborted(
                    f"the controller proposes nothing for trial {number} although no trial is running.",
                    "This is a defect of the controller: leave its arm out.",
                )
            return None
        self._spend(number, began)
        self._sampled += self._is_sampled(number)
        candidate = proposal.candidate
        space = self._decoder.space
        space.validate(candidate)
        if self._judge.broken(space.cost.measure(candidate)) is not None:
            candidate = self._decoder.decode(candidate)
        self._next += 1
        note = json.loads(json.dumps(dict(proposal.note)))  # as it would come back from a store
        return Trial(number, candidate, TrialState.RUNNING, note=note)

    def report(self, number: int, measurement: Measurement) -> bool:
        return not self.stopped

    def tell(self, number: int, outcome: Outcome) -> None:
        trial = self._running.pop(number, None)
        if trial is None:
            return
        self._running_digests.discard(trial.candidate.digest)
        ended = self._finish(trial, outcome)
        self._known[trial.candidate.digest] = ended
        for twin in self._twins.pop(trial.candidate.digest, []):
            self._copy(twin, ended)

    def stop(self, reason: str) -> None:
        self.stopped = self.stopped or reason

    def _copy(self, trial: Trial, source: Trial) -> None:
        again = dataclasses.replace(trial, duplicate_of=str(source.number))
        self._finish(again, Outcome(OutcomeKind.MEASURED, source.metrics))

    def _finish(self, trial: Trial, outcome: Outcome) -> Trial:
        metrics = {**outcome.metrics, **self._decoder.space.cost.measure(trial.candidate)}
        ended = self._judge.finished(trial, dataclasses.replace(outcome, metrics=metrics))
        began = self._clock(trial.number)
        self._controller.tell(ended)
        self._spend(trial.number, began)
        self.trials.append(ended)
        self.times.append(self._on_trial())
        return ended

    def _is_sampled(self, number: int) -> bool:
        return (number + self._sample) % _SAMPLED == 0

    def _clock(self, number: int) -> float:
        return time.process_time() if self._is_sampled(number) else 0.0

    def _spend(self, number: int, began: float) -> None:
        if self._is_sampled(number):
            self._seconds += time.process_time() - began
