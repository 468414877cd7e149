"""Trials and their metrics: what a driver writes under its lease, and what anyone may read of them."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
from sqlalchemy import Connection, bindparam, delete, select, update

from autoprune.errors import NotFound
from autoprune.store import leases, packs, queries
from autoprune.store.columns import MetricColumns, complete_columns, measured, within
from autoprune.store.database import Database
from autoprune.store.leases import Lease
from autoprune.store.rows import metric_rows, trial_row
from autoprune.store.tables import metrics, searches, trials
from autoprune.types import Constraint, Trial, TrialState, WorkerTotals

__all__ = ["Trials"]

_this_trial = (trials.c.search_id == bindparam("of_search"), trials.c.number == bindparam("of_number"))
_running = (*_this_trial, trials.c.state == TrialState.RUNNING.value)
_FINISHED = ("state", "reason", "timings", "worker", "duplicate_of", "finished_at")
_finish = update(trials).where(*_running).values({name: bindparam(name) for name in _FINISHED})
_retry = update(trials).where(*_running).values(attempt=trials.c.attempt + 1, started_at=bindparam("now"))
_insert_trial = trials.insert()
_insert_metrics = metrics.insert()


class _NotRunning(Exception):
    """Undoes the transaction."""


class Trials(Database):
    """The trials of searches."""

    # --- writing -------------------------------------------------------------------------------------------------

    def start_trial(self, lease: Lease, trial: Trial, controller_state: Mapping[str, Any] | None = None) -> None:
        """Record a RUNNING trial, and with it the controller's state after proposing it, if given."""
        state = None if controller_state is None else json.dumps(controller_state)
        row, now = trial_row(lease.search_id, trial), self.now()

        def work(connection: Connection) -> bool:
            leases.fence(connection, lease, now, state)
            connection.execute(_insert_trial, row)
            return True

        self.write(work, again=lambda connection: _is_written(connection, lease, now, row, list(row)))

    def finish_trial(self, lease: Lease, trial: Trial, controller_state: Mapping[str, Any] | None = None) -> bool:
        """Record how a RUNNING trial ended, its metrics and the controller's state, if given, all or nothing.

        False, and nothing is written, when the trial is not RUNNING (it was finished before).
        """
        state = None if controller_state is None else json.dumps(controller_state)
        row, now = trial_row(lease.search_id, trial), self.now()
        values = {name: row[name] for name in _FINISHED}
        values.update(of_search=lease.search_id, of_number=trial.number)
        rows = metric_rows(lease.search_id, trial.number, trial.metrics)

        def work(connection: Connection) -> bool:
            leases.fence(connection, lease, now, state)
            if connection.execute(_finish, values).rowcount != 1:
                raise _NotRunning
            if rows:
                connection.execute(_insert_metrics, rows)
            if packs.is_time(trial.number):
                packs.pack_next(connection, lease.search_id)
            return True

        try:
            return self.write(work, again=lambda connection: _is_written(connection, lease, now, row, _FINISHED))
        except _NotRunning:
            return False

    def retry_trial(self, lease: Lease, number: int) -> bool:
        """Begin a RUNNING trial's next attempt; False when it is not RUNNING."""
        now = self.now()
        values = {"of_search": lease.search_id, "of_number": number, "now": now}

        def work(connection: Connection) -> bool:
            leases.fence(connection, lease, now)
            return connection.execute(_retry, values).rowcount == 1

        begun = {"search_id": lease.search_id, "number": number, "started_at": now, "state": TrialState.RUNNING.value}
        return self.write(work, again=lambda connection: _is_written(connection, lease, now, begun, list(begun)))

    def add_metrics(self, name: str, number: int, values: Mapping[str, float]) -> None:
        """Add metrics to a finished trial (after retraining, on a device); equal names are replaced."""
        now = self.now()

        def work(connection: Connection) -> None:
            search_id = queries.search_row(connection, name, lock=True).id
            trial = _one(queries.trials_of(connection, search_id, numbers=[number]), name, number)
            this = (metrics.c.search_id == search_id, metrics.c.number == number)
            connection.execute(delete(metrics).where(*this, metrics.c.name.in_(list(values))))
            if values:
                connection.execute(_insert_metrics, metric_rows(search_id, number, values, added=True))
            if trial.state is TrialState.COMPLETE:
                packs.amend(connection, search_id, number, values)
            connection.execute(update(searches).where(searches.c.id == search_id).values(updated_at=now))

        self.write(work)

    # --- reading -------------------------------------------------------------------------------------------------

    def trials(
        self,
        name: str,
        *,
        states: Collection[TrialState] | None = None,
        numbers: Collection[int] | None = None,
        limit: int | None = None,
    ) -> list[Trial]:
        """The trials of a search by number: all, those in ``states``, those among ``numbers``, or the first ones."""

        def work(connection: Connection) -> list[Trial]:
            search_id = queries.search_row(connection, name).id
            return queries.trials_of(connection, search_id, states=states, numbers=numbers, limit=limit)[:limit]

        return self.read(work)

    def trial(self, name: str, number: int) -> Trial:
        """One trial. Raises NotFound."""
        return _one(self.trials(name, numbers=[number]), name, number)

    def lookup(self, evaluation_digest: str, candidate_digest: str) -> tuple[str, Trial] | None:
        """The search and trial that measured an equal candidate under an equal evaluation, or None."""
        return self.read(lambda connection: queries.lookup(connection, evaluation_digest, candidate_digest))

    def columns(
        self,
        name: str,
        names: Sequence[str],
        constraints: Sequence[Constraint] = (),
        baseline: Mapping[str, float] | None = None,
    ) -> tuple[np.ndarray, np.ndarray]:
        """Metrics of the COMPLETE trials within the constraints: numbers (N,) int64, values (N, names) float64.

        Trials that lack one of ``names``, or have it as NaN, are left out.
        """
        found = self.metric_columns(name, [*names, *(each.metric for each in constraints)])
        return within(found, names, constraints, baseline or {})

    def metric_columns(
        self, name: str, names: Collection[str], *, earlier: MetricColumns | None = None
    ) -> MetricColumns:
        """The metrics ``names`` of all COMPLETE trials, as arrays by number; NaN where a trial has none.

        ``earlier`` is what this store gave for the search before: less is read then, and the same is found.
        """
        packed = self.has("packs")

        def work(connection: Connection) -> MetricColumns:
            row = queries.search_row(connection, name)
            search = (row.id, row.created_at)
            return complete_columns(connection, search, names, has_packs=packed, earlier=earlier)

        return self.read(work)

    def measured(self, name: str) -> set[str]:
        """Names of the metrics that a COMPLETE trial of the search has."""
        packed = self.has("packs")

        def work(connection: Connection) -> set[str]:
            return measured(connection, queries.search_row(connection, name).id, has_packs=packed)

        return self.read(work)

    def noted(self, name: str, key: str, value: str) -> list[int]:
        """Numbers of the trials whose note says ``key: value``, ascending. Reads all rows: a second per million."""
        return self.read(lambda on: queries.noted(on, queries.search_row(on, name).id, key, value))

    def reused(self, name: str) -> int:
        """How many trials were looked up instead of measured again. Reads all rows."""
        return self.read(lambda on: queries.reused(on, queries.search_row(on, name).id))

    def mean_metric(self, name: str, state: TrialState, metric: str) -> float | None:
        """Mean of a metric over the trials of one state that have it as a number; None without any."""
        return self.read(lambda on: queries.mean_metric(on, queries.search_row(on, name).id, state, metric))

    def worker_totals(self, name: str) -> list[WorkerTotals]:
        """Trials that were measured, by worker and state. Reads all rows: a second per million."""
        return self.read(lambda on: queries.worker_totals(on, queries.search_row(on, name).id))


def _one(found: list[Trial], name: str, number: int) -> Trial:
    if not found:
        raise NotFound(f"search {name!r} has no trial {number}.", f"'autoprune trials {name}' lists them.")
    return found[0]


def _is_written(
    connection: Connection, lease: Lease, now: float, row: Mapping[str, Any], columns: Sequence[str]
) -> bool | None:
    """Whether a trial already has what was to be written; None when it has not.

    The lease is asked for first: that waits for the end of a transaction whose connection was lost, if it still runs.
    """
    leases.fence(connection, lease, now)
    query = select(*(trials.c[name] for name in columns)).where(*_this_trial)
    found = connection.execute(query, {"of_search": row["search_id"], "of_number": row["number"]}).one_or_none()
    return True if found is not None and tuple(found) == tuple(row[name] for name in columns) else None
