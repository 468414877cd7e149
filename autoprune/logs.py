"""What happens, as lines of JSON for machines: one object a line, in a file that several processes may share.

    {"time": "2026-11-21T19:20:07.123Z", "level": "warning", "event": "trial.retried", "search": "quickstart",
     "trial": 12, "worker": "10.0.0.2:4711", "message": "...", "logger": "autoprune.driver.session", "pid": 99, ...}

Events have stable names (``EVENTS``); other keys may join them. Modules log with ``emit``, which any handler of
``logging`` may read; ``writing`` adds the file. Passwords and tokens are masked in every line.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import re
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import datetime, timezone
from logging.handlers import RotatingFileHandler
from pathlib import Path
from types import MappingProxyType
from typing import Any

from autoprune.errors import ConfigError, without_password

__all__ = ["EVENTS", "FILE", "LEVEL", "about", "child_environment", "emit", "masked", "writing"]

EVENTS: Mapping[str, str] = {
    "search.started": "a driver begins a new search; limit: its trials",
    "search.resumed": "a driver goes on with a stored search; trials: those that are finished",
    "search.ended": "a driver leaves a search; state: how the search stands, reason: why it was stopped or broke",
    "trial.started": "a trial was handed to a worker; attempt: from 1",
    "trial.finished": "a trial ended; state, seconds, reason",
    "trial.reused": "a trial was answered by an equal one that was measured before; origin",
    "trial.retried": "an attempt met an accident and the trial is run again; reason",
    "trial.failed": "all attempts of a trial met accidents; reason",
    "worker.lost": "a worker process is gone, and with it what it ran; reason",
    "lease.lost": "another driver took the search; this one writes no more",
    "lease.renew_failed": "a lease could not be renewed; it is tried again until it runs out",
    "database.retried": "the database does not answer and is asked again",
    "database.answered": "the database answers again; seconds",
    "store.migrated": "a store was brought to this version's schema; before, after",
    "launch.claimed": "a worker took a launch from the queue; launch",
    "launch.adopted": "a worker looks after a driver that an earlier worker started; launch",
    "launch.started": "a driver was started for a launch; launch, driver",
    "launch.ended": "a launch ended, or waits again; launch, state, reason",
    "request.failed": "a request of the service met a defect; method, path",
    "log": "any other message",
}

FILE = "AUTOPRUNE_LOG"
LEVEL = "AUTOPRUNE_LOG_LEVEL"
_LEVELS = ("debug", "info", "warning", "error")
_BYTES = 16 << 20
_KEPT = 4
"""Files of so many bytes that are kept beside the one that is written: FILE.1 is the youngest."""

_about: ContextVar[Mapping[str, Any]] = ContextVar("autoprune_log_about", default=MappingProxyType({}))
_child: dict[str, str] = {}
"""What processes that are started from here find in their environment; of the process, for threads start some."""


def emit(
    logger: logging.Logger,
    level: int,
    event: str,
    message: str,
    *args: object,
    exc_info: Any = None,
    **about: Any,
) -> None:
    """Log a message as one of ``EVENTS``, with what it is about (search, trial, worker...) beside its text."""
    if logger.isEnabledFor(level):
        found = {key: value for key, value in about.items() if value not in ("", None)}
        logger.log(level, message, *args, exc_info=exc_info, extra={"event": event, "about": found})


@contextmanager
def about(**what: object) -> Iterator[None]:
    """Within, every message of this thread says what it is about, such as ``search="quickstart"``."""
    token = _about.set({**_about.get(), **what})
    try:
        yield
    finally:
        _about.reset(token)


# --- lines -----------------------------------------------------------------------------------------------------------

_SECRETS = re.compile(
    r"(?P<before>\bbearer\s+|\b(?:token|secret|passw(?:or)?d|api[_-]?key|authorization)\b[\"']?\s*[=:]\s*[\"']?)"
    r"(?!bearer\b)[^\s\"',;&]+",
    re.IGNORECASE,
)


def masked(text: str) -> str:
    """The text with ``***`` for passwords and tokens.

    >>> masked("Authorization: Bearer abc.def, token=xyz at postgresql://me:pw@db/x")
    'Authorization: Bearer ***, token=*** at postgresql://me:***@db/x'
    """
    return _SECRETS.sub(r"\g<before>***", without_password(text))


class _Lines(logging.Formatter):
    """A record as one line of JSON."""

    def format(self, record: logging.LogRecord) -> str:
        at = datetime.fromtimestamp(record.created, timezone.utc).isoformat(timespec="milliseconds")
        said = {
            "time": at.replace("+00:00", "Z"),
            "level": record.levelname.lower(),
            "event": getattr(record, "event", "log"),
            **_about.get(),
            **getattr(record, "about", {}),
            "message": record.getMessage(),
            "logger": record.name,
            "pid": record.process,
        }
        if record.exc_info:
            said["error"] = self.formatException(record.exc_info)
        return json.dumps({key: _plain(value) for key, value in said.items()})


def _plain(value: object) -> object:
    if value is None or isinstance(value, (bool, int)):
        return value
    if isinstance(value, float):
        return value if value == value and abs(value) != float("inf") else None
    return masked(str(value))


class _SharedFile(RotatingFileHandler):
    """A file that several processes append to: a line is one write, and whoever renames it holds its lock."""

    def emit(self, record: logging.LogRecord) -> None:
        try:
            line = self.format(record).encode("utf-8", "backslashreplace") + b"\n"
            os.write(self._with_room(len(line)), line)
        except Exception:  # noqa: BLE001 (logging ends no search)
            self.handleError(record)

    def _with_room(self, more: int) -> int:
        """The descriptor of a file that is not full."""
        import fcntl

        while True:
            stream = self.stream = self.stream or self._open()
            here = stream.fileno()
            if not self._was_renamed(here) and os.fstat(here).st_size + more <= self.maxBytes:
                return here
            held = os.dup(here)  # keeps the lock while the stream is closed and the files are renamed
            try:
                fcntl.flock(held, fcntl.LOCK_EX)
                if self._was_renamed(here):
                    stream.close()
                    self.stream = None
                else:
                    self.doRollover()
            finally:
                os.close(held)

    def _was_renamed(self, descriptor: int) -> bool:
        here = os.fstat(descriptor)
        with contextlib.suppress(FileNotFoundError):
            there = os.stat(self.baseFilename)
            return (here.st_dev, here.st_ino) != (there.st_dev, there.st_ino)
        return True

    _complained = False

    def handleError(self, record: logging.LogRecord) -> None:
        """Once, and without a traceback: a full disk must not flood the screen."""
        if not self._complained:
            self._complained = True
            with contextlib.suppress(OSError):
                sys.stderr.write(f"warning: the log {self.baseFilename} cannot be written: {sys.exc_info()[1]}\n")


# --- the file --------------------------------------------------------------------------------------------------------


@contextmanager
def writing(file: str | None, level: str = "info") -> Iterator[None]:
    """Within, everything that autoprune logs is appended to ``file`` as well; nothing changes when it is None.

    Warnings go to stderr as before. Raises ConfigError for an unknown level, or a file that cannot be written.
    """
    if level not in _LEVELS:
        raise ConfigError(f"log level {level!r} is unknown.", f"Known: {', '.join(_LEVELS)}.")
    if not file:
        yield
        return
    handler = _opened(Path(file).absolute())
    root = logging.getLogger("autoprune")
    before, chosen = root.level, getattr(logging, level.upper())
    handler.setLevel(chosen)
    root.setLevel(min(chosen, logging.WARNING))
    handlers = (handler, _Shown(sys.stderr))
    for each in handlers:
        root.addHandler(each)
    child = dict(_child)
    _child.update({FILE: handler.baseFilename, LEVEL: level})
    try:
        yield
    finally:
        _child.clear()
        _child.update(child)
        root.setLevel(before)
        for each in handlers:
            root.removeHandler(each)
        handler.close()


def child_environment() -> dict[str, str]:
    """This process's environment for one that it starts: that writes the same log."""
    return {**os.environ, **_child}


def _opened(path: Path) -> _SharedFile:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handler = _SharedFile(path, maxBytes=_BYTES, backupCount=_KEPT, encoding="utf-8")
    except OSError as error:
        raise ConfigError(
            f"the log {str(path)!r} cannot be written: {error.strerror or error}.",
            "Choose another file with --log-file.",
        ) from None
    handler.setFormatter(_Lines())
    return handler


class _Shown(logging.StreamHandler):
    """What logging does where nothing is configured: warnings to stderr, the text alone."""

    def __init__(self, stream: Any) -> None:
        super().__init__(stream)
        self.setLevel(logging.WARNING)

    def emit(self, record: logging.LogRecord) -> None:
        if not logging.getLogger().handlers:
            super().emit(record)
