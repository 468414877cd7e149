"""Hands the runs of a comparison to an executor, and keeps each result as it comes."""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter, deque
from collections.abc import Sequence
from types import TracebackType
from typing import TYPE_CHECKING

from autoprune.errors import StoreError
from autoprune.retraining.runs import RUN, Run
from autoprune.store import Retraining, new_owner
from autoprune.types import Candidate, Measurement, Outcome, OutcomeKind, Trial, TrialState

if TYPE_CHECKING:
    from autoprune.protocols import Progress
    from autoprune.store import Store

__all__ = ["RunSession"]

_log = logging.getLogger(__name__)
_CLAIM_SECONDS = 30.0
_LOOK_SECONDS = 1.0
"""Between two looks at runs that another process is at."""
_NAP_SECONDS = 0.05


class RunSession:
    """What an executor sees (``protocols.AskTell``): each trial is one run, named by its place.

    A run is claimed in the store before it begins: what another process is at just now is waited for, and taken from
    its store entry, or taken over when that process is gone. An accident is repeated ``retries`` times and then left
    out: another call of the same comparison tries it again. Used as a context: claims are given back at its end.
    """

    wants_estimates = True

    def __init__(self, store: Store, search: str, runs: Sequence[Run], retries: int, progress: Progress) -> None:
        self._store, self._search, self._runs, self._retries = store, search, runs, retries
        self._progress = progress
        self._owner = new_owner()
        self._lock = threading.Lock()
        self._waiting = deque(range(len(runs)))
        self._claimed: deque[int] = deque()
        """Ours, and not yet begun."""
        self._running: dict[int, int] = {}
        """Place -> epochs that were shown."""
        self._accidents: Counter[int] = Counter()
        self._look_at = 0.0
        self._seen = ""
        """The other process that was last waited for."""
        self._left = threading.Event()
        self._keeper = threading.Thread(target=self._keep, name="claims of runs", daemon=True)
        self.failed: dict[int, str] = {}
        """Runs that were given up, and the last reason."""
        self.ended = 0
        """Runs that this session carried out."""
        self.stopped = ""

    def __enter__(self) -> RunSession:
        self._keeper.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._left.set()
        self._keeper.join()
        self._store.release_retrainings(self._owner)

    @property
    def done(self) -> bool:
        with self._lock:
            return not self._running and (bool(self.stopped) or not (self._waiting or self._claimed))

    def await_work(self) -> bool:
        """Wait while other processes are at all that is left; False when nothing is left to do."""
        while True:
            with self._lock:
                self._claim()
                if self._claimed:
                    return True
                if self.stopped or not self._waiting:
                    return False
            time.sleep(_LOOK_SECONDS)

    def ask(self) -> Trial | None:
        with self._lock:
            if self.stopped:
                return None
            self._claim()
            if self._claimed:
                place = self._claimed.popleft()
                self._running[place] = 0
                return Trial(place, Candidate({RUN: place}), TrialState.RUNNING, attempt=self._accidents[place] + 1)
        time.sleep(_NAP_SECONDS)  # an executor may ask again at once
        return None

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
                self.ended += 1
            else:
                self._store.release_retrainings(self._owner, self._runs[number].digest)
                if outcome.kind.is_accident:
                    self._accident(number, outcome.reason)
            del self._running[number]

    def stop(self, reason: str) -> None:
        with self._lock:
            self.stopped = self.stopped or reason

    # --- claims ----------------------------------------------------------------------------------------------------

    def _claim(self) -> None:
        """Take the next run that nobody is at; what ended elsewhere in the meantime needs no training any more."""
        if self._claimed or not self._waiting or time.monotonic() < self._look_at:
            return
        places = {self._runs[place].digest: place for place in self._waiting}
        digest, ended, other = self._store.claim_retraining(list(places), self._owner, _CLAIM_SECONDS)
        for found in ended:
            self._waiting.remove(places[found])
            self._progress.advance("a run that another process ended", self._runs[places[found]].epochs)
        if digest is not None:
            self._waiting.remove(places[digest])
            self._claimed.append(places[digest])
        elif self._waiting:
            self._look_at = time.monotonic() + _LOOK_SECONDS
            self._say(other)

    def _say(self, other: str) -> None:
        if other and other != self._seen:
            self._seen = other
            host, pid, _ = other.rsplit(":", 2)
            self._progress.note(
                f"waiting for runs that process {pid} on {host.split('/')[0]} is at; its results are shared."
            )

    def _keep(self) -> None:
        while not self._left.wait(_CLAIM_SECONDS / 3):
            try:
                self._store.renew_retrainings(self._owner, _CLAIM_SECONDS)
            except StoreError as error:  # a claim that runs out costs work done twice, no result
                _log.warning("claims of runs were not renewed: %s", error)

    # --- accidents and progress ------------------------------------------------------------------------------------

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
