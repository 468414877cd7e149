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
from autoprune.cli.main import main
from autoprune.errors import Conflict
from autoprune.types import Trial

ROOT = Path(__file__).resolve().parents[2]
MANY = 5000
"""More trials than any driver here gets to run: none can be over before it is caught."""


@pytest.fixture
def launch_file(workplace: Path, launch: dict[str, Any]) -> Path:
    """A search on Ray whose trials take long enough (all digits, small batches) to be caught in the middle."""
    launch["executor"] = {"kind": "ray", "max_parallel": 2}
    launch["evaluator"] = {"calibration_images": 1000, "validation_images": 287, "batch_size": 16}
    launch["limits"] = {"trials": MANY}
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


def here(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    """A command in this process, which has torch imported already."""
    with pytest.raises(SystemExit) as left:
        main(arguments)
    return int(left.value.code or 0), *capsys.readouterr()


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


def assert_whole(before: list[Trial], trials: int) -> None:
    """Every trial is there once and complete; what was measured before the fault was not measured again."""
    after = trials_so_far()
    assert [trial.number for trial in after] == list(range(trials))
    assert {trial.state.value for trial in after} == {"complete"}
    assert [after[trial.number] == trial for trial in before] == [True] * len(before)
    digests = [trial.candidate.digest for trial in after if not trial.duplicate_of]
    assert len(set(digests)) == len(digests)


@pytest.mark.timeout(600)
def test_killed_workers_killed_drivers_and_ctrl_c(launch_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One search: kill -9 of the workers, a second driver, kill -9 of the first, Ctrl-C after a resume, the end.

    The end without Ray, in this process: a search can be moved.
    """
    driver = start("search", str(launch_file))
    try:
        kill_the_workers(driver)
        with pytest.raises(Conflict, match=str(driver.pid)):
            autoprune.search(launch_file)
    finally:
        os.killpg(driver.pid, signal.SIGKILL)
        driver.communicate()
    before = finished()

    driver = start("resume", "small")
    wait_for(lambda: len(finished()) >= len(before) + 2, driver)
    driver.send_signal(signal.SIGINT)
    code, out, err = finish(driver)
    assert code == 130, err
    assert "resume with: autoprune resume small" in err
    assert "Traceback" not in err
    assert "on the front of" in out
    interrupted = finished()
    kept = {trial.number: trial for trial in interrupted}  # one with a lower number may have run when the driver died
    assert [kept[trial.number] for trial in before] == before

    trials = len(interrupted) + 6
    moved = ["--set", "executor={kind: serial}", "--set", f"limits.trials={trials}", "--format", "json"]
    code, out, err = here(capsys, "search", str(launch_file), *moved)
    assert code == 0, err
    front = json.loads(out)
    assert (front["search"], set(front)) == ("small", {"search", "baseline", "front"})
    assert_whole(before_test_split(interrupted), trials)
    retried = [trial for trial in trials_so_far() if trial.attempt > 1]
    assert len(retried) <= 3 * 2, "what two workers had in hand at each of the three faults"


def kill_the_workers(driver: subprocess.Popen[str]) -> None:
    """The search goes on in others."""
    wait_for(lambda: len(finished()) >= 2, driver)
    killed = workers()
    for pid in killed:
        os.kill(pid, signal.SIGKILL)
    wait_for(lambda: not workers() <= killed, driver)


def workers() -> set[int]:
    """Process ids of those that have measured anything so far."""
    return {int(trial.worker.rpartition(":")[2]) for trial in finished() if not trial.duplicate_of}


def before_test_split(trials: list[Trial]) -> list[Trial]:
    """Members of the final front also get test metrics: compare the others."""
    later = {trial.number for trial in trials_so_far() if "test_top1" in trial.metrics}
    return [trial for trial in trials if trial.number not in later]


def test_messages_and_exit_codes(workplace: Path, launch: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
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
    said = {}
    for arguments, (expected, text) in cases.items():
        code, out, said[arguments] = here(capsys, *arguments)
        err = said[arguments]
        assert (code, out) == (expected, ""), (arguments, err)
        assert text in err
        assert "Traceback" not in err
    in_its_own_process = finish(start("search", "typo.yaml"))
    assert in_its_own_process == (2, "", said["search", "typo.yaml"])
