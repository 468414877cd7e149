"""One thread for torch, here and in the processes that tests start: the networks are small and the tests many.

And Ctrl-C as in a terminal: a shell starts what it runs in the background deaf to it, which children inherit.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator

import pytest

from autoprune.testing.postgres_server import PostgresMissing, PostgresServer

os.environ.setdefault("OMP_NUM_THREADS", "1")
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    """One PostgreSQL server for the session; tests that stop it make their own with ``PostgresServer()``."""
    pytest.importorskip("psycopg", reason="psycopg is not installed: pip install 'autoprune[postgres]'")
    try:
        server = PostgresServer()
    except PostgresMissing as reason:
        pytest.skip(str(reason))
    with server:
        yield server


@pytest.fixture
def postgres_url(postgres: PostgresServer) -> str:
    """The URL, with its password, of a new and empty database."""
    return postgres.new_database()
