"""One run of a search: hands out trials, takes their outcomes, and is the only writer of both."""

from __future__ import annotations

import dataclasses
import json
import logging
import threading
from collections import Counter, defaultdict, deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import islice
from types import TracebackType
from typing import TYPE_CHECKING

from autoprune.config.schema import LimitsConfig
from autoprune.driver.judging import Judge
from autoprune.driver.lease_keeper import LeaseKeeper
from autoprune.driver.limits import Clock, FailureWatch
from autoprune.driver.logged import log_end, log_retry
from autoprune.driver.observers import LiveFront, Notifier
from autoprune.driver.restoring import front_members
from autoprune.driver.stopping import Stopper
from autoprune.errors import ConfigError, Conflict, SearchAborted, StoreError
from autoprune.protocols import Controller, Observer
from autoprune.store import History, Lease, Store
from autoprune.types import (
    Candidate,
    Constraint,
    Measurement,
    Objective,
    Outcome,
    OutcomeKind,
    SearchRecord,
    SearchState,
    Trial,
    TrialState,
)

if TYPE_CHECKING:
    from autoprune.space import SearchSpace
    from autoprune.space.decoding import Decoder

__all__ = ["Session"]

_log = logging.getLogger(__name__)

_LEAVING_SECONDS = 3.0
"""Who sends SIGTERM often kills ten seconds later."""


class Session:
    """Ask for trials, tell their outcomes; safe to call from several threads.

    A trial is recorded RUNNING before it is handed out, and its result is committed together with the controller's
    state. What a killed session left RUNNING is handed out first by the next one: same number, same candidate. A
    candidate that was measured before, by any search with the same evaluation, is looked up and not run; one that is
    running now waits for its twin's result.

    Use as a context manager, or call ``close()`` and then ``check()``. Methods raise StoreError when the store cannot
    be written and Conflict when another driver took the search over; nothing more can be done with the session then.
    """

    def __init__(
        self,
        *,
        store: Store,
        search: SearchRecord,
        lease: Lease,
        controller: Controller,
        decoder: Decoder,
        space: SearchSpace,
        objectives: Sequence[Objective],
        constraints: Sequence[Constraint],
        limits: LimitsConfig,
        observers: Sequence[Observer] = (),
        stopper: Stopper | None = None,
        remarks: Mapping[str, object] | None = None,
    ) -> None:
        self._store, self._search, self._lease = store, search, lease
        self._controller, self._decoder, self._space = controller, decoder, space
        self._limits = limits
        self._stopper = stopper
        self._remarks = dict(remarks or {})
        """What every new trial's note says beside what the controller noted."""
        self._judge = Judge(objectives, constraints, {**space.cost.baseline, **search.baseline})
        self._clock = Clock(limits, store.active_seconds(search.name))
        self._failures = FailureWatch()
        self._objectives = tuple(objectives)
        self._front = LiveFront(objectives)
        self._notify = Notifier(observers)

        self._lock = threading.RLock()
        self._next = 0
        self._last_time = 0.0
        self._written = ""
        """The controller's state in the store, as JSON."""
        self._running: dict[int, Trial] = {}
        self._running_digests: set[str] = set()
        self._queue: deque[Trial] = deque()
        """Recorded RUNNING, to be handed out before anything new: orphans, retries, twins whose twin failed."""
        self._twins: dict[str, list[Trial]] = defaultdict(list)
        """Candidate digest -> trials that wait for the running one with the same candidate."""
        self._ran: set[int] = set()
        """Unfinished trials that were handed out before: the next time is another attempt."""
        self._accidents: Counter[int] = Counter()
        self._stopping = threading.Event()
        self.stop_reason = ""
        """Why nothing new is asked, if ``stop`` was called."""
        self._hard = False
        self._closed = False
        self._aborted: SearchAborted | None = None
        self._broken: Exception | None = None
        """Store and memory may differ from here on: nothing more is asked or told."""

        self._restore()
        store.set_search_state(search.name, SearchState.RUNNING, lease=lease)
        self._keeper = LeaseKeeper(store, lease, self._lost)

    def __enter__(self) -> Session:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
        if error is None:
            self.check()

    def _restore(self) -> None:
        history = History(self._store, self._search.name)
        self._next, self._last_time = len(history), history.last_time
        if not history:
            return
        state = self._store.controller_state(self._search.name)
        self._controller.load_state(self._controller.state() if state is None else state, history)
        self._queue.extend(history.running)
        self._ran.update(trial.number for trial in self._queue)
        for trial in front_members(self._store, self._search.name, self._objectives):
            self._front.add(trial)
        if self._stopper is not None:
            for trial in islice(history, history.finished):
                self._stopper.end(trial)

    # --- what is left to do --------------------------------------------------------------------------------------

    @property
    def done(self) -> bool:
        """Nothing is running and nothing will be handed out."""
        with self._lock:
            if self._broken is not None:
                return False  # the executor's next call raises
            return not self._running and (self._no_more or not (self._queue or self._may_propose))

    @property
    def wants_estimates(self) -> bool:
        """Whether ``report`` decides by what was measured."""
        return self._stopper is not None

    @property
    def front(self) -> tuple[Trial, ...]:
        """The non-dominated trials so far, sorted by the first objective to be minimised."""
        with self._lock:
            return self._front.trials

    @property
    def _no_more(self) -> bool:
        return self._stopping.is_set() or self._clock.out_of_time

    @property
    def _may_propose(self) -> bool:
        return self._next < self._limits.trials and not self._controller.exhausted

    # --- asking --------------------------------------------------------------------------------------------------

    def ask(self) -> Trial | None:
        """A trial to run now, recorded RUNNING; None: nothing now (see ``done``)."""
        with self._lock:
            self._raise_if_broken()
            while not self._no_more:
                trial = self._queue.popleft() if self._queue else self._propose()
                if trial is None:
                    return None
                if not self._answered(trial):
                    return self._hand_out(trial)
            return None

    def _propose(self) -> Trial | None:
        """The controller's next candidate, verified and recorded RUNNING."""
        if not self._may_propose:
            return None
        proposal = self._controller.ask(self._next)
        if proposal is None:
            if not self._running and not self._controller.exhausted:
                self._abort(f"the controller proposes nothing for trial {self._next} although no trial is running")
            return None
        candidate = self._feasible(proposal.candidate)
        if candidate is None:
            return None
        now = self._store.now()
        note = {**proposal.note, **self._remarks}
        trial = Trial(self._next, candidate, TrialState.RUNNING, note=note, started_at=now)
        with self._whole():
            self._store.start_trial(self._lease, trial, self._new_state())
        self._next += 1
        return trial

    def _feasible(self, candidate: Candidate) -> Candidate | None:
        """The candidate, decoded where it breaks a bound on its cost; None when it is none of this space."""
        try:
            self._space.validate(candidate)
        except ConfigError as error:
            self._abort(f"the controller proposes what the space does not have for trial {self._next}: {error}")
            return None
        broken = self._judge.broken(self._space.cost.measure(candidate))
        return candidate if broken is None else self._decoder.decode(candidate)

    def _answered(self, trial: Trial) -> bool:
        """Spare the trial its run: looked up, or waiting for the running trial with the same candidate."""
        digest = trial.candidate.digest
        found = self._store.lookup(self._search.evaluation_digest, digest)
        if found is not None and self._copy(trial, *found):
            return True
        if digest in self._running_digests:
            self._twins[digest].append(trial)
            return True
        return False

    def _hand_out(self, trial: Trial) -> Trial:
        if trial.number in self._ran:
            with self._whole():
                self._store.retry_trial(self._lease, trial.number)
            trial = dataclasses.replace(trial, attempt=trial.attempt + 1)
        self._ran.add(trial.number)
        self._running[trial.number] = trial
        self._running_digests.add(trial.candidate.digest)
        if self._stopper is not None:
            self._stopper.begin(trial.number, self._space.cost.measure(trial.candidate))
        self._notify.trial(trial)
        return trial

    # --- telling -------------------------------------------------------------------------------------------------

    def report(self, number: int, measurement: Measurement) -> bool:
        """An intermediate measurement; False: stop this trial."""
        with self._lock:
            if number not in self._running or self._hard:
                return False
            return self._stopper is None or self._stopper.goes_on(number, measurement, self._front.trials)

    def tell(self, number: int, outcome: Outcome) -> None:
        """How an attempt ended. A second tell of a finished trial changes nothing."""
        with self._lock:
            self._raise_if_broken()
            trial = self._running.get(number)
            if trial is None:
                _log.debug("outcome of trial %d ignored: it is not running", number)
            elif outcome.kind is OutcomeKind.STOPPED and self._hard:
                self._runs_no_more(number)  # not stopped for what it is: the next session runs it again
            elif outcome.kind.is_accident and self._accidents[number] < self._retries(outcome):
                self._accidents[number] += 1
                log_retry(self._search.name, number, outcome)
                self._runs_no_more(number)
                self._queue.append(trial)
            else:
                if outcome.kind is OutcomeKind.STOPPED and self._stopper is not None:
                    outcome = self._stopper.marked(number, outcome)
                self._end(trial, outcome)

    def _retries(self, outcome: Outcome) -> int:
        return min(self._limits.retries, 1) if outcome.kind is OutcomeKind.OUT_OF_MEMORY else self._limits.retries

    def _end(self, trial: Trial, outcome: Outcome) -> None:
        """Finish a trial that ran, and the twins that waited for it."""
        ended = self._finish(trial, outcome)
        error = self._failures.add(ended)
        twins = self._twins.pop(trial.candidate.digest, [])
        if ended.state is TrialState.FAILED:
            self._queue.extend(twins)
        else:
            for twin in twins:
                self._copy(twin, self._search.name, ended)
        if error is not None:
            self._abort(error.message, error.hint)

    def _copy(self, trial: Trial, search: str, source: Trial) -> bool:
        """Finish a trial with another's measurement; False when that lacks a metric that this search needs."""
        kind = OutcomeKind.STOPPED if source.state is TrialState.STOPPED else OutcomeKind.MEASURED
        if self._judge.lacking({**source.metrics, **self._space.cost.measure(trial.candidate)}):
            if source.state is TrialState.COMPLETE:
                return False
            kind = OutcomeKind.INFEASIBLE if source.state is TrialState.INFEASIBLE else kind
        origin = source.duplicate_of or f"{search}/{source.number}"
        outcome = Outcome(kind, source.metrics, source.reason)
        self._finish(dataclasses.replace(trial, duplicate_of=origin), outcome)
        return True

    def _finish(self, trial: Trial, outcome: Outcome) -> Trial:
        """Judge, tell the controller, commit both, then tell the observers."""
        metrics = {**outcome.metrics, **self._space.cost.measure(trial.candidate)}
        ended = self._judge.finished(trial, dataclasses.replace(outcome, metrics=metrics))
        # Times must order the history even when the clock steps back.
        self._last_time = max(self._store.now(), self._last_time + 1e-6)
        ended = dataclasses.replace(ended, finished_at=self._last_time)
        with self._whole():
            self._controller.tell(ended)
            self._store.finish_trial(self._lease, ended, self._new_state())
        self._runs_no_more(trial.number)
        self._ran.discard(trial.number)
        self._accidents.pop(trial.number, None)
        if self._stopper is not None:
            self._stopper.end(ended)
        self._notify.trial(ended)
        if self._front.add(ended):
            self._notify.front(self._front.trials)
        return ended

    def _new_state(self) -> Mapping[str, object] | None:
        """The controller's state to be written; None where the store has it already."""
        state = self._controller.state()
        text = json.dumps(state)
        if text == self._written:
            return None
        self._written = text
        return state

    def _runs_no_more(self, number: int) -> None:
        trial = self._running.pop(number, None)
        if trial is not None:
            self._running_digests.discard(trial.candidate.digest)

    # --- ending --------------------------------------------------------------------------------------------------

    def stop(self, reason: str, *, hard: bool = False) -> None:
        """Ask nothing new; ``hard``: running trials are told to stop at their next report, and left for a resume.

        A store that does not answer is waited for no longer than some seconds from now. Safe in a signal handler.
        """
        self._store.hurry(_LEAVING_SECONDS)
        if not self._stopping.is_set():
            self.stop_reason = reason
        self._hard = self._hard or hard
        self._stopping.set()

    def close(self) -> None:
        """Leave running trials for a resume, set the search's state, release the lease. Never raises; see ``check``."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
            self._stopping.set()
            state = self._final_state()
            self._running.clear()
        self._keeper.stop()
        log_end(self._search.name, state, self._broken or self._aborted or self.stop_reason)
        if isinstance(self._broken, Conflict):
            return
        try:
            try:
                self._store.set_search_state(self._search.name, state, lease=self._lease)
            finally:
                self._store.release(self._lease)
        except (Conflict, StoreError) as error:
            _log.warning("search %s was not closed in good order: %s", self._search.name, error)
            self._broken = self._broken or error

    def check(self) -> None:
        """Raise what ended the search: SearchAborted, or the StoreError or Conflict that broke it."""
        self._raise_if_broken()
        if self._aborted is not None:
            raise self._aborted

    def _final_state(self) -> SearchState:
        if self._aborted is not None:
            return SearchState.ABORTED
        pending = self._running or self._queue or any(self._twins.values())
        if self._broken is None and not pending and (self._clock.out_of_time or not self._may_propose):
            return SearchState.COMPLETE
        return SearchState.INTERRUPTED

    def _abort(self, message: str, hint: str = "") -> None:
        self._aborted = SearchAborted(message, hint or "This is a defect of the controller: choose another.")
        self.stop(message)

    def _lost(self, error: Conflict) -> None:
        """From the lease keeper's thread."""
        self._broken = self._broken or error

    def _raise_if_broken(self) -> None:
        if self._broken is not None:
            raise self._broken

    @contextmanager
    def _whole(self) -> Iterator[None]:
        """All or nothing: an error inside leaves memory ahead of the store, so that the session cannot go on."""
        try:
            yield
        except Exception as error:
            self._broken = error
            raise
