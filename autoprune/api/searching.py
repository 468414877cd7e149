"""Running a search from its configuration to its report, and going on with one that was cut off."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from autoprune.api.stores import open_at, store_url
from autoprune.driver.observers import Silent
from autoprune.errors import Conflict, NotFound, without_password
from autoprune.types import SearchRecord, SearchState, TrialState

if TYPE_CHECKING:
    from autoprune.analysis.front import Front
    from autoprune.config.schema import SearchConfig
    from autoprune.protocols import Progress
    from autoprune.store import Store

__all__ = ["SearchResult", "earlier_search", "is_done", "output_folder", "resume", "search", "search_result"]


@dataclass(frozen=True)
class SearchResult:
    """A search after it ran, or was found complete."""

    record: SearchRecord
    front: Front
    output: Path
    """The folder of front.csv, front.png and report.html."""
    trials: int
    """Trials of this search in the store that are finished."""
    reused: bool
    """Nothing ran: the store already held the whole search."""


def search(
    config: str | Path | Mapping[str, Any] | SearchConfig,
    *,
    overrides: Sequence[str] = (),
    store: str | None = None,
    progress: Progress | None = None,
) -> SearchResult:
    """Run a search, or go on with the one of the same name and configuration.

    Raises ConfigError (the configuration), Conflict (the name belongs to another configuration, or another driver
    runs it), NothingFeasible (a budget out of reach), StoreError, SearchAborted.
    """
    from autoprune.config.loading import load_search

    loaded = load_search(config, overrides)
    if store is not None or "store" not in loaded.model_fields_set:
        loaded = loaded.model_copy(update={"store": store_url(store)})
    with open_at(loaded.store) as opened:
        earlier = earlier_search(opened, loaded)
        reused = earlier is not None and is_done(earlier, loaded) and (output_folder(loaded) / "report.html").exists()
        if not reused:
            _run(opened, loaded, progress or Silent())
        return search_result(opened, loaded, reused=reused)


def resume(
    name: str, *, store: str | None = None, trials: int | None = None, progress: Progress | None = None
) -> SearchResult:
    """Go on with a stored search, from its stored configuration; ``trials`` sets a new limit.

    Raises NotFound for an unknown name, and what :func:`search` raises.
    """
    url = store_url(store)
    with open_at(url, read_only=True) as opened:
        config = dict(opened.search(name).config)
    overrides = [] if trials is None else [f"limits.trials={trials}"]
    return search(config, overrides=overrides, store=url, progress=progress)


def earlier_search(store: Store, config: SearchConfig) -> SearchRecord | None:
    """The search of that name; checked before any work, since training a base model to be refused would be a pity."""
    try:
        record = store.search(config.name)
    except NotFound:
        return None
    if record.digest != config.digest():
        changed = _changed(record.config, config.model_dump(mode="json"))
        raise Conflict(
            f"search {config.name!r} exists in {without_password(config.store)} with another configuration "
            f"(different: {', '.join(changed) or 'unknown'}).",
            "Choose another name, or another store with --store; a stored search goes on with 'autoprune resume NAME'.",
        )
    return record


_FREE = ("executor", "limits", "store", "output", "space.data.root", "space.data.download")


def _changed(old: Any, new: Any, path: str = "") -> list[str]:
    """Dotted keys whose values differ, without those that a search may change."""
    if path in _FREE or old == new:
        return []
    if not (isinstance(old, Mapping) and isinstance(new, Mapping)):
        return [path]
    keys = list(dict.fromkeys([*old, *new]))
    return [
        item for key in keys for item in _changed(old.get(key), new.get(key), f"{path}.{key}" if path else str(key))
    ]


def is_done(record: SearchRecord, config: SearchConfig) -> bool:
    """As many trials are finished as the configuration asks for."""
    finished = sum(count for state, count in record.trial_counts.items() if TrialState(state).finished)
    return record.state is SearchState.COMPLETE and finished >= config.limits.trials


def _run(store: Store, config: SearchConfig, progress: Progress) -> None:
    from autoprune.analysis.nodes import nodes_in_words
    from autoprune.api.reporting import measure_test_split, nodes_of, write_stored
    from autoprune.driver.assemble import prepare
    from autoprune.driver.running import run_session

    prepared = prepare(config, progress)
    run_session(store, prepared, progress)
    on_a_cluster = getattr(config.executor, "address", None) or os.environ.get("AUTOPRUNE_RAY_ADDRESS")
    if on_a_cluster and (text := nodes_in_words(nodes_of(store, config.name))):
        progress.note(text)  # a local Ray is a node of its own in every run: nothing to tell
    record = store.search(config.name)
    if record.state is SearchState.COMPLETE:
        measure_test_split(store, prepared, progress)
        record = store.search(config.name)
    write_stored(store, record, output_folder(config))


def output_folder(config: SearchConfig) -> Path:
    """Where the search's report goes."""
    return Path(config.output) / config.name


def search_result(store: Store, config: SearchConfig, *, reused: bool) -> SearchResult:
    """What the store holds of the search now."""
    from autoprune.api.reporting import objective_front

    record = store.search(config.name)
    return SearchResult(
        record=record,
        front=objective_front(store, record),
        output=output_folder(config),
        trials=sum(count for state, count in record.trial_counts.items() if TrialState(state).finished),
        reused=reused,
    )
