"""Hands the runs of a comparison to an executor, and keeps each result as it comes."""

from __future__ import annotations

import threading
from collections import Counter, deque
from collections.abc import Sequence
from typing import TYPE_CHECKING

from autoprune.retraining.runs import RUN, Run
from autoprune.store import Retraining
from autoprune.types import Candidate, Measurement, Outcome, OutcomeKind, Trial, TrialState

if TYPE_CHECKING:
    from autoprune.protocols import Progress
    from autoprune.store import Store

__all__ = ["RunSession"]


class RunSession:
    """What an executor sees (``protocols.AskTell``): each trial is one run, named by its place.

    An accident is repeated ``retries`` times and then left out: another call of the same comparison tries it again.
    """

    wants_estimates = True

    def __init__(self, store: Store, search: str, runs: Sequence[Run], retries: int, progress: Progress) -> None:
        self._store, self._search, self._runs, self._retries = store, search, runs, retries
        self._progress = progress
        self._lock = threading.Lock()
        self._waiting = deque(range(len(runs)))
        self._running: dict[int, int] = {}
        """Place -> epochs that were shown."""
        self._accidents: Counter[int] = Counter()
        self.failed: dict[int, str] = {}
        """Runs that were given up, and the last reason."""
        self.stopped = ""

    @property
    def done(self) -> bool:
        with self._lock:
            return not self._running and (not self._waiting or bool(self.stopped))

    def ask(self) -> Trial | None:
        with self._lock:
            if self.stopped or not self._waiting:
                return None
            place = self._waiting.popleft()
            self._running[place] = 0
            return Trial(place, Candidate({RUN: place}), TrialState.RUNNING, attempt=self._accidents[place] + 1)

    def report(self, number: int, measurement: Measurement) -> bool:
        with self._lock:
            self._show(number, measurement.step)
            return not self.stopped

    def tell(self, number: int, outcome: Outcome) -> None:
        with self._lock:
            if number not in self._running:
                return
            if outcome.kind is OutcomeKind.MEASURED:
                run = self._runs[number]
                item = Retraining(run.digest, run.content(), dict(outcome.metrics), outcome.worker)
                self._store.save_retraining(self._search, item)
                self._show(number, run.epochs)
            elif outcome.kind is OutcomeKind.ACCIDENT:
                self._accident(number, outcome.reason)
            del self._running[number]

    def stop(self, reason: str) -> None:
        with self._lock:
            self.stopped = self.stopped or reason

    def _accident(self, number: int, reason: str) -> None:
        self._accidents[number] += 1
        if self._accidents[number] <= self._retries:
            self._waiting.append(number)
        else:
            self.failed[number] = reason

    def _show(self, number: int, epochs: int) -> None:
        """Move the progress on to ``epochs`` of a run; a repeated attempt shows only what is new."""
        more = epochs - self._running[number]
        if more > 0:
            run = self._runs[number]
            self._running[number] = epochs
            self._progress.advance(f"{run.arm}, seed {run.recipe.seed}: epoch {epochs} of {run.epochs}", more)
