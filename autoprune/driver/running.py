"""One run of a search: baseline, lease, session, executor."""

from __future__ import annotations

from typing import TYPE_CHECKING

from autoprune.driver.assemble import Prepared, make_controller, make_executor
from autoprune.driver.assemble_finetune import make_halving
from autoprune.driver.assemble_module import PreparedModule
from autoprune.driver.logged import LoggedTrials, log_begin
from autoprune.driver.racing import make_racing
from autoprune.driver.session import Session
from autoprune.driver.stopping import Stopper
from autoprune.errors import Conflict, NotFound
from autoprune.logs import about
from autoprune.store import new_owner
from autoprune.types import TrialState

if TYPE_CHECKING:
    from autoprune.protocols import Progress
    from autoprune.store import Store
    from autoprune.types import SearchRecord

__all__ = ["run_session"]

_LEASE_SECONDS = 30.0


def run_session(store: Store, prepared: Prepared | PreparedModule, progress: Progress) -> None:
    """Run the search until its limits, an interruption or an error; what was measured is in the store in any case.

    Ctrl-C ends it in good order: the stored search is then INTERRUPTED.

    Raises Conflict when another driver runs it or its base model changed, ConfigError when racing is asked for and the
    validation images are too few for it, SearchAborted and StoreError.
    """
    config = prepared.config
    stopper = _stopper(prepared)
    record = _record(store, prepared, progress)
    lease = store.claim(config.name, owner=new_owner(), ttl_seconds=_LEASE_SECONDS)
    try:
        store.set_config(lease, config.model_dump(mode="json"))
        session = Session(
            store=store,
            search=record,
            lease=lease,
            controller=make_controller(prepared),
            decoder=prepared.decoder,
            space=prepared.space,
            objectives=config.parsed_objectives(),
            constraints=config.parsed_constraints(),
            limits=config.limits,
            observers=(progress, LoggedTrials(config.name)),
            stopper=stopper,
            remarks=prepared.remarks,
        )
    except BaseException:
        store.release(lease)
        raise
    progress.on_baseline(record.baseline)
    progress.phase("search", config.limits.trials)
    done = sum(n for state, n in record.trial_counts.items() if TrialState(state).finished)
    progress.advance(step=done)
    with about(search=config.name), session:
        log_begin(record, done, config.limits.trials)
        executor = prepared.make_executor() if isinstance(prepared, PreparedModule) else make_executor(prepared)
        executor.run(session)


def _stopper(prepared: Prepared | PreparedModule) -> Stopper | None:
    """What ends trials early: racing by images, or successive halving by epochs; never both (``config.fidelity``)."""
    config = prepared.config
    if isinstance(prepared, PreparedModule):
        return None
    if config.racing is None:
        return make_halving(config, min(config.evaluator.validation_images, len(prepared.dataset.search_val)))
    return make_racing(config.racing, config.parsed_objectives(), prepared.assets.labels, config.evaluator.batch_size)


def _record(store: Store, prepared: Prepared | PreparedModule, progress: Progress) -> SearchRecord:
    """The stored search, or a new one with its baseline measured."""
    config = prepared.config
    try:
        record = store.search(config.name)
    except NotFound:
        progress.phase("baseline")
        return store.create_search(
            config.name,
            config=config.model_dump(mode="json"),
            digest=config.digest(),
            evaluation_digest=prepared.evaluation_digest,
            baseline=prepared.measure_baseline(),
            channels=prepared.space.full().widths,
        )
    if record.evaluation_digest != prepared.evaluation_digest:
        raise Conflict(
            f"search {config.name!r} was begun with another base model, latency table or other images; "
            "its numbers would not compare.",
            "Restore what the first run had, or give the search another name.",
        )
    return record
