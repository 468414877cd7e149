"""One cache for all: the small base network on the digits is trained once a test session."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

SPACE: dict[str, Any] = {
    "model": {"kind": "builtin", "name": "resnet8"},
    "data": {"kind": "digits"},
    "base": {"recipe": {"epochs": 6, "batch_size": 64, "lr": 0.1, "augment": "crop"}},
    "rules": [{"multiple": 2, "floor": 0.25}],
}


@pytest.fixture(scope="session")
def session_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("home")


@pytest.fixture
def workplace(tmp_path: Path, session_home: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty current folder, autoprune's cache beside it."""
    monkeypatch.setenv("AUTOPRUNE_HOME", str(session_home))
    monkeypatch.delenv("AUTOPRUNE_STORE", raising=False)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def launch() -> dict[str, Any]:
    """A search that takes seconds once the base is trained."""
    return {
        "name": "small",
        "space": SPACE,
        "controller": {"kind": "optuna", "sampler": "tpe", "startup_trials": 4, "seed_uniform": 3},
        "evaluator": {"calibration_images": 100, "validation_images": 287},
        "executor": {"kind": "serial"},
        "limits": {"trials": 10},
    }
