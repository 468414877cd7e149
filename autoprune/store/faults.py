"""What can go wrong below the store, said to a person, and which of it may pass by itself."""

from __future__ import annotations

import errno
import re
from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from autoprune.errors import StoreError, without_password

__all__ = ["os_fault", "passes", "told_to_people"]

_SQLITE = (
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

_REFUSED = (
    (
        "password authentication failed",
        "the server does not accept this user with this password",
        "Check both in the URL; in a password, write characters such as @ : / % as %40 %3A %2F %25.",
    ),
    (
        "no password supplied",
        "the server asks for a password",
        "Write postgresql://USER:PASSWORD@HOST/DATABASE, or keep the password in ~/.pgpass.",
    ),
    (
        "pg_hba.conf",
        "the server does not let this user connect from here",
        "Its administrator allows it in pg_hba.conf; for a connection with TLS add ?sslmode=require to the URL.",
    ),
    (
        "role .* does not exist",
        "the server does not know the user",
        "Check the user in the URL.",
    ),
    (
        "database .* does not exist",
        "the server has no such database",
        "Create it with createdb, or check the name behind the last slash of the URL.",
    ),
    (
        "permission denied",
        "the user of the URL may not do that",
        "Let it own the database, or grant it CREATE on the schema and all rights on the tables.",
    ),
    (
        "read-only transaction",
        "it cannot be written: the server is a standby, or set to be read only",
        "Give the URL of the primary server.",
    ),
    (
        "(relation|column) .* does not exist",
        "it lacks tables or columns that an autoprune store has",
        "Pass the URL of the right database with --store.",
    ),
)
"""Of a server: no use in asking again."""

_SERVER = (
    *_REFUSED,
    (
        "no space left",
        "the server's disk is full",
        "Everything committed so far is kept: free some space there and run the same command again to go on.",
    ),
    (
        "too many (clients|connections)|remaining connection slots",
        "the server has no connection left",
        "Raise its max_connections, or run fewer drivers and workers.",
    ),
    (
        "name or service not known|failed to resolve|name resolution|could not translate host",
        "there is no host of that name",
        "Check the host in the URL.",
    ),
    (
        "refused|timeout expired|timed out|no route|unreachable|starting up|shutting down|server closed|terminating",
        "the server does not answer",
        "Check the host and the port in the URL, and that the server runs.",
    ),
)

_PASSING_STATES = {"40001", "40P01", "53300", "55P03", "57P01", "57P02", "57P03"}
"""Of PostgreSQL: conflicts and deadlocks, no connection left, a lock not had in time, a server that goes or comes."""


@contextmanager
def told_to_people(where: str) -> Iterator[None]:
    """Turn the database's own errors into StoreError with the cause and the next step."""
    try:
        yield
    except DBAPIError as error:
        if isinstance(error.orig, OSError):
            raise os_fault(where, error.orig) from error
        raise _explained(where, error) from error
    except PoolTimeout as error:
        raise _said(where, _SQLITE, "database is locked") from error
    except OSError as error:
        raise os_fault(where, error) from error


def passes(error: StoreError) -> bool:
    """Whether the same call may succeed a moment later, as nothing but the server or a lock stood in its way."""
    cause = error.__cause__
    if not isinstance(cause, DBAPIError):
        return False
    text = " ".join(str(cause.orig).lower().split())
    if not _of_server(cause):
        return "locked" in text or "busy" in text
    state = getattr(cause.orig, "sqlstate", None)
    if state is not None:
        return cause.connection_invalidated or state in _PASSING_STATES or state.startswith("08")
    # The driver knows no code for a connection that was never made, or that broke.
    return type(cause.orig).__name__ == "OperationalError" and not any(re.search(sign, text) for sign, _, _ in _REFUSED)


def _of_server(error: DBAPIError) -> bool:
    return type(error.orig).__module__.startswith("psycopg")


def _explained(where: str, error: DBAPIError) -> StoreError:
    text = without_password(" ".join(str(error.orig).split()))
    return _said(where, _SERVER if _of_server(error) else _SQLITE, text)


def _said(where: str, known: tuple[tuple[str, str, str], ...], text: str) -> StoreError:
    for sign, cause, hint in known:
        if re.search(sign, text.lower()):
            return StoreError(f"store {where!r}: {cause} ({text}).", hint)
    return StoreError(f"store {where!r}: the database refused ({text}).", "Check it, or pass another --store.")


def os_fault(where: str, error: OSError) -> StoreError:
    """The operating system's refusal, with its reason."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return _said(where, _SQLITE, "database or disk is full")
    return StoreError(
        f"store {where!r} cannot be used: {error.strerror or error}"
        + (f" ({error.filename})." if error.filename else "."),
        "Choose a folder that you may write with --store, for example --store sqlite:///results/autoprune.db.",
    )
