"""Searches as jobs of a Ray cluster: submitting one, following its log, and what the job itself runs."""

from __future__ import annotations

import json
import os
import secrets
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from autoprune import __version__
from autoprune.api.stores import open_at, store_url
from autoprune.errors import ConfigError, NotFound, SearchAborted, StoreError, without_password

if TYPE_CHECKING:
    from autoprune.api.searching import SearchResult
    from autoprune.cluster.jobs import Job, RayJobs
    from autoprune.config.schema import SearchConfig
    from autoprune.protocols import Progress

__all__ = [
    "COMMAND",
    "Submission",
    "cluster_store",
    "exit_code",
    "follow",
    "job_archive",
    "job_server",
    "run_submission",
    "stop",
    "submit",
]

COMMAND = "exec python -m autoprune run-submission"
"""What a job runs, in the folder of its files; ``exec``, so that Ctrl-C reaches it and its exit code is the job's."""

_STEP_SECONDS = 1.0
_LOG_SHARE = 4e-6
"""Seconds between two looks at a log, for each of its bytes: Ray sends the whole of it every time."""
_PATIENCE_SECONDS = 180.0
"""A job server that does not answer is asked again for so long."""
_LEASE_SECONDS = 45.0
"""A search is held for up to 30 seconds after its driver was lost."""
_STORE_VARIABLE = "AUTOPRUNE_STORE"
_CLUSTER_VARIABLE = "AUTOPRUNE_RAY_ADDRESS"


@dataclass(frozen=True)
class Submission:
    """A search that was given to a cluster."""

    id: str
    search: str
    address: str
    store: str
    """Without a password; empty: the one that the cluster's own AUTOPRUNE_STORE names."""


def submit(
    config: str | Path | Mapping[str, Any] | SearchConfig,
    *,
    address: str,
    overrides: Sequence[str] = (),
    store: str | None = None,
    include: Sequence[str] = (),
) -> Submission:
    """Let a cluster run a search. autoprune, the configuration and the user's files travel with it.

    The store is the one given, else the configuration's, else that of ``$AUTOPRUNE_STORE`` here, else on the cluster.
    Raises ConfigError (the configuration, the address, a store or a file that the cluster could not read) and
    ServiceError (no job server there, or it lets nobody in).
    """
    from autoprune.config.loading import load_search

    loaded = load_search(config, overrides)
    if store is None and "store" in loaded.model_fields_set:
        store = loaded.store
    url = cluster_store(store or os.environ.get(_STORE_VARIABLE) or None)
    packed = job_archive(loaded, url, include)
    job_id = f"{loaded.name}-{time.strftime('%m%d-%H%M%S')}-{secrets.token_hex(2)}"
    with _connected(address) as jobs:
        jobs.check()
        jobs.submit(job_id, COMMAND, jobs.upload(packed), {"search": loaded.name, "autoprune": __version__})
        return Submission(job_id, loaded.name, jobs.address, without_password(url or ""))


def job_server(address: str) -> str:
    """The address as it is used. Raises ConfigError for one that is none, and for a token that cannot be read."""
    with _connected(address) as jobs:
        return jobs.address


def job_archive(config: SearchConfig, store: str | None, include: Sequence[str] = ()) -> bytes:
    """The files of a job that runs this search."""
    from autoprune.cluster import package

    content, files = package.travelling(config)
    if content["executor"]["kind"] == "ray":
        content["executor"]["address"] = None  # the job joins the cluster that it runs on
    everything = package.with_neighbours({**package.own_package(), **files}, include)
    return package.archive(everything, {"config": content, "store": store})


def cluster_store(url: str | None) -> str | None:
    """The URL, if a job can use it. Raises ConfigError for a file at a relative path."""
    if url is not None and url.startswith("sqlite") and not url.startswith("sqlite:////"):
        raise ConfigError(
            f"store {url!r} is a relative path: on a cluster it would lie in a folder that is removed after the job.",
            "Give an absolute path of the head node with --store sqlite:////data/autoprune.db (four slashes), or"
            " PostgreSQL; without --store the cluster's own AUTOPRUNE_STORE is used.",
        )
    return url


def follow(
    job_id: str,
    *,
    address: str,
    write: Callable[[str], None],
    say: Callable[[str], None] = lambda text: None,
    patience_seconds: float = _PATIENCE_SECONDS,
) -> Job:
    """Write the log of a job until it ends; ``say`` gets remarks of our own. Gives the job as it ended.

    A job server that answers no more is asked again for ``patience_seconds``. Raises NotFound for a job that the
    cluster does not know, or no longer, and ServiceError.
    """
    from autoprune.cluster.jobs import Unreachable

    seen, silent_since, told = 0, None, ""
    with _connected(address) as jobs:
        jobs.job(job_id)  # a wrong address is said at once
        while True:
            try:
                job = jobs.job(job_id)
                text = jobs.log(job_id)
            except Unreachable:
                now = time.monotonic()
                silent_since = now if silent_since is None else silent_since
                if now - silent_since >= patience_seconds:
                    raise
                if silent_since == now:
                    say(f"the job server at {jobs.address} does not answer; asking again...")
                time.sleep(_STEP_SECONDS)
                continue
            silent_since = None
            if text[seen:]:
                write(text[seen:])
            if job.state.ended:
                return job
            if not text and job.state.words != told:
                told = job.state.words
                say(f"job {job_id} {told}...")
            seen = len(text)
            time.sleep(_STEP_SECONDS + _LOG_SHARE * len(text))


def stop(job_id: str, *, address: str) -> bool:
    """Send a job Ctrl-C: what was measured is kept. False: it had ended already. Raises NotFound, ServiceError."""
    with _connected(address) as jobs:
        return jobs.stop(job_id)


def run_submission(folder: Path, progress: Progress) -> SearchResult:
    """Run the search of a job, in the job's folder. Raises what ``search`` raises."""
    from autoprune.api.searching import search
    from autoprune.cluster.package import SUBMISSION
    from autoprune.config.loading import load_search

    try:
        content = json.loads((folder / SUBMISSION).read_text("utf-8"))
    except FileNotFoundError:
        raise ConfigError(f"there is no {SUBMISSION} here: this command is run by a cluster.") from None
    if content["store"] is None and not os.environ.get(_STORE_VARIABLE):
        raise ConfigError(
            "no store was given with the search, and this cluster's head node has no AUTOPRUNE_STORE.",
            "Submit it with --store, or start the head node with the variable set.",
        )
    url = content["store"] or store_url(None)
    if address := os.environ.get("RAY_ADDRESS"):  # Ray tells its jobs where they are
        os.environ[_CLUSTER_VARIABLE] = address
    config = load_search(content["config"])
    if not Path(config.output).is_absolute():
        config = config.model_copy(update={"output": str(_kept_folder(url) / config.output)})
    _wait_for_lease(url, config.name, progress)
    return search(config, store=url, progress=progress)


def _kept_folder(url: str) -> Path:
    """Where reports stay, since the folder of a job is removed: beside a store that is a file, else the cache."""
    from autoprune.api.stores import store_file
    from autoprune.data.cache import cache_dir

    return store_file(url).parent if url.startswith("sqlite") else cache_dir("reports")


def _wait_for_lease(url: str, search: str, progress: Progress) -> None:
    """A driver that was lost with its node still holds its search for a moment; one that lives is left alone."""
    from autoprune.store.paging import activity

    deadline, told = time.monotonic() + _LEASE_SECONDS, False
    while time.monotonic() < deadline:
        try:
            with open_at(url, read_only=True) as opened:
                held = activity(opened).get(search, (0.0, False))[1]
        except (NotFound, StoreError):  # a new store; whatever else is wrong, the search itself will say
            return
        if not held:
            return
        if not told:
            progress.note(
                f"search {search!r} is still held by its last driver; waiting up to {_LEASE_SECONDS:.0f} s..."
            )
            told = True
        time.sleep(_STEP_SECONDS)


def exit_code(job: Job) -> int:
    """That of the search; 130 for a job that was stopped.

    Raises SearchAborted for one whose process left none: it never began, was killed, or was lost with its node.
    """
    from autoprune.cluster.jobs import JobState

    if job.state is JobState.STOPPED:
        return 130
    if job.exit_code is not None and job.exit_code >= 0:
        return job.exit_code
    if job.state is JobState.SUCCEEDED:
        return 0
    if job.never_began:
        raise SearchAborted(f"the cluster could not begin job {job.id}: {job.cause}")
    killed = f"its process was killed by signal {-job.exit_code}." if job.exit_code else job.cause
    raise SearchAborted(f"job {job.id} was lost: {killed}", "Submit the search again: it goes on where it stopped.")


@contextmanager
def _connected(address: str) -> Iterator[RayJobs]:
    from autoprune.cluster.jobs import RayJobs

    jobs = RayJobs(address)
    try:
        yield jobs
    finally:
        jobs.close()
