"""A worker: takes launches from the queue of a store and runs each in a process of its own, its driver."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from autoprune.api.launches import log_file
from autoprune.api.stores import open_at, store_url
from autoprune.errors import Conflict, NotFound, StoreError
from autoprune.types import LaunchState, SearchState

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
_INTERRUPTED = 130
_TAIL_BYTES = 8192


@dataclass
class _Driven:
    """A launch in hand."""

    claim: Claim
    driver: str
    process: subprocess.Popen[bytes] | None
    """None: started by an earlier worker, and adopted."""
    renewed: float
    stop_sent: float | None = None
    wanted: bool = False
    """Somebody asked for its end."""


class Worker:
    """Runs launches, at most ``parallel`` at once. Used from one thread; ``stop`` from any.

    When a worker is killed, its drivers go on, and the next worker on this machine adopts them. A worker that ends in
    good order interrupts its drivers and puts their launches back: the next worker goes on with them.
    """

    def __init__(
        self,
        store: str | None = None,
        *,
        parallel: int = 1,
        say: Callable[[str], None] = lambda text: None,
        command: Sequence[str] = (),
    ) -> None:
        from autoprune.store import new_owner

        self._command = tuple(command) or (sys.executable, "-m", "autoprune", "drive")
        """Starts a driver, with the launch's number and ``--store URL`` behind it."""
        self._url = store_url(store)
        self._parallel = parallel
        self._say = say
        self._owner = new_owner()
        self._driven: list[_Driven] = []
        self._stopping = threading.Event()
        self._opened: Store | None = None

    def stop(self) -> None:
        """Let ``run`` end."""
        self._stopping.set()

    def run(self, *, until_idle: bool = False) -> None:
        """Work until ``stop``; with ``until_idle``, until nothing waits and nothing runs."""
        try:
            while not self._stopping.is_set():
                self._safely(self.step)
                if until_idle and not self._driven:
                    return
                self._stopping.wait(_STEP_SECONDS)
        finally:
            self._safely(self._hand_over)
            if self._opened is not None:
                self._opened.close()

    def _safely(self, act: Callable[[], None]) -> None:
        try:
            act()
        except StoreError as error:
            _log.warning("%s", error)  # it may come back; drivers do their own writing
            if self._opened is not None:
                self._opened.close()
            self._opened = None

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
        while len(self._driven) < self._parallel:
            claim = self._queue.claim(self._owner, _LEASE_SECONDS)
            if claim is None:
                return
            self._take(claim)

    # --- beginning -----------------------------------------------------------------------------------------------

    def _take(self, claim: Claim) -> None:
        launch = claim.launch
        if launch.state is LaunchState.RUNNING and launch.driver and self._lives(launch.driver, launch.search):
            self._say(f"launch {launch.id}: adopted the driver of {launch.search!r}.")
            self._driven.append(_Driven(claim, launch.driver, None, time.monotonic()))
            return
        if launch.stopping:
            self._queue.finish(claim, LaunchState.STOPPED, "stopped on request.")
            return
        if launch.attempts >= _ATTEMPTS:
            self._queue.finish(claim, LaunchState.FAILED, f"its driver was killed {launch.attempts} times.")
            return
        self._start(claim)

    def _start(self, claim: Claim) -> None:
        from autoprune.store import new_owner

        launch = claim.launch
        log = log_file(launch.id, store=self._url)
        try:
            log.parent.mkdir(parents=True, exist_ok=True)
            with log.open("ab") as file:
                command = [*self._command, str(launch.id), "--store", self._url]
                process = subprocess.Popen(
                    command, stdin=subprocess.DEVNULL, stdout=file, stderr=file, start_new_session=True
                )
        except OSError as error:
            self._queue.finish(claim, LaunchState.FAILED, f"its driver cannot be started: {error.strerror}.")
            return
        driven = _Driven(claim, new_owner(process.pid), process, time.monotonic())
        try:
            self._queue.started(claim, driven.driver)
        except (Conflict, StoreError):
            _signal(driven.driver, signal.SIGKILL)
            process.wait()
            raise
        self._driven.append(driven)
        self._say(f"launch {launch.id}: search {launch.search!r} began, process {process.pid}; its log is {log}")

    def _lives(self, driver: str, search: str) -> bool:
        """Whether the driver's process is there, or, if it was another machine's, whether anybody drives the search."""
        from autoprune.store import leases, paging

        if leases.is_here(driver):
            return not leases.is_gone(driver)
        return paging.activity(self._store).get(search, (0.0, False))[1]

    # --- looking after -------------------------------------------------------------------------------------------

    def _look_after(self, driven: _Driven) -> None:
        code = None if driven.process is None else driven.process.poll()
        gone = driven.process is None and not self._lives(driven.driver, driven.claim.launch.search)
        if code is not None or gone:
            self._driven.remove(driven)
            return self._ended(driven, code)
        now = time.monotonic()
        if now - driven.renewed > _LEASE_SECONDS / 3:
            self._queue.renew(driven.claim)
            driven.renewed = now
        driven.wanted = driven.wanted or self._queue.get(driven.claim.launch.id).stopping
        if driven.wanted and driven.stop_sent is None:
            _signal(driven.driver, signal.SIGINT)
            driven.stop_sent = now
        elif driven.stop_sent is not None and now - driven.stop_sent > _PATIENCE:
            _signal(driven.driver, signal.SIGKILL)
        return None

    def _ended(self, driven: _Driven, code: int | None) -> None:
        launch = driven.claim.launch
        state, message = self._outcome(driven, code)
        if state is LaunchState.QUEUED:
            self._queue.put_back(driven.claim, message)
        else:
            self._queue.finish(driven.claim, state, message)
        self._say(f"launch {launch.id}: {state.value}. {message}".rstrip())

    def _outcome(self, driven: _Driven, code: int | None) -> tuple[LaunchState, str]:
        """What becomes of a launch whose driver ended with ``code``; None: it was not ours to wait for."""
        launch_id, search = driven.claim.launch.id, driven.claim.launch.search
        stopped = LaunchState.STOPPED, "stopped on request." if driven.wanted else "interrupted."
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
        """Interrupt all drivers; those that somebody asked to stop are stopped, the others wait for the next worker."""
        for driven in self._driven:
            _signal(driven.driver, signal.SIGINT)
        deadline = time.monotonic() + _PATIENCE
        for driven in self._driven:
            while self._still_runs(driven):
                if time.monotonic() > deadline:
                    _signal(driven.driver, signal.SIGKILL)
                time.sleep(0.05)
            with contextlib.suppress(Conflict):
                if driven.wanted:
                    self._queue.finish(driven.claim, LaunchState.STOPPED, "stopped on request.")
                else:
                    self._queue.put_back(driven.claim, "its worker ended; the next one goes on.")
        self._driven.clear()

    def _still_runs(self, driven: _Driven) -> bool:
        from autoprune.store import leases

        if driven.process is not None:
            return driven.process.poll() is None
        return leases.is_here(driven.driver) and not leases.is_gone(driven.driver)


def _signal(driver: str, number: int) -> None:
    """To a driver of this machine that lives; its whole session when it is killed, so that no trial outlives it."""
    from autoprune.store import leases

    if not leases.is_here(driver) or leases.is_gone(driver):
        return
    pid = int(driver.rsplit(":", 2)[1])
    with contextlib.suppress(ProcessLookupError, PermissionError):
        if number == signal.SIGKILL:
            os.killpg(pid, number)
        else:
            os.kill(pid, number)


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
