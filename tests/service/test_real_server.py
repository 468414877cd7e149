"""``autoprune serve`` as a process: a search, kill -9 of its driver and of the server, a model taken home."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

import autoprune
from autoprune.api import launches
from autoprune.types import LaunchState, Trial

ROOT = Path(__file__).resolve().parents[2]
CONFIG = {
    "name": "small",
    "space": {
        "model": {"kind": "builtin", "name": "resnet8"},
        "data": {"kind": "digits"},
        "base": {"recipe": {"epochs": 2, "batch_size": 64, "lr": 0.1}},
        "rules": [{"multiple": 2, "floor": 0.25}],
    },
    "controller": {"kind": "random"},
    # long enough to be caught in the middle of a trial, more trials than there is time for
    "evaluator": {"calibration_images": 1000, "validation_images": 287, "batch_size": 16},
    "executor": {"kind": "serial"},
    "limits": {"trials": 5000},
}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("AUTOPRUNE_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("PYTHONPATH", f"{ROOT}{os.pathsep}{os.environ.get('PYTHONPATH', '')}")
    monkeypatch.delenv("AUTOPRUNE_STORE", raising=False)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def serve(*arguments: str) -> tuple[subprocess.Popen[str], str]:
    command = [sys.executable, "-m", "autoprune", "serve", "--port", "0", "--store", "sqlite:///a.db", *arguments]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, start_new_session=True)
    assert process.stderr is not None
    for line in process.stderr:
        if found := re.search(r"at (http://\S+)/ ", line):
            return process, found[1]
    raise AssertionError("the server ended")


def until(condition: Callable[[], bool], seconds: float = 240) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def finished(client: autoprune.Client) -> list[Trial]:
    try:
        return [trial for trial in client.trials("small") if trial.state.finished]
    except autoprune.AutopruneError:
        return []


def driver(launch_id: int) -> int:
    until(lambda: launches.launch(launch_id, store="sqlite:///a.db").driver != "")
    return int(launches.launch(launch_id, store="sqlite:///a.db").driver.rsplit(":", 2)[1])


@pytest.mark.timeout(600)
def test_a_search_outlives_its_driver_and_its_server(folder: Path) -> None:
    server, url = serve("--token-file", "tokens")
    token = re.findall(r"^launch (\S+)", (folder / "tokens").read_text(), re.MULTILINE)[0]
    with pytest.raises(autoprune.AutopruneError, match="token is required"), autoprune.Client(url) as stranger:
        stranger.launch(CONFIG)
    try:
        with autoprune.Client(url, token) as client:
            launch = client.launch(CONFIG)
            until(lambda: len(finished(client)) >= 2)
            os.kill(driver(launch.id), signal.SIGKILL)
            before = finished(client)
            until(lambda: len(finished(client)) >= len(before) + 2)
            second = driver(launch.id)
    finally:
        server.kill()
        server.communicate()

    server, url = serve("--token-file", "tokens")
    try:
        with autoprune.Client(url, token, poll_seconds=0.1) as client:
            went_on = finished(client)
            until(lambda: len(finished(client)) > len(went_on))
            assert driver(launch.id) == second, "adopted, not started again"
            client.stop("small")
            until(lambda: client.launches("small")[0].state.ended)
            ended = client.launches("small")[0]
            assert (ended.state, ended.message) == (LaunchState.STOPPED, "stopped on request.")
            after = finished(client)
            assert [trial for trial in after if trial.number in {each.number for each in before}] == before
            assert [trial.number for trial in after] == list(range(len(after)))
            assert sum(trial.attempt > 1 for trial in client.trials("small")) <= 1, "what ran when the driver died"
            best = client.select("small").trial
            model = autoprune.load_model(client.export("small", best.number, folder / "model"))
        assert model(torch.zeros(2, 1, 8, 8)).shape == (2, 10)
        assert sum(parameter.numel() for parameter in model.parameters()) == best.metrics["params"]
    finally:
        server.terminate()
        _, said = server.communicate(timeout=60)
    assert server.returncode in (0, -signal.SIGTERM)
    assert "Traceback" not in said
    assert token not in said
