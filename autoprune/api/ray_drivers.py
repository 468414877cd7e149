"""Drivers of launches as jobs of a Ray cluster.

A job's id follows from the launch and the number of the attempt, so a worker that died between submitting and writing
it down is no danger: the next one submits the same id, and the cluster says that it is there. Jobs need no worker.
Their logs are copied to where a process would have written its own.
"""

from __future__ import annotations

import hashlib
import time
from pathlib import Path
from typing import TYPE_CHECKING

from autoprune.api.drivers import End
from autoprune.api.launches import log_file
from autoprune.api.stores import store_file
from autoprune.api.submitting import COMMAND, job_archive
from autoprune.errors import NotFound, ServiceError
from autoprune.types import Launch

if TYPE_CHECKING:
    from autoprune.cluster.jobs import Job, RayJobs
    from autoprune.store import Store

__all__ = ["RayJobDrivers"]

_KIND = "ray-job"
_LOOK_SECONDS = 2.0
_SILENT_SECONDS = 10.0
"""Between two looks while nobody answers."""
_GIVEN_UP_SECONDS = 120.0
"""A job whose cluster has been silent for so long, and whose search nobody drives, is lost."""
_LOG_SHARE = 4e-6
"""Seconds until the next look, for each byte of the log: Ray sends the whole of it every time."""


class RayJobDrivers:
    """Jobs of the cluster at ``address``."""

    outlive = True

    def __init__(self, store_url: str, address: str) -> None:
        from autoprune.cluster.jobs import RayJobs

        self._url = _absolute(store_url)
        self._jobs: RayJobs = RayJobs(address, seconds=10.0)
        self._next_look: dict[str, float] = {}
        self._silent_since: dict[str, float] = {}

    @property
    def address(self) -> str:
        return self._jobs.address

    def owns(self, driver: str) -> bool:
        return driver.startswith(f"{_KIND}::")

    def start(self, launch: Launch) -> str:
        from autoprune.config.loading import load_search

        job_id = _job_id(launch)
        packed = job_archive(load_search(launch.config), self._url)
        metadata = {"search": launch.search, "launch": str(launch.id)}
        self._jobs.submit(job_id, COMMAND, self._jobs.upload(packed), metadata)
        return f"{_KIND}::{job_id}"

    def end(self, driver: str, launch: Launch, store: Store) -> End | None:
        from autoprune.cluster.jobs import JobState

        if time.monotonic() < self._next_look.get(driver, 0.0):
            return None
        try:
            job = self._seen(driver, launch)
        except NotFound:
            return End()  # another head node: what ran on the former one is gone
        except ServiceError:
            return self._silent(driver, launch, store)
        self._silent_since.pop(driver, None)
        if not job.state.ended:
            return None
        if job.state is JobState.STOPPED:
            return End(130)
        if job.state is JobState.SUCCEEDED or job.exit_code is not None:
            return End(job.exit_code or 0)
        return End(refused=f"the cluster could not begin it: {job.cause}") if job.never_began else End()

    def may_live(self, driver: str) -> bool:
        return False  # jobs are not waited for

    def interrupt(self, driver: str) -> None:
        try:
            self._jobs.stop(_id_of(driver))
        except ServiceError:
            return  # it is asked again
        except NotFound:
            pass
        self._next_look.pop(driver, None)

    def kill(self, driver: str) -> None:
        self.interrupt(driver)  # the cluster itself kills what does not end

    def _seen(self, driver: str, launch: Launch) -> Job:
        job_id = _id_of(driver)
        self._next_look[driver] = time.monotonic() + _SILENT_SECONDS
        job = self._jobs.job(job_id)
        log = self._jobs.log(job_id).encode()
        _copy(log, log_file(launch.id, store=self._url), f"--- Ray job {job_id} ---\n".encode())
        self._next_look[driver] = time.monotonic() + _LOOK_SECONDS + _LOG_SHARE * len(log)
        return job

    def _silent(self, driver: str, launch: Launch, store: Store) -> End | None:
        from autoprune.store import paging

        now = time.monotonic()
        since = self._silent_since.setdefault(driver, now)
        if now - since < _GIVEN_UP_SECONDS or paging.activity(store).get(launch.search, (0.0, False))[1]:
            return None
        return End()


def _job_id(launch: Launch) -> str:
    """The same for every worker, and another one for another store's launch of the same number."""
    made = hashlib.sha256(repr(launch.created_at).encode()).hexdigest()[:8]
    return f"{launch.search}-{made}-launch-{launch.id}-attempt-{launch.attempts + 1}"


def _id_of(driver: str) -> str:
    return driver.removeprefix(f"{_KIND}::")


def _copy(log: bytes, file: Path, heading: bytes) -> None:
    """Append what is new: the file itself says, by the heading of this attempt, how much of the log it has."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("a+b") as opened:
        opened.seek(0)
        _, found, copied = opened.read().rpartition(heading)
        opened.write(log[len(copied) :] if found else heading + log)


def _absolute(url: str) -> str:
    """A file by its absolute path: the head node must see the same one, on a disk that it shares or is."""
    return f"sqlite:///{store_file(url).absolute()}" if url.startswith("sqlite") else url
