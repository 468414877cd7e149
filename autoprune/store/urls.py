"""What the URL of a store names, and how it may be shown."""

from __future__ import annotations

import re
from pathlib import Path

from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError

from autoprune.errors import ConfigError, without_password

__all__ = ["is_server", "local_file", "parsed", "shown", "sqlite_path"]

_HINT = (
    "Write for example sqlite:///results/autoprune.db (a fourth slash for an absolute path),"
    " or postgresql://USER:PASSWORD@HOST/DATABASE."
)
_SQLITE = ("sqlite", "sqlite+pysqlite")
_POSTGRES = ("postgresql", "postgresql+psycopg", "postgres")


def parsed(url: str) -> URL:
    """The parts of a store's URL. Raises ConfigError for one that is no store, without its password."""
    try:
        parts = make_url(url)
    except (ArgumentError, ValueError):
        raise ConfigError(
            f"store {shown(url)!r} is not a URL: expected sqlite:///PATH or postgresql://USER@HOST/DATABASE.", _HINT
        ) from None
    if parts.drivername in _SQLITE:
        return _file(url, parts)
    if parts.drivername in _POSTGRES:
        return _server(url, parts)
    raise ConfigError(
        f"store {shown(url)!r}: scheme {parts.drivername!r} is not supported, only sqlite and postgresql are.", _HINT
    )


def _file(url: str, parts: URL) -> URL:
    if not parts.database or parts.database == ":memory:" or parts.host:
        raise ConfigError(f"store {shown(url)!r} names no file: a search must outlive its process.", _HINT)
    if parts.query:
        raise ConfigError(f"store {shown(url)!r}: options after '?' are not supported.", _HINT)
    return parts


def _server(url: str, parts: URL) -> URL:
    if not parts.database:
        raise ConfigError(f"store {shown(url)!r} names no database: expected it behind the host.", _HINT)
    if "@" in (parts.host or ""):
        raise ConfigError(f"store {shown(url)!r}: an '@' in a password is written %40.", _HINT)
    return parts.set(drivername="postgresql+psycopg")


def is_server(url: str) -> bool:
    """Whether the store is PostgreSQL's, not a file. Raises ConfigError."""
    return parsed(url).drivername not in _SQLITE


def shown(url: str) -> str:
    """The URL as it may be printed: without a password."""
    return without_password(url)


def sqlite_path(url: str) -> Path:
    """The file of a store of SQLite. Raises ConfigError for any other."""
    parts = parsed(url)
    if parts.drivername not in _SQLITE:
        raise ConfigError(f"store {shown(url)!r} is a server's: this works on files of SQLite alone.", _HINT)
    return Path(parts.database or "").expanduser()


def local_file(url: str) -> Path:
    """The file beside which logs and exports lie: the store's own, or for a server ``results/HOST-DATABASE.db``.

    That is a name only, in the folder where the process was started: no file of that name is made.
    """
    parts = parsed(url)
    if parts.drivername in _SQLITE:
        return Path(parts.database or "").expanduser()
    plain = re.sub(r"[^\w.-]+", "_", f"{parts.host or 'local'}-{parts.database}")
    return Path("results") / f"{plain}.db"
