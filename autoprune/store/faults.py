"""What can go wrong below the store, said to a person."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from autoprune.errors import StoreError

__all__ = ["os_fault", "told_to_people"]

_KNOWN = (
    (
        "disk is full",
        "the disk is full",
        "Everything committed so far is kept: free some space and run the same command again to go on.",
    ),
    (
        "locked",
        "another process has kept it locked for longer than the store waits",
        "Close whatever holds the file (a database browser, a copy in progress), then run the same command again.",
    ),
    (
        "readonly",
        "it cannot be written",
        "Check the permissions of the file and of its folder (SQLite writes two files beside it), or pass --store.",
    ),
    (
        "unable to open",
        "the file cannot be opened",
        "Check that the path is a file and that its folder may be entered and written, or pass --store.",
    ),
    (
        "not a database",
        "the file is not an SQLite database",
        "Pass the right file with --store, or move this one away.",
    ),
    (
        "malformed",
        "the file is damaged",
        "Restore a copy, or save what is readable with: sqlite3 FILE .recover | sqlite3 NEW.",
    ),
    (
        "disk i/o error",
        "the disk refused to read or write",
        "Check the free space, quotas and file-size limits, and the health of the disk. What was committed is kept.",
    ),
    (
        "no such table",
        "it lacks tables that an autoprune store has",
        "Pass the right file with --store.",
    ),
)


@contextmanager
def told_to_people(where: str) -> Iterator[None]:
    """Turn the database's own errors into StoreError with the cause and the next step."""
    try:
        yield
    except DBAPIError as error:
        if isinstance(error.orig, OSError):
            raise os_fault(where, error.orig) from error
        raise _explained(where, str(error.orig)) from error
    except PoolTimeout as error:
        raise _explained(where, "database is locked") from error
    except OSError as error:
        raise os_fault(where, error) from error


def _explained(where: str, text: str) -> StoreError:
    lowered = text.lower()
    for sign, cause, hint in _KNOWN:
        if sign in lowered:
            return StoreError(f"store {where!r}: {cause} ({text}).", hint)
    return StoreError(f"store {where!r}: the database refused ({text}).", "Check the file, or pass another --store.")


def os_fault(where: str, error: OSError) -> StoreError:
    """The operating system's refusal, with its reason."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return _explained(where, "database or disk is full")
    return StoreError(
        f"store {where!r} cannot be used: {error.strerror or error}"
        + (f" ({error.filename})." if error.filename else "."),
        "Choose a folder that you may write with --store, for example --store sqlite:///results/autoprune.db.",
    )
