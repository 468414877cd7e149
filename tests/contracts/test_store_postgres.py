"""The contracts of stores, on a server that the tests start."""

import pytest

from autoprune.store import open_store, tables
from autoprune.testing.pack_contract import PackContract
from autoprune.testing.postgres_server import PostgresServer
from autoprune.testing.store_contract import StoreContract


@pytest.fixture(scope="module")
def database(postgres: PostgresServer) -> str:
    """The URL of one store for all tests of this file: making one takes longer than most of them."""
    url = postgres.new_database()
    open_store(url).close()
    return url


@pytest.fixture
def emptied(postgres: PostgresServer, database: str) -> str:
    names = sorted(set(tables.metadata.tables) - {"schema_version"})
    postgres.execute(f"TRUNCATE {', '.join(names)} RESTART IDENTITY", database)
    return database


class TestPostgres(StoreContract):
    @pytest.fixture
    def store_url(self, emptied: str) -> str:
        return emptied


class TestPostgresPacks(PackContract):
    @pytest.fixture
    def store_url(self, emptied: str) -> str:
        return emptied
