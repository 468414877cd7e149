"""What a fault is injected into and judged by: a driver's process, what the store knew before, and the log."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from faults_toy import NAME

from autoprune.errors import AutopruneError
from autoprune.store import open_store
from autoprune.types import Trial, TrialState

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
RAY = {"kind": "ray", "max_parallel": 2, "cpus_per_trial": 0.5}


@dataclass
class Bench:
    """A folder with a store and a log, drivers that run on it, and the results that must never change again."""

    folder: Path
    environment: Mapping[str, str] = field(default_factory=dict)
    known: dict[int, Trial] = field(default_factory=dict)
    changed: set[int] = field(default_factory=set)
    """Numbers of finished trials that a later look found gone or different: lost."""

    @property
    def url(self) -> str:
        return f"sqlite:///{self.folder}/a.db"

    def start(self, **spec: Any) -> subprocess.Popen[str]:
        """A driver; its standard output is one line of JSON when it ends well."""
        content = {"url": self.url, "folder": str(self.folder), **spec}
        return subprocess.Popen(
            [sys.executable, str(HERE / "faults_drive.py"), json.dumps(content)],
            env={**os.environ, **python_path(), **self.environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    # --- looking -----------------------------------------------------------------------------------------------------

    def trials(self) -> list[Trial]:
        if not (self.folder / "a.db").exists():
            return []
        with contextlib.suppress(AutopruneError), open_store(self.url, read_only=True) as store:
            return store.trials(NAME)
        return []

    def look(self) -> int:
        """Compare with what was known, remember what is finished now; how many."""
        now = {trial.number: trial for trial in self.trials() if trial.state.finished}
        self.changed |= {number for number, trial in self.known.items() if now.get(number) != trial}
        self.known.update(now)
        return len(now)

    def log(self) -> list[tuple[str, str, int, float]]:
        """(what, digest, process id, time) of every line that the evaluations wrote."""
        path = self.folder / "log"
        lines = path.read_text().splitlines() if path.exists() else []
        return [(what, digest, int(pid), float(at)) for what, digest, pid, at in map(str.split, lines)]

    def workers(self) -> list[int]:
        """Processes that began an evaluation and live."""
        return sorted(pid for pid in {pid for _, _, pid, _ in self.log()} if lives(pid))

    def wait_for(self, done: Callable[[], bool], process: subprocess.Popen[str] | None, seconds: float = 120) -> float:
        """Wait; the seconds that took. Raises TimeoutError, or RuntimeError when the driver ends first."""
        began = time.monotonic()
        while not done():
            if process is not None and process.poll() is not None:
                raise RuntimeError(f"the driver ended, {process.returncode}: {process.communicate()[1]}")
            if time.monotonic() - began > seconds:
                raise TimeoutError(f"nothing after {seconds:g} s")
            time.sleep(0.01)
        return time.monotonic() - began

    # --- judging -----------------------------------------------------------------------------------------------------

    def verdict(self, expected: int | None = None) -> dict[str, Any]:
        """Counts of what must be none (lost, twice, stuck, gaps) and of what a fault may cost (rerun).

        ``twice``: evaluations begun after the same candidate's result had been stored.
        """
        self.look()
        trials = self.trials()
        stored_at: dict[str, float] = {}
        for trial in trials:
            if trial.state.finished and trial.state is not TrialState.FAILED and not trial.duplicate_of:
                stored_at.setdefault(trial.candidate.digest, trial.finished_at or 0.0)
        begun = [(digest, at) for what, digest, _, at in self.log() if what == "begin"]
        numbers = [trial.number for trial in trials]
        states = Counter(trial.state.value for trial in trials)
        return {
            "trials": len(trials),
            "states": dict(states),
            "lost": len(self.changed) + (0 if expected is None else max(0, expected - states["complete"])),
            "twice": sum(at > stored_at.get(digest, float("inf")) for digest, at in begun),
            "stuck_running": states["running"],
            "numbers_wrong": sum(a != b for a, b in zip(numbers, range(len(numbers)), strict=True)),
            "rerun": len(begun) - len({digest for digest, _ in begun}),
        }


def python_path() -> dict[str, str]:
    return {"PYTHONPATH": os.pathsep.join([str(HERE), str(ROOT), os.environ.get("PYTHONPATH", "")])}


def lives(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def end(process: subprocess.Popen[str], seconds: float = 120) -> tuple[int, dict[str, Any], str]:
    """Exit code, what the driver said in JSON, and its errors. One that does not end is killed: code -9."""
    try:
        out, err = process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        out, err = process.communicate()
        err += f"\nkilled after {seconds:g} s"
    last = out.strip().splitlines()[-1:] or ["{}"]
    return process.returncode, json.loads(last[0]) if last[0].startswith("{") else {}, err


def spread(values: list[float]) -> dict[str, float]:
    """Median, 95th percentile and greatest of some seconds."""
    ordered = sorted(values) or [float("nan")]
    at = lambda share: ordered[min(len(ordered) - 1, int(share * len(ordered)))]  # noqa: E731
    return {"n": len(values), "median": round(at(0.5), 3), "p95": round(at(0.95), 3), "max": round(ordered[-1], 3)}
