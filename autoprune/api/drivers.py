"""The drivers of launches: what a worker starts for each and looks after. Here: processes of this machine."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from autoprune.api.launches import log_file
from autoprune.errors import ConfigError, without_password
from autoprune.logs import child_environment
from autoprune.types import Launch

if TYPE_CHECKING:
    from autoprune.store import Store

__all__ = ["Drivers", "End", "ProcessDrivers"]


@dataclass(frozen=True)
class End:
    """How a driver ended."""

    code: int | None = None
    """Negative: killed by that signal; None: it is gone, and nobody knows how."""
    refused: str = ""
    """Why it could not begin, where another attempt would fail alike."""


class Drivers(Protocol):
    """Starts drivers and looks after them. A driver is a name that outlives the worker: the next one adopts it."""

    outlive: bool
    """They go on when a worker ends in good order."""

    def owns(self, driver: str) -> bool:
        """Whether this is a name of ours."""
        ...

    def start(self, launch: Launch) -> str:
        """Begin the next attempt at a launch. Raises ConfigError when it cannot be begun at all, and ServiceError
        when it can be tried again later."""
        ...

    def end(self, driver: str, launch: Launch, store: Store) -> End | None:
        """None while it runs."""
        ...

    def may_live(self, driver: str) -> bool:
        """As far as it can be waited for from here."""
        ...

    def interrupt(self, driver: str) -> None:
        """Ask for its end, as Ctrl-C does."""
        ...

    def kill(self, driver: str) -> None:
        """It did not follow."""
        ...


class ProcessDrivers:
    """Each a process ``autoprune drive``, whose session is its own."""

    outlive = False

    def __init__(self, store_url: str, command: Sequence[str] = ()) -> None:
        self._url = store_url
        self._command = tuple(command) or (sys.executable, "-m", "autoprune", "drive")
        self._children: dict[str, subprocess.Popen[bytes]] = {}

    def owns(self, driver: str) -> bool:
        return True  # also what another machine began: its searches say whether they are driven

    def start(self, launch: Launch) -> str:
        from autoprune.store import new_owner

        log = log_file(launch.id, store=self._url)
        # A password has no place in a list of processes.
        secret = without_password(self._url) != self._url
        command = [*self._command, str(launch.id), *(() if secret else ("--store", self._url))]
        environment = {**child_environment(), **({"AUTOPRUNE_STORE": self._url} if secret else {})}
        try:
            log.parent.mkdir(parents=True, exist_ok=True)
            with log.open("ab") as file:
                process = subprocess.Popen(
                    command,
                    stdin=subprocess.DEVNULL,
                    stdout=file,
                    stderr=file,
                    start_new_session=True,
                    env=environment,
                )
        except OSError as error:
            raise ConfigError(f"its driver cannot be started: {error.strerror}.") from None
        driver = new_owner(process.pid)
        self._children[driver] = process
        return driver

    def end(self, driver: str, launch: Launch, store: Store) -> End | None:
        from autoprune.store import leases, paging

        if (child := self._children.get(driver)) is not None:
            code = child.poll()
            return None if code is None else End(code)
        if leases.is_here(driver):
            return End() if leases.is_gone(driver) else None
        driven = paging.activity(store).get(launch.search, (0.0, False))[1]
        return None if driven else End()

    def may_live(self, driver: str) -> bool:
        from autoprune.store import leases

        if (child := self._children.get(driver)) is not None:
            return child.poll() is None
        return leases.is_here(driver) and not leases.is_gone(driver)

    def interrupt(self, driver: str) -> None:
        _signal(driver, signal.SIGINT)

    def kill(self, driver: str) -> None:
        _signal(driver, signal.SIGKILL)


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
