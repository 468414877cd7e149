"""What a driver writes into the log about its search."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence

from autoprune.logs import emit
from autoprune.types import Outcome, SearchRecord, SearchState, Trial, TrialState

__all__ = ["LoggedTrials", "log_begin", "log_end", "log_retry"]

_log = logging.getLogger(__name__)


class LoggedTrials:
    """An observer that writes what becomes of trials."""

    def __init__(self, search: str) -> None:
        self._search = search

    def on_trial(self, trial: Trial) -> None:
        if trial.state is TrialState.RUNNING:
            self._say(logging.INFO, "trial.started", "trial %d began", trial)
        elif trial.state is TrialState.FAILED:
            self._say(logging.WARNING, "trial.failed", "trial %d failed: %s", trial, trial.reason)
        elif trial.duplicate_of:
            self._say(logging.INFO, "trial.reused", "trial %d has the result of %s", trial, trial.duplicate_of)
        else:
            self._say(logging.INFO, "trial.finished", "trial %d is %s", trial, trial.state.value)

    def _say(self, level: int, event: str, text: str, trial: Trial, *args: object) -> None:
        if not _log.isEnabledFor(level):
            return
        more: dict[str, object] = {"attempt": trial.attempt, "state": trial.state.value}
        if trial.finished_at is not None:
            more["seconds"] = round(max(0.0, trial.finished_at - trial.started_at), 3)
        more.update({key: text for key, text in (("reason", trial.reason), ("origin", trial.duplicate_of)) if text})
        number = trial.number
        emit(_log, level, event, text, number, *args, search=self._search, trial=number, worker=trial.worker, **more)

    def on_front(self, front: Sequence[Trial]) -> None: ...

    def on_baseline(self, metrics: Mapping[str, float]) -> None: ...


def log_begin(record: SearchRecord, done: int, limit: int) -> None:
    """A driver begins; ``done``: trials that are finished, ``limit``: how many there shall be."""
    name, more = record.name, {"search": record.name, "trials": done, "limit": limit}
    if record.trial_counts:
        emit(_log, logging.INFO, "search.resumed", "search %s goes on behind %d trials", name, done, **more)
    else:
        emit(_log, logging.INFO, "search.started", "search %s begins", name, **more)


def log_end(search: str, state: SearchState, why: object) -> None:
    """A driver leaves; ``why`` it was stopped or broke, where it was."""
    reason = {"reason": str(why)} if why else {}
    emit(
        _log,
        logging.INFO,
        "search.ended",
        "search %s is %s",
        search,
        state.value,
        search=search,
        state=state.value,
        **reason,
    )


def log_retry(search: str, number: int, outcome: Outcome) -> None:
    """An accident that a trial outlives."""
    emit(
        _log,
        logging.WARNING,
        "trial.retried",
        "trial %d is run again: %s",
        number,
        outcome.reason,
        search=search,
        trial=number,
        worker=outcome.worker,
        reason=outcome.reason,
    )
