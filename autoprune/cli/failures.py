"""Errors as a user sees them: a message, the next step, an exit code; a log file instead of a traceback."""

from __future__ import annotations

import contextlib
import errno
import os
import sys
import tempfile
import time
import traceback
from pathlib import Path

from autoprune.errors import AutopruneError, StoreError

__all__ = ["Interrupted", "report"]

DEFECT = 70
INTERRUPTED = 130
_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO, errno.EFBIG)


class Interrupted(Exception):
    """Ctrl-C during a command that can be taken up again by ``hint``."""

    def __init__(self, hint: str) -> None:
        super().__init__(hint)
        self.hint = hint


def report(error: Exception, *, debug: bool) -> int:
    """Say on stderr what went wrong and what to do next; returns the exit code."""
    if isinstance(error, AutopruneError):
        if debug:
            _trace(error)
        _say(f"error: {error.message}", f"hint: {error.hint}" if error.hint else "")
        return error.exit_code
    if isinstance(error, Interrupted):
        _say("interrupted: what was measured is kept.", error.hint)
        return INTERRUPTED
    if isinstance(error, OSError) and error.errno in _DISK:
        return report(_disk(error), debug=debug)
    if debug:
        _trace(error)
    log = _write_log(error)
    _say(
        f"error: autoprune failed unexpectedly: {type(error).__name__}: {_first_line(error)}",
        f"hint: the traceback is in {log}; please send it with your report." if log else "hint: --debug shows more.",
    )
    return DEFECT


def _disk(error: OSError) -> StoreError:
    """What no part of the program has put into words: a log that fills the disk, a folder that turned read-only."""
    where = f": {error.filename}" if error.filename else ""
    return StoreError(
        f"the disk refused: {error.strerror}{where}.",
        "What was measured is kept. Free some space, then run the same command again.",
    )


def _say(*lines: str) -> None:
    # stderr may be closed as well; there is then nobody left to tell
    with contextlib.suppress(OSError):
        sys.stderr.write("".join(f"{line}\n" for line in lines if line))


def _trace(error: Exception) -> None:
    _say("".join(traceback.format_exception(error)).rstrip())


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or ["no message"])[0][:300]


def _write_log(error: Exception) -> Path | None:
    """The traceback in autoprune's cache folder, or in the temporary one; None when neither can be written."""
    home = Path(os.environ.get("AUTOPRUNE_HOME") or Path.home() / ".cache" / "autoprune")
    name = f"error-{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}.log"
    text = f"command: {' '.join(sys.argv)}\n\n{''.join(traceback.format_exception(error))}"
    for folder in (home / "logs", Path(tempfile.gettempdir())):
        with contextlib.suppress(OSError):
            folder.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text(text, encoding="utf-8")
            return folder / name
    return None
