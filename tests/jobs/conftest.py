"""A stand-in for a cluster's job server, and no waiting between two looks at it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from autoprune.api import ray_drivers, submitting, working
from tests.jobs.fake_job_server import FakeCluster, fake_cluster


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for module, name, seconds in (
        (submitting, "_STEP_SECONDS", 0.01),
        (ray_drivers, "_LOOK_SECONDS", 0.01),
        (ray_drivers, "_SILENT_SECONDS", 0.01),
        (working, "_STEP_SECONDS", 0.01),
        (working, "_PAUSE", 0.05),
    ):
        monkeypatch.setattr(module, name, seconds)
    for name in ("RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH", "AUTOPRUNE_STORE", "RAY_API_SERVER_ADDRESS", "RAY_ADDRESS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))  # a token of the person who runs the tests stays out
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def cluster() -> Iterator[FakeCluster]:
    with fake_cluster() as made:
        yield made
