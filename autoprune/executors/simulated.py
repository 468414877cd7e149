"""A search on a virtual clock: as if several workers ran it, in the time that the controller takes."""

from __future__ import annotations

import heapq
from collections.abc import Iterator

from autoprune.protocols import AskTell, Evaluator
from autoprune.types import Measurement, Outcome, OutcomeKind, Trial

__all__ = ["SimulatedExecutor"]


class SimulatedExecutor:
    """``parallel`` workers that take what the evaluator's measurements say they took (``Measurement.seconds``).

    Trials finish in the order in which they would have: one that was begun later may end earlier. The controller takes
    no time on this clock, so that equal measurements give equal searches on any machine. An error of the evaluator is
    raised: a simulation has no accidents.
    """

    def __init__(self, evaluator: Evaluator, parallel: int = 1) -> None:
        self._evaluator = evaluator
        self._parallel = parallel
        self.now = 0.0
        """Seconds since the search began, on the virtual clock."""

    def run(self, session: AskTell) -> None:
        """Return when the session is done."""
        events: list[tuple[float, int, float, Trial, Measurement, Iterator[Measurement]]] = []
        """Time, then the order of handing out among equals: the rest is never compared."""
        handed = 0
        while not session.done:
            while len(events) < self._parallel and (trial := session.ask()) is not None:
                stream = self._evaluator.evaluate(trial.candidate)
                first = next(stream)
                heapq.heappush(events, (self.now + first.seconds, handed, self.now, trial, first, stream))
                handed += 1
            if not events:
                continue  # everything asked was answered without a run: the session is done, or says what ails it
            self.now, order, began, trial, measured, stream = heapq.heappop(events)
            if measured.final:
                outcome = Outcome(OutcomeKind.MEASURED, measured.metrics, "", measured.timings, "simulated")
                session.tell(trial.number, outcome)
            elif session.report(trial.number, measured):
                following = next(stream)
                heapq.heappush(events, (began + following.seconds, order, began, trial, following, stream))
            else:
                outcome = Outcome(OutcomeKind.STOPPED, measured.metrics, "stopped early", measured.timings, "simulated")
                session.tell(trial.number, outcome)
