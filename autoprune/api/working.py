"""A worker: takes launches from the queue of a store and has each run by a driver, a process or a job of a cluster."""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from autoprune.api.drivers import Drivers, End, ProcessDrivers
from autoprune.api.launches import log_file
from autoprune.api.stores import open_at, store_url
from autoprune.errors import ConfigError, Conflict, NotFound, ServiceError, StoreError
from autoprune.logs import emit
from autoprune.types import Launch, LaunchState, SearchState

if TYPE_CHECKING:
    from autoprune.store import Store
    from autoprune.store.queue import Claim, LaunchQueue

__all__ = ["Worker"]

_log = logging.getLogger(__name__)

_LEASE_SECONDS = 30.0
_STEP_SECONDS = 0.5
_ATTEMPTS = 3
"""Drivers that are started for one launch before it is given up, when they are killed."""
_PATIENCE = 45.0
"""Seconds between asking a driver to end (Ctrl-C) and ending it."""
_PAUSE = 5.0
"""Seconds without new claims after a cluster did not take a launch."""
_INTERRUPTED = 130
_TAIL_BYTES = 8192


@dataclass
class _Driven:
    """A launch in hand."""

    claim: Claim
    driver: str
    drivers: Drivers
    renewed: float
    stop_sent: float | None = None
    wanted: bool = False
    """Somebody asked for its end."""

    def end(self, store: Store) -> End | None:
        return self.drivers.end(self.driver, self.claim.launch, store)


class Worker:
    """Runs launches, at most ``parallel`` at once. Used from one thread; ``stop`` from any.

    Drivers are processes of this machine, or jobs of the Ray cluster whose job server is at ``ray_address``.
    When a worker is killed, its drivers go on, and the next worker on this machine (for jobs: anywhere) adopts them. A
    worker that ends in good order interrupts its processes and puts their launches back: the next worker goes on with
    them. Jobs it leaves running.

    Raises ConfigError for an address that is none.
    """

    def __init__(
        self,
        store: str | None = None,
        *,
        parallel: int = 1,
        say: Callable[[str], None] = lambda text: None,
        command: Sequence[str] = (),
        ray_address: str | None = None,
    ) -> None:
        from autoprune.api.ray_drivers import RayJobDrivers
        from autoprune.store import new_owner

        self._url = store_url(store)
        self._drivers: list[Drivers] = [ProcessDrivers(self._url, command)]
        """New launches go to the first; the others adopt."""
        if ray_address is not None:
            self._drivers.insert(0, RayJobDrivers(self._url, ray_address))
        self._parallel = parallel
        self._say = say
        self._owner = new_owner()
        self._driven: list[_Driven] = []
        self._stopping = threading.Event()
        self._no_claims_before = 0.0
        self._opened: Store | None = None

    def stop(self) -> None:
        """Let ``run`` end."""
        self._stopping.set()

    def run(self, *, until_idle: bool = False) -> None:
        """Work until ``stop``; with ``until_idle``, until nothing waits and nothing runs."""
        try:
            while not self._stopping.is_set():
                looked = self._safely(self.step)
                if until_idle and looked and not self._driven and time.monotonic() >= self._no_claims_before:
                    return
                self._stopping.wait(_STEP_SECONDS)
        finally:
            self._safely(self._hand_over)
            if self._opened is not None:
                self._opened.close()

    def _safely(self, act: Callable[[], None]) -> bool:
        """Whether the store could be used."""
        try:
            act()
            return True
        except StoreError as error:
            _log.warning("%s", error)  # it may come back; drivers do their own writing
            if self._opened is not None:
                self._opened.close()
            self._opened = None
            return False

    @property
    def _store(self) -> Store:
        if self._opened is None:
            self._opened = open_at(self._url)
        return self._opened

    @property
    def _queue(self) -> LaunchQueue:
        from autoprune.store.queue import LaunchQueue

        return LaunchQueue(self._store)

    def step(self) -> None:
        """Look after what runs, and take more."""
        for driven in list(self._driven):
            try:
                self._look_after(driven)
            except Conflict as error:
                _log.warning("%s", error)  # another worker looks after this driver now
                self._driven.remove(driven)
        while len(self._driven) < self._parallel and time.monotonic() >= self._no_claims_before:
            claim = self._queue.claim(self._owner, _LEASE_SECONDS)
            if claim is None:
                return
            _say_launch("launch.claimed", claim.launch, "launch %d was taken from the queue")
            try:
                self._take(claim)
            except Conflict as error:
                _log.warning("%s", error)

    # --- beginning -----------------------------------------------------------------------------------------------

    def _take(self, claim: Claim) -> None:
        launch = claim.launch
        if launch.state is LaunchState.RUNNING and launch.driver:
            owner = next(drivers for drivers in self._drivers if drivers.owns(launch.driver))
            driven = _Driven(claim, launch.driver, owner, time.monotonic())
            end = driven.end(self._store)
            if end is None:
                _say_launch("launch.adopted", launch, "the driver of launch %d is looked after", driver=launch.driver)
                self._say(f"launch {launch.id}: adopted the driver of {launch.search!r}.")
                return self._driven.append(driven)
            if end.code is not None or end.refused:  # a job that ended while nobody looked
                return self._ended(driven, end)
        if launch.stopping:
            return self._queue.finish(claim, LaunchState.STOPPED, "stopped on request.")
        if launch.attempts >= _ATTEMPTS:
            said = f"its driver was killed {launch.attempts} times."
            return self._queue.finish(claim, LaunchState.FAILED, said)
        return self._start(claim)

    def _start(self, claim: Claim) -> None:
        launch, drivers = claim.launch, self._drivers[0]
        try:
            driver = drivers.start(launch)
        except ConfigError as error:
            self._queue.finish(claim, LaunchState.FAILED, str(error))
            return
        except ServiceError as error:
            self._queue.put_back(claim, f"{error.message} It is tried again.")
            self._no_claims_before = time.monotonic() + _PAUSE
            return
        try:
            self._queue.started(claim, driver)
        except (Conflict, StoreError):
            if not drivers.outlive:
                drivers.kill(driver)
            raise
        self._driven.append(_Driven(claim, driver, drivers, time.monotonic()))
        _say_launch("launch.started", launch, "a driver was started for launch %d", driver=driver)
        self._say(
            f"launch {launch.id}: search {launch.search!r} began; its log is {log_file(launch.id, store=self._url)}"
        )

    # --- looking after -------------------------------------------------------------------------------------------

    def _look_after(self, driven: _Driven) -> None:
        end = driven.end(self._store)
        if end is not None:
            self._driven.remove(driven)
            return self._ended(driven, end)
        now = time.monotonic()
        if now - driven.renewed > _LEASE_SECONDS / 3:
            self._queue.renew(driven.claim)
            driven.renewed = now
        driven.wanted = driven.wanted or self._queue.get(driven.claim.launch.id).stopping
        if driven.wanted and driven.stop_sent is None:
            driven.drivers.interrupt(driven.driver)
            driven.stop_sent = now
        elif driven.stop_sent is not None and now - driven.stop_sent > _PATIENCE:
            driven.drivers.kill(driven.driver)
            driven.stop_sent = now
        return None

    def _ended(self, driven: _Driven, end: End) -> None:
        launch = driven.claim.launch
        state, message = self._outcome(driven, end)
        if state is LaunchState.QUEUED:
            self._queue.put_back(driven.claim, message)
        else:
            self._queue.finish(driven.claim, state, message)
        _say_launch("launch.ended", launch, "launch %d has ended", state=state.value, reason=message)
        self._say(f"launch {launch.id}: {state.value}. {message}".rstrip())

    def _outcome(self, driven: _Driven, end: End) -> tuple[LaunchState, str]:
        """What becomes of a launch whose driver ended."""
        launch_id, search, code = driven.claim.launch.id, driven.claim.launch.search, end.code
        stopped = LaunchState.STOPPED, "stopped on request." if driven.wanted else "interrupted."
        if end.refused:
            return LaunchState.FAILED, end.refused
        if code is None:
            found = self._state(search)
            if found is SearchState.COMPLETE:
                return LaunchState.COMPLETE, ""
            if found is SearchState.ABORTED:
                return LaunchState.FAILED, _last_words(log_file(launch_id, store=self._url))
            if found is SearchState.INTERRUPTED or driven.wanted:
                return stopped
        if code == 0:
            return LaunchState.COMPLETE, ""
        if code == _INTERRUPTED or driven.wanted:
            return stopped
        if code is not None and code > 0:
            return LaunchState.FAILED, _last_words(log_file(launch_id, store=self._url))
        cause = "its driver was lost" if code is None else f"its driver was killed by signal {-code}"
        if self._queue.get(launch_id).attempts < _ATTEMPTS:
            return LaunchState.QUEUED, f"{cause}; another begins."
        return LaunchState.FAILED, f"{cause}, as were those before."

    def _state(self, search: str) -> SearchState | None:
        try:
            return self._store.search(search).state
        except NotFound:
            return None

    # --- ending --------------------------------------------------------------------------------------------------

    def _hand_over(self) -> None:
        """Interrupt the processes; those that somebody asked to stop are stopped, the others wait for the next worker.

        Jobs go on: whoever comes next adopts them.
        """
        for driven in self._driven:
            if not driven.drivers.outlive:
                driven.drivers.interrupt(driven.driver)
        deadline = time.monotonic() + _PATIENCE
        for driven in self._driven:
            with contextlib.suppress(Conflict):
                if driven.drivers.outlive:
                    self._queue.renew(dataclasses.replace(driven.claim, ttl_seconds=0.0))
                    continue
                self._wait(driven, deadline)
                if driven.wanted:
                    self._queue.finish(driven.claim, LaunchState.STOPPED, "stopped on request.")
                else:
                    self._queue.put_back(driven.claim, "its worker ended; the next one goes on.")
        self._driven.clear()

    def _wait(self, driven: _Driven, deadline: float) -> None:
        while driven.drivers.may_live(driven.driver):
            if time.monotonic() > deadline:
                driven.drivers.kill(driven.driver)
            time.sleep(0.05)


def _say_launch(event: str, launch: Launch, text: str, **more: object) -> None:
    emit(_log, logging.INFO, event, text, launch.id, search=launch.search, launch=launch.id, **more)


def _last_words(log: Path) -> str:
    """The last error in a log, with its hint; else its last line."""
    try:
        with log.open("rb") as file:
            file.seek(max(0, log.stat().st_size - _TAIL_BYTES))
            lines = file.read().decode("utf-8", "replace").splitlines()
    except OSError:
        return "its driver failed and left no log."
    starts = [place for place, line in enumerate(lines) if line.startswith("error: ")]
    said = lines[starts[-1] :] if starts else lines[-1:]
    return "\n".join(said).removeprefix("error: ")[:2000]
