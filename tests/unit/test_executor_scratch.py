"""The folder of a local Ray: removed with its driver, and by the next one when that was killed."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from autoprune.executors.scratch import scratch_folder

HOLD = """
import sys, tempfile
tempfile.tempdir = sys.argv[1]
from autoprune.executors.scratch import scratch_folder
with scratch_folder() as folder:
    print(folder, flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def parent() -> Iterator[Path]:
    """A short path, as sockets need it."""
    with tempfile.TemporaryDirectory(dir="/tmp", prefix="s") as folder:
        yield Path(folder)


def driver(parent: Path) -> tuple[subprocess.Popen[str], Path]:
    command = [sys.executable, "-c", HOLD, str(parent)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    return process, Path(process.stdout.readline().strip())


def test_only_folders_of_ended_drivers_are_removed(parent: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(parent))
    (parent / "autoprune-ray-without").mkdir()
    living, kept = driver(parent)
    killed, stale = driver(parent)
    try:
        (stale / "session" / "sockets").mkdir(parents=True)
        killed.kill()
        killed.wait()
        assert stale.exists(), "kill -9 leaves it"
        with scratch_folder() as mine:
            assert Path(mine).parent == parent
            assert kept.exists()
            assert not stale.exists()
        assert sorted(path.name for path in parent.iterdir()) == sorted([kept.name, "autoprune-ray-without"])
    finally:
        living.communicate("")
        killed.communicate()
    assert not kept.exists(), "a driver that ends in good order takes its folder along"


def test_a_long_temporary_path_is_avoided(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    long = tmp_path / ("x" * 40)
    long.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(long))
    with scratch_folder() as mine:
        assert Path(mine).parent == Path("/tmp")
    assert not Path(mine).exists()
