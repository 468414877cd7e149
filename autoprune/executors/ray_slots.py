"""The driver's side: a Searcher that asks a session for trials and a scheduler that passes them to workers.

A Tune trial is a *slot*: a long-lived worker. The searcher opens one while the session has trials to run and room is
left; the scheduler answers each result with the next trial, so that a trial costs two calls of an actor.
"""

from __future__ import annotations

import contextlib
import logging
import math
import os
import signal
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import ray
from ray.exceptions import OutOfMemoryError, RayActorError, RayTaskError
from ray.tune.experiment import Trial as TuneTrial
from ray.tune.progress_reporter import TrialProgressCallback
from ray.tune.schedulers import FIFOScheduler
from ray.tune.search import Searcher

from autoprune.errors import SearchAborted
from autoprune.executors.memory import OUT_OF_MEMORY, explained, is_memory_error
from autoprune.executors.ray_watchdog import last_words, overdue
from autoprune.executors.ray_worker import REPORT, Report, ReportKind, describe
from autoprune.executors.turnaround import Turnaround
from autoprune.logs import emit
from autoprune.protocols import AskTell
from autoprune.types import Outcome, OutcomeKind, Trial

__all__ = ["STOP_SECONDS", "NoOutput", "SlotScheduler", "SlotSearcher"]

_log = logging.getLogger(__name__)

STOP_SECONDS = 8.0
"""How long running trials may go on after Ctrl-C or SIGTERM: the driver is to be gone in ten, as preemption asks."""
_GRACE_SECONDS = 0.4
"""A worker ends itself at its limit; so much later the driver kills it."""
_MAX_TICK_SECONDS = 0.5
"""While the driver is busy (a slow proposal), results wait unread: that time counts against no trial."""
_MAX_FAILED_STARTS = 2
_MAX_DIED_STARTS = 5
"""In a row: what an evaluator raises will be raised again, but a process may have been killed with its node."""
_DIED = "worker process died (killed or out of memory)"
ROOMLESS_SECONDS = 600.0
"""How long a search waits for nodes when all have left."""


@dataclass
class _Slot:
    """One worker as the driver sees it."""

    tune_trial: TuneTrial | None = None
    ready: bool = False
    worker: str = ""
    trial: Trial | None = None
    """What it runs now."""
    since: float = 0.0
    """Driver clock when the trial was handed over."""
    killed_at: float = math.inf
    turnaround: Turnaround = field(default_factory=Turnaround)


@dataclass
class _Clock:
    """Seconds of the driver's loop, without the stretches in which it was busy."""

    now: float = 0.0
    _last: float = field(default_factory=time.monotonic)

    def tick(self) -> None:
        current = time.monotonic()
        self.now += min(current - self._last, _MAX_TICK_SECONDS)
        self._last = current


class SlotScheduler(FIFOScheduler):
    """Tells the session what came in, and gives the worker the next trial."""

    def __init__(self, session: AskTell, trial_seconds: float, trial_memory: float = math.inf) -> None:
        super().__init__()
        self._session = session
        self._trial_seconds = trial_seconds
        self._trial_memory = trial_memory
        self._slots: dict[str, _Slot] = {}
        self._backlog: deque[Trial] = deque()
        """Asked in order to open a slot; whichever worker is free first runs it."""
        self._clock = _Clock()
        self._release_at = math.inf
        self._stop_reason = ""
        self._failed_starts = 0
        self._most = math.inf
        """Slots that can be started, where some nodes turned out to start none."""
        self._roomless_since = math.inf
        self.room: Callable[[], float] = lambda: math.inf
        """How many slots the cluster holds now."""
        self.error: Exception | None = None
        """What the session raised; the run ends and raises it."""

    def __getstate__(self) -> dict[str, Any]:
        """Tune writes its tuner to disk for a restore that never happens; the session is not to be pickled for it."""
        return {}

    # --- called by the searcher ------------------------------------------------------------------------------------

    @property
    def over(self) -> bool:
        """No further trial will be started."""
        return self._release_at < math.inf or self._session.done

    def open_slot(self, slot_id: str) -> bool:
        """Make room for a slot if the session has a trial that no other slot will take."""
        try:
            self._wait_for_room()
            if len(self._slots) >= min(self.room(), self._most):
                return False
            starting = sum(not slot.ready for slot in self._slots.values())
            if len(self._backlog) <= starting:
                trial = None if any(slot.ready and slot.trial is None for slot in self._slots.values()) else self._ask()
                if trial is None:
                    return False
                self._backlog.append(trial)
        except Exception as error:  # noqa: BLE001 (kept; the executor raises it once the workers are gone)
            self._fail(error)
            return False
        self._slots[slot_id] = _Slot()
        return True

    def close_slot(self, slot_id: str) -> None:
        self._slots.pop(slot_id, None)

    # --- stopping --------------------------------------------------------------------------------------------------

    def stop(self, reason: str, seconds: float = STOP_SECONDS) -> None:
        """Start nothing new; release what still runs in ``seconds`` (the session keeps it RUNNING).

        Safe in a signal handler. The session is told at once, since it may be waiting for its store just now.
        """
        if not self._stop_reason:
            self._stop_reason = reason
            self._session.stop(reason)
        self._release_at = min(self._release_at, time.monotonic() + seconds)

    def _fail(self, error: Exception) -> None:
        self.error = self.error or error
        self.stop(describe(error), 0.0)

    # --- called by Tune --------------------------------------------------------------------------------------------

    def on_trial_add(self, tune_controller: Any, trial: TuneTrial) -> None:
        self._slots[trial.trial_id].tune_trial = trial

    def on_trial_result(self, tune_controller: Any, trial: TuneTrial, result: dict[str, Any]) -> str:
        slot = self._slots[trial.trial_id]
        _forget_results(tune_controller)
        try:
            if self.error is None and self._take(slot, result[REPORT]):
                return str(self.CONTINUE)
            if self._hand_over(slot):
                return str(self.CONTINUE)
            return str(self.STOP if self.over else self.NOOP)
        except Exception as error:  # noqa: BLE001 (kept; the executor raises it once the workers are gone)
            self._fail(error)
            return str(self.STOP)

    def on_trial_error(self, tune_controller: Any, trial: TuneTrial) -> None:
        """The worker is gone, and what it ran with it."""
        slot = self._slots.pop(trial.trial_id, _Slot())
        released = self._release_at <= time.monotonic()
        try:
            reason = self._reason(slot, _error_of(trial)) or last_words(trial.trial_id) or _DIED
            number, text = slot.trial.number if slot.trial else None, "a worker is gone: %s"
            emit(_log, logging.INFO, "worker.lost", text, reason, trial=number, worker=slot.worker, reason=reason)
            if not slot.ready:
                self._start_failed(reason, _MAX_DIED_STARTS if reason == _DIED else _MAX_FAILED_STARTS)
            elif slot.trial is not None and not released:
                kind = OutcomeKind.OUT_OF_MEMORY if reason.startswith(OUT_OF_MEMORY) else OutcomeKind.ACCIDENT
                self._session.tell(slot.trial.number, Outcome(kind, reason=reason, worker=slot.worker))
        except Exception as error:  # noqa: BLE001 (kept; the executor raises it once the workers are gone)
            self._fail(error)

    def choose_trial_to_run(self, tune_controller: Any) -> None:
        """Called in every turn of Tune's loop, ten times a second at least. Tune starts slots in their order."""
        self._clock.tick()
        try:
            self._kill_overdue()
            self._wake(tune_controller)
            self._wait_for_room()
        except Exception as error:  # noqa: BLE001 (kept; the executor raises it once the workers are gone)
            self._fail(error)

    # --- trials ----------------------------------------------------------------------------------------------------

    def _ask(self) -> Trial | None:
        return None if self._release_at < math.inf else self._session.ask()

    def _take(self, slot: _Slot, report: Report) -> bool:
        """Tell the session what a worker reported; True when its trial goes on."""
        slot.worker = report.worker
        if report.kind is ReportKind.READY:
            slot.ready = True
            slot.turnaround.free()
            self._failed_starts = 0
        if slot.trial is None:
            return False
        outcome = self._outcome(slot, slot.trial.number, report)
        if outcome is None:
            return True
        number, slot.trial = slot.trial.number, None
        self._session.tell(number, outcome)
        slot.turnaround.told()
        return False

    def _outcome(self, slot: _Slot, number: int, report: Report) -> Outcome | None:
        measurement = report.measurement
        if measurement is None:
            slot.turnaround.heard(report.busy_seconds)
            return Outcome(OutcomeKind.ACCIDENT, reason=report.reason, worker=report.worker)
        if not measurement.final and self._session.report(number, measurement):
            return None
        timings = {**measurement.timings, **slot.turnaround.heard(report.busy_seconds)}
        if measurement.final:
            return Outcome(OutcomeKind.MEASURED, measurement.metrics, timings=timings, worker=report.worker)
        return Outcome(OutcomeKind.STOPPED, measurement.metrics, "stopped early", timings, report.worker)

    def _hand_over(self, slot: _Slot) -> bool:
        """Give a free worker the next trial, if there is one. Calls of one actor run in the order they are made."""
        actor = slot.tune_trial.temporary_state.ray_actor if slot.tune_trial else None
        if actor is None or self._release_at < math.inf:
            return False
        trial = self._backlog.popleft() if self._backlog else self._session.ask()
        if trial is None:
            return False
        slot.trial, slot.since = trial, self._clock.now
        slot.turnaround.handed()
        order = {"number": trial.number, "widths": dict(trial.candidate.widths), "attempt": trial.attempt}
        actor.reset_config.remote(order)
        return True

    def _wake(self, tune_controller: Any) -> None:
        """Trials for workers that found none last time; their end when none will come."""
        idle = [slot for slot in self._slots.values() if slot.trial is None and slot.tune_trial is not None]
        over = self.over
        for slot in idle:
            if over:
                tune_controller.stop_trial(slot.tune_trial)
            elif slot.ready:
                if not self._hand_over(slot):
                    break
                # Tune has no public call for a trial that was answered NOOP; this is the one that CONTINUE makes.
                tune_controller._schedule_trial_train(slot.tune_trial)
        if self._slots and all(slot.ready and slot.trial is None for slot in self._slots.values()):
            time.sleep(0.05)  # nothing that Tune could wait for

    def _wait_for_room(self) -> None:
        """Nodes may all have left: others may join, or the same again."""
        if self.over or any(slot.ready for slot in self._slots.values()) or self.room() >= 1:
            self._roomless_since = math.inf
            return
        now = time.monotonic()
        self._roomless_since = min(self._roomless_since, now)
        if now - self._roomless_since > ROOMLESS_SECONDS:
            raise SearchAborted(
                f"no node of the Ray cluster has held a trial for {ROOMLESS_SECONDS:g} seconds.",
                hint="Start nodes ('ray status' shows them), then run the same command: it goes on.",
            )

    # --- accidents -------------------------------------------------------------------------------------------------

    def _kill_overdue(self) -> None:
        release = time.monotonic() >= self._release_at
        for slot in self._slots.values():
            limit = min(slot.since + self._trial_seconds + _GRACE_SECONDS, slot.killed_at + _GRACE_SECONDS)
            if slot.trial is not None and (release or self._clock.now > limit):
                slot.killed_at = self._clock.now
                _kill(slot)

    def _reason(self, slot: _Slot, error: BaseException | None) -> str:
        if isinstance(error, RayTaskError):
            cause = describe(error.cause)
            return explained(cause, self._trial_memory) if is_memory_error(error.cause) else cause
        if isinstance(error, RayActorError) and error._actor_init_failed:
            return str(error).strip().splitlines()[-1]
        if slot.trial is not None and self._clock.now - slot.since >= self._trial_seconds - 2 * _MAX_TICK_SECONDS:
            return overdue(self._trial_seconds)
        if isinstance(error, OutOfMemoryError) or "running low on memory" in str(error):
            return f"{OUT_OF_MEMORY}: the worker was killed by Ray, as its node had no more"
        return ""

    def _start_failed(self, reason: str, most: int) -> None:
        self._failed_starts += 1
        if self._failed_starts < most:
            return
        working = sum(slot.ready for slot in self._slots.values())
        if working:  # a node that joined late may lack what the others have
            self._most = working
        else:
            raise SearchAborted(
                f"no worker could be started, {self._failed_starts} times in a row: {reason}",
                hint="Try executor: {kind: serial}, which shows the error in this process.",
            )


class SlotSearcher(Searcher):
    """What Tune asks for work: opens slots while the session has trials."""

    def __init__(self, scheduler: SlotScheduler) -> None:
        super().__init__(metric=REPORT, mode="max")
        self._scheduler = scheduler

    def suggest(self, trial_id: str) -> Any:
        if self._scheduler.over:
            return self.FINISHED
        return {} if self._scheduler.open_slot(trial_id) else None

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        self._scheduler.close_slot(trial_id)

    def save(self, checkpoint_path: str) -> None:
        """Nothing to save: the session's store is the only record."""

    def restore(self, checkpoint_path: str) -> None:
        """Never called."""


class NoOutput(TrialProgressCallback):
    """Stands where Tune would put its own reporter, which prints trials even at verbose=0."""

    def _print(self, msg: str) -> None:
        """Nothing."""

    def log_result(self, trial: TuneTrial, result: dict[str, Any], error: bool = False) -> None:
        """Nothing, in a notebook either."""


def _forget_results(tune_controller: Any) -> None:
    """Let go of what workers returned: Tune keeps a reference to every result, 3 kB each, until the worker ends."""
    with contextlib.suppress(AttributeError):  # private names; without them memory grows, and that is all
        manager = tune_controller._actor_manager
        awaited = manager._actor_task_events.get_futures()
        for futures in manager._tracked_actors_to_task_futures.values():
            futures.intersection_update(awaited)


def _error_of(trial: TuneTrial) -> BaseException | None:
    """What ended a Tune trial. Tune keeps it in a file of its own; its accessor looks where that is copied later."""
    if trial.pickled_error_file is None:
        return None
    with open(trial.pickled_error_file, "rb") as file:
        error = ray.cloudpickle.load(file)
    return error if isinstance(error, BaseException) else None


def _kill(slot: _Slot) -> None:
    if slot.tune_trial is not None and slot.tune_trial.temporary_state.ray_actor is not None:
        ray.kill(slot.tune_trial.temporary_state.ray_actor, no_restart=True)
    node, _, pid = slot.worker.rpartition(":")
    if node.partition("/")[0] == ray.util.get_node_ip_address():
        # Ray asks the process to leave, which one that is stopped or swapped out does not hear.
        with contextlib.suppress(ProcessLookupError):
            os.kill(int(pid), signal.SIGKILL)
