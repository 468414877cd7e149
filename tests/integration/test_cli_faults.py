"""The command line in processes of its own: kill -9 of driver and worker, Ctrl-C, a second driver; then resume."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

import autoprune
from autoprune.types import Trial

ROOT = Path(__file__).resolve().parents[2]
TRIALS = 40


@pytest.fixture
def launch_file(workplace: Path, launch: dict[str, Any]) -> Path:
    """A search on Ray whose trials take long enough (all digits, small batches) to be caught in the middle."""
    launch["executor"] = {"kind": "ray", "max_parallel": 2}
    launch["evaluator"] = {"calibration_images": 1000, "validation_images": 287, "batch_size": 16}
    launch["limits"] = {"trials": TRIALS}
    path = workplace / "launch.yaml"
    path.write_text(yaml.safe_dump(launch))
    return path


def start(*arguments: str) -> subprocess.Popen[str]:
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"}
    return subprocess.Popen(
        [sys.executable, "-m", "autoprune", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
        start_new_session=True,
    )


def finish(process: subprocess.Popen[str], seconds: float = 240) -> tuple[int, str, str]:
    out, err = process.communicate(timeout=seconds)
    return process.returncode, out, err


def trials_so_far() -> list[Trial]:
    try:
        return autoprune.trials("small")
    except autoprune.AutopruneError:
        return []


def wait_for(condition: Callable[[], bool], process: subprocess.Popen[str], seconds: float = 180) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        if process.poll() is not None:
            pytest.fail(f"the process ended early: {process.communicate()[1]}")
        assert time.monotonic() < deadline
        time.sleep(0.05)


def finished() -> list[Trial]:
    return [trial for trial in trials_so_far() if trial.state.finished]


def assert_whole(before: list[Trial]) -> None:
    """Every trial is there once and complete; what was measured before the fault was not measured again."""
    after = trials_so_far()
    assert [trial.number for trial in after] == list(range(TRIALS))
    assert {trial.state.value for trial in after} == {"complete"}
    assert [after[trial.number] == trial for trial in before] == [True] * len(before)
    digests = [trial.candidate.digest for trial in after if not trial.duplicate_of]
    assert len(set(digests)) == len(digests)


def test_kill_the_driver_then_resume(launch_file: Path) -> None:
    driver = start("search", str(launch_file))
    wait_for(lambda: len(finished()) >= 5, driver)
    driver.send_signal(signal.SIGSTOP)  # alive, but it must not finish before the second driver has come up
    code, _, err = finish(start("search", str(launch_file), "--quiet"))
    assert code == 3, err
    assert str(driver.pid) in err
    os.killpg(driver.pid, signal.SIGKILL)
    driver.communicate()
    before = finished()
    assert 5 <= len(before) < TRIALS, "the search was over before it could be killed"
    code, out, err = finish(start("resume", "small", "--format", "json"))
    assert code == 0, err
    front = json.loads(out)
    assert (front["search"], set(front)) == ("small", {"search", "baseline", "front"})
    assert_whole(before_test_split(before))


def before_test_split(trials: list[Trial]) -> list[Trial]:
    """Members of the final front also get test metrics: compare the others."""
    later = {trial.number for trial in trials_so_far() if "test_top1" in trial.metrics}
    return [trial for trial in trials if trial.number not in later]


def test_kill_a_worker_and_its_trial_is_run_again(launch_file: Path) -> None:
    driver = start("search", str(launch_file))
    wait_for(lambda: len(finished()) >= 4, driver)
    killed = int(finished()[0].worker.rpartition(":")[2])
    os.kill(killed, signal.SIGKILL)
    code, _, err = finish(driver)
    assert code == 0, err
    assert_whole([])
    retried = [trial for trial in trials_so_far() if trial.attempt > 1]
    assert len(retried) <= 1
    assert killed not in {int(trial.worker.rpartition(":")[2]) for trial in trials_so_far()[-2:]}


def test_ctrl_c_keeps_what_was_measured_and_says_how_to_go_on(launch_file: Path) -> None:
    driver = start("search", str(launch_file))
    wait_for(lambda: len(finished()) >= 3, driver)
    driver.send_signal(signal.SIGINT)
    code, out, err = finish(driver)
    assert code == 130, err
    assert "resume with: autoprune resume small" in err
    assert "Traceback" not in err
    assert "on the front of" in out
    before = finished()
    assert 3 <= len(before) < TRIALS
    assert finish(start("resume", "small", "--quiet"))[0] == 0
    assert_whole(before_test_split(before))


def test_messages_and_exit_codes(workplace: Path, launch: dict[str, Any]) -> None:
    launch["constraints"] = ["macs <= 1k"]
    (workplace / "launch.yaml").write_text(yaml.safe_dump(launch))
    (workplace / "typo.yaml").write_text("nam: x\n")
    (workplace / "store.db").write_bytes(b"not a database at all" * 100)
    cases = {
        ("search", "launch.yaml"): (5, "smallest"),
        ("search", "typo.yaml"): (2, "Did you mean 'name'"),
        ("front", "small"): (3, "error: "),
        ("searches", "--store", "sqlite:///store.db"): (4, "store.db"),
        ("search", "launch.yaml", "--set", "limits.trials=-1"): (2, "limits.trials"),
    }
    for arguments, (expected, text) in cases.items():
        code, out, err = finish(start(*arguments))
        assert (code, out) == (expected, ""), (arguments, err)
        assert text in err
        assert "Traceback" not in err
