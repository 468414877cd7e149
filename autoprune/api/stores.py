"""Which store a call means, and opening it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from autoprune.store import Store

__all__ = ["DEFAULT_STORE", "is_server", "open_at", "store_file", "store_url"]

DEFAULT_STORE = "sqlite:///results/autoprune.db"


def store_url(store: str | None) -> str:
    """The URL given, else ``$AUTOPRUNE_STORE``, else the default."""
    return store or os.environ.get("AUTOPRUNE_STORE") or DEFAULT_STORE


def open_at(url: str, *, read_only: bool = False, patience: float | None = None) -> Store:
    """Open a store, see :func:`autoprune.store.open_store`; SQLAlchemy is imported here and not before."""
    from autoprune.store import open_store

    return open_store(url, read_only=read_only, patience=patience)


def is_server(url: str) -> bool:
    """Whether the store is PostgreSQL's, not a file. Raises ConfigError for a URL that is none."""
    from autoprune.store import urls

    return urls.is_server(url)


def store_file(url: str) -> Path:
    """The file of a store, or for a server the name beside which logs and exports lie: ``results/HOST-DATABASE.db``.

    Raises ConfigError for a URL that is none.
    """
    from autoprune.store.urls import local_file

    return local_file(url)
