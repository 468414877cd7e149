from pathlib import Path

import pytest

from autoprune.testing.store_contract import StoreContract


class TestSqlite(StoreContract):
    @pytest.fixture
    def store_url(self, tmp_path: Path) -> str:
        return f"sqlite:///{tmp_path}/store.db"
