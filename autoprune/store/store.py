"""The store: what a driver writes under its lease, and what anyone may read."""

from __future__ import annotations

import json
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import TracebackType
from typing import Any

import numpy as np
from sqlalchemy import Connection, Engine, bindparam, delete, update
from sqlalchemy.exc import IntegrityError

from autoprune.errors import Conflict, NotFound, StoreError
from autoprune.store import audits, leases, packs, queries, retraining_claims, retrainings
from autoprune.store.columns import MetricColumns, complete_columns, measured, within
from autoprune.store.faults import told_to_people
from autoprune.store.leases import Lease
from autoprune.store.retrainings import Retraining
from autoprune.store.rows import metric_rows, trial_row
from autoprune.store.tables import metrics, searches, trials
from autoprune.types import Constraint, SearchRecord, SearchState, Trial, TrialState

__all__ = ["Store"]

_this_trial = (
    trials.c.search_id == bindparam("of_search"),
    trials.c.number == bindparam("of_number"),
    trials.c.state == TrialState.RUNNING.value,
)
_FINISHED = ("state", "reason", "timings", "worker", "duplicate_of", "finished_at")
_finish = update(trials).where(*_this_trial).values({name: bindparam(name) for name in _FINISHED})
_retry = update(trials).where(*_this_trial).values(attempt=trials.c.attempt + 1, started_at=bindparam("now"))
_insert_trial = trials.insert()
_insert_metrics = metrics.insert()


class Store:
    """Searches and their trials in one database. Safe to use from several threads.

    Every method raises StoreError when the database cannot be read or written, and NotFound for unknown searches.
    Methods that take a lease raise Conflict when another driver has taken the search since.
    """

    def __init__(self, engine: Engine, where: str, *, read_only: bool = False, has_packs: bool = True) -> None:
        self._engine = engine
        self._writer = engine.execution_options(write=True)
        self._where = where
        self.read_only = read_only
        self._has_packs = has_packs

    def __enter__(self) -> Store:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        self._engine.dispose()

    def now(self) -> float:
        """The store's clock, seconds since the epoch, UTC. SQLite has none of its own: it is this machine's."""
        return time.time()

    @contextmanager
    def _reading(self) -> Iterator[Connection]:
        with told_to_people(self._where), self._engine.connect() as connection, connection.begin():
            yield connection

    @contextmanager
    def _writing(self) -> Iterator[Connection]:
        if self.read_only:
            raise StoreError(f"store {self._where!r} is open for reading only.", "Open it without read_only.")
        with told_to_people(self._where), self._writer.connect() as connection, connection.begin():
            yield connection

    # --- searches ------------------------------------------------------------------------------------------------

    def create_search(
        self,
        name: str,
        *,
        config: Mapping[str, Any],
        digest: str,
        evaluation_digest: str,
        baseline: Mapping[str, float],
        channels: Mapping[str, int] | None = None,
    ) -> SearchRecord:
        """Record a new search, or find the one of that name and digest. Conflict when the digest is another."""
        now = self.now()
        values = {
            "name": name,
            "digest": digest,
            "evaluation_digest": evaluation_digest,
            "config": json.dumps(config),
            "baseline": json.dumps(dict(baseline)),
            "channels": json.dumps(dict(channels or {})),
            "state": SearchState.INTERRUPTED.value,
            "created_at": now,
            "updated_at": now,
        }
        try:
            with self._writing() as connection:
                connection.execute(searches.insert(), values)
        except StoreError as error:
            if not isinstance(error.__cause__, IntegrityError):
                raise
        found = self.search(name)
        if found.digest != digest:
            raise Conflict(
                f"search {name!r} exists with another configuration (digest {found.digest}, yours is {digest}).",
                "Give yours another name, or use the configuration that the search began with.",
            )
        return found

    def search(self, name: str) -> SearchRecord:
        with self._reading() as connection:
            return queries.search_record(connection, name)

    def searches(self) -> list[SearchRecord]:
        """All searches, the youngest first."""
        with self._reading() as connection:
            return queries.search_records(connection)

    def set_search_state(self, name: str, state: SearchState, *, lease: Lease | None = None) -> None:
        """Write the state; with a lease, only while that holds."""
        self._set(name, lease, state=state.value)

    def set_config(self, lease: Lease, config: Mapping[str, Any]) -> None:
        """Replace the stored configuration by one of the same digest (other limits or executor)."""
        self._set(lease.search, lease, config=json.dumps(config))

    def _set(self, name: str, lease: Lease | None, **values: object) -> None:
        now = self.now()
        with self._writing() as connection:
            search_id = queries.search_row(connection, name).id
            if lease is not None:
                leases.fence(connection, lease, now)
            connection.execute(update(searches).where(searches.c.id == search_id).values(updated_at=now, **values))

    def add_baseline_metrics(self, name: str, values: Mapping[str, float]) -> None:
        """Add metrics of the unpruned model (test split, device); equal names are replaced."""
        with self._writing() as connection:
            row = queries.search_row(connection, name)
            baseline = json.dumps({**json.loads(row.baseline), **values})
            changed = {"baseline": baseline, "updated_at": self.now()}
            connection.execute(update(searches).where(searches.c.id == row.id).values(**changed))

    def baseline(self, name: str) -> dict[str, float]:
        """Metrics of the unpruned model, without counting trials as ``search`` does."""
        with self._reading() as connection:
            return dict(json.loads(queries.search_row(connection, name).baseline))

    def config(self, name: str) -> dict[str, Any]:
        """The resolved configuration, without counting trials as ``search`` does."""
        with self._reading() as connection:
            return dict(json.loads(queries.search_row(connection, name).config))

    def controller_state(self, name: str) -> dict[str, Any] | None:
        """What the controller was when the last trial was written; None before the first."""
        with self._reading() as connection:
            text = queries.search_row(connection, name).controller_state
        return None if text is None else json.loads(text)

    def active_seconds(self, name: str) -> float:
        """How long drivers have worked on the search, up to the last renewal of a lease."""
        with self._reading() as connection:
            return float(queries.search_row(connection, name).active_seconds)

    # --- leases --------------------------------------------------------------------------------------------------

    def claim(self, name: str, *, owner: str, ttl_seconds: float) -> Lease:
        """Become the driver of a search; ``owner`` from ``new_owner()``. Conflict when another driver lives.

        Packs that are due are written first of all, which takes 50 ms per 4,096 trials of a store of version 1.
        """
        with self._writing() as connection:
            row = queries.search_row(connection, name)
            lease = leases.claim(connection, row, owner, ttl_seconds, self.now())
        try:
            self._pack(lease)
        except BaseException:
            leases.give_up(owner)
            raise
        return lease

    def _pack(self, lease: Lease) -> None:
        """Write all packs that are due, a transaction each."""
        more = True
        while more:
            with self._writing() as connection:
                leases.renew(connection, lease, self.now())
                more = packs.pack_next(connection, lease.search_id)

    def renew(self, lease: Lease) -> None:
        with self._writing() as connection:
            leases.renew(connection, lease, self.now())

    def release(self, lease: Lease) -> None:
        """Give the lease back. When that cannot be written, it still is free for this process."""
        leases.give_up(lease.owner)
        with self._writing() as connection:
            leases.release(connection, lease, self.now())

    # --- trials: writing -----------------------------------------------------------------------------------------

    def start_trial(self, lease: Lease, trial: Trial, controller_state: Mapping[str, Any] | None = None) -> None:
        """Record a RUNNING trial, and with it the controller's state after proposing it, if given."""
        state = None if controller_state is None else json.dumps(controller_state)
        with self._writing() as connection:
            leases.fence(connection, lease, self.now(), state)
            connection.execute(_insert_trial, trial_row(lease.search_id, trial))

    def finish_trial(self, lease: Lease, trial: Trial, controller_state: Mapping[str, Any] | None = None) -> bool:
        """Record how a RUNNING trial ended, its metrics and the controller's state, if given, all or nothing.

        False, and nothing is written, when the trial is not RUNNING (it was finished before).
        """
        row = trial_row(lease.search_id, trial)
        values = {name: row[name] for name in _FINISHED}
        values.update(of_search=lease.search_id, of_number=trial.number)
        rows = metric_rows(lease.search_id, trial.number, trial.metrics)
        state = None if controller_state is None else json.dumps(controller_state)
        with self._writing() as connection:
            leases.fence(connection, lease, self.now(), state)
            if connection.execute(_finish, values).rowcount != 1:
                connection.rollback()
                return False
            if rows:
                connection.execute(_insert_metrics, rows)
            if packs.is_time(trial.number):
                packs.pack_next(connection, lease.search_id)
        return True

    def retry_trial(self, lease: Lease, number: int) -> bool:
        """Begin a RUNNING trial's next attempt; False when it is not RUNNING."""
        now = self.now()
        with self._writing() as connection:
            leases.fence(connection, lease, now)
            values = {"of_search": lease.search_id, "of_number": number, "now": now}
            return connection.execute(_retry, values).rowcount == 1

    def add_metrics(self, name: str, number: int, values: Mapping[str, float]) -> None:
        """Add metrics to a finished trial (after retraining, on a device); equal names are replaced."""
        with self._writing() as connection:
            search_id = queries.search_row(connection, name).id
            trial = _one(queries.trials_of(connection, search_id, numbers=[number]), name, number)
            this = (metrics.c.search_id == search_id, metrics.c.number == number)
            connection.execute(delete(metrics).where(*this, metrics.c.name.in_(list(values))))
            if values:
                connection.execute(_insert_metrics, metric_rows(search_id, number, values, added=True))
            if trial.state is TrialState.COMPLETE:
                packs.amend(connection, search_id, number, values)
            connection.execute(update(searches).where(searches.c.id == search_id).values(updated_at=self.now()))

    # --- trials: reading -----------------------------------------------------------------------------------------

    def trials(
        self,
        name: str,
        *,
        states: Collection[TrialState] | None = None,
        numbers: Collection[int] | None = None,
        limit: int | None = None,
    ) -> list[Trial]:
        """The trials of a search by number: all, those in ``states``, those among ``numbers``, or the first ones."""
        with self._reading() as connection:
            search_id = queries.search_row(connection, name).id
            return queries.trials_of(connection, search_id, states=states, numbers=numbers, limit=limit)[:limit]

    def trial(self, name: str, number: int) -> Trial:
        """One trial. Raises NotFound."""
        return _one(self.trials(name, numbers=[number]), name, number)

    def lookup(self, evaluation_digest: str, candidate_digest: str) -> tuple[str, Trial] | None:
        """The search and trial that measured an equal candidate under an equal evaluation, or None."""
        with self._reading() as connection:
            return queries.lookup(connection, evaluation_digest, candidate_digest)

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

    def metric_columns(self, name: str, names: Collection[str]) -> MetricColumns:
        """The metrics ``names`` of all COMPLETE trials, as arrays by number; NaN where a trial has none."""
        with self._reading() as connection:
            search_id = queries.search_row(connection, name).id
            return complete_columns(connection, search_id, names, has_packs=self._has_packs)

    def measured(self, name: str) -> set[str]:
        """Names of the metrics that a COMPLETE trial of the search has."""
        with self._reading() as connection:
            search_id = queries.search_row(connection, name).id
            return measured(connection, search_id, has_packs=self._has_packs)

    def noted(self, name: str, key: str, value: str) -> list[int]:
        """Numbers of the trials whose note says ``key: value``, ascending. Reads all rows: a second per million."""
        with self._reading() as connection:
            return queries.noted(connection, queries.search_row(connection, name).id, key, value)

    def reused(self, name: str) -> int:
        """How many trials were looked up instead of measured again. Reads all rows."""
        with self._reading() as connection:
            return queries.reused(connection, queries.search_row(connection, name).id)

    def mean_metric(self, name: str, state: TrialState, metric: str) -> float | None:
        """Mean of a metric over the trials of one state that have it as a number; None without any."""
        with self._reading() as connection:
            return queries.mean_metric(connection, queries.search_row(connection, name).id, state, metric)

    # --- retrainings ---------------------------------------------------------------------------------------------

    def save_retraining(self, name: str, item: Retraining) -> None:
        """Keep the result of a training of one of a search's candidates; one with its digest stays as it is."""
        with self._writing() as connection:
            retrainings.write(connection, name, item, self.now())
            retraining_claims.drop(connection, item.digest)

    def retrainings(self, digests: Collection[str]) -> dict[str, Retraining]:
        """Those of ``digests`` that ended, whichever search they belong to."""
        with self._reading() as connection:
            return retrainings.read(connection, digests)

    def claim_retraining(
        self, digests: Sequence[str], owner: str, ttl_seconds: float
    ) -> tuple[str | None, set[str], str]:
        """See :func:`autoprune.store.retraining_claims.claim_next`; ``owner`` from ``new_owner()``."""
        with self._writing() as connection:
            return retraining_claims.claim_next(connection, digests, owner, ttl_seconds, self.now())

    def renew_retrainings(self, owner: str, ttl_seconds: float) -> None:
        with self._writing() as connection:
            retraining_claims.renew(connection, owner, ttl_seconds, self.now())

    def release_retrainings(self, owner: str, digest: str | None = None) -> None:
        """Give one claim back, or all of the owner's, whose process then counts as gone."""
        if digest is None:
            leases.give_up(owner)
        with self._writing() as connection:
            retraining_claims.release(connection, owner, digest)

    def save_audit(self, name: str, arm: str, content: Mapping[str, Any]) -> None:
        """Keep what an audit of a search's ranking found, in place of an earlier one by the same arm."""
        with self._writing() as connection:
            audits.write(connection, name, arm, content, self.now())

    def audits(self, name: str) -> list[dict[str, Any]]:
        """The audits of a search, one an arm, the latest first."""
        with self._reading() as connection:
            return audits.read(connection, name)

    # --- packs ---------------------------------------------------------------------------------------------------

    def pack_starts(self, name: str) -> list[int]:
        """First numbers of the packs of a search, ascending."""
        if not self._has_packs:
            return []
        with self._reading() as connection:
            return packs.starts(connection, queries.search_row(connection, name).id)

    def check_packs(self, name: str) -> list[int]:
        """First numbers of the packs that do not say what the rows say: none, unless the file was tampered with."""
        if not self._has_packs:
            return []
        with self._reading() as connection:
            return packs.disagreeing(connection, queries.search_row(connection, name).id)

    def rebuild_packs(self, lease: Lease) -> None:
        """Make the packs of a search anew from its rows."""
        with self._writing() as connection:
            leases.fence(connection, lease, self.now())
            packs.drop(connection, lease.search_id)
        self._pack(lease)


def _one(found: list[Trial], name: str, number: int) -> Trial:
    if not found:
        raise NotFound(f"search {name!r} has no trial {number}.", f"'autoprune trials {name}' lists them.")
    return found[0]
