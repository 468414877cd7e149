"""Seconds from the command to the first running trial of the quickstart, on a warm cache; and where they go.

    python tests/benchmarks/first_trial.py [--repeats 5] [--executor ray]

A new process and a new store each time; the base network is trained and cached before, by a run that is not counted.
*handed out*: the first trial is RUNNING in the store; *first result*: a worker has measured one. Beside each, the
processor seconds that the driver had used by then, which other programs do not change much.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from autoprune.api.reporting import facts

ROOT = Path(__file__).resolve().parents[2]
CHILD = """
import json, os, sys, time

def since_start():
    # The process's own age: starting Python counts too.
    ticks = int(open("/proc/self/stat").read().rsplit(")", 1)[1].split()[19])
    return float(open("/proc/uptime").read().split()[0]) - ticks / os.sysconf("SC_CLK_TCK")

from autoprune import api
from autoprune.driver.observers import Silent

class Marks(Silent):
    seconds = {}
    def mark(self, name):
        self.seconds.setdefault(name, (round(since_start(), 2), round(time.process_time(), 2)))
    def phase(self, name, total=None):
        self.mark(name)
    def on_trial(self, trial):
        self.mark("first result" if trial.state.finished else "handed out")

marks = Marks()
marks.mark("imported")
api.search(sys.argv[1], overrides=sys.argv[3:], store=sys.argv[2], progress=marks)
print(json.dumps(marks.seconds))
"""


def one(executor: str) -> dict[str, list[float]]:
    """Wall seconds since the start of the process, and its processor seconds, at each mark, in order."""
    with tempfile.TemporaryDirectory() as folder:
        overrides = ["limits.trials=2", f"executor.kind={executor}", f"output={folder}"]
        arguments = [str(ROOT / "launch" / "quickstart.yaml"), f"sqlite:///{folder}/a.db", *overrides]
        command = [sys.executable, "-c", CHILD, *arguments]
        done = subprocess.run(command, cwd=ROOT, env=os.environ, capture_output=True, text=True, check=True)
    marks: dict[str, list[float]] = json.loads(done.stdout.splitlines()[-1])
    return marks


def _medians(runs: Sequence[Mapping[str, Sequence[float]]], place: int) -> dict[str, float]:
    return {name: round(statistics.median(run[name][place] for run in runs), 2) for name in runs[0]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--executor", choices=("ray", "serial"), default="ray")
    given = parser.parse_args()
    one(given.executor)
    runs = [one(given.executor) for _ in range(given.repeats)]
    report = {
        "seconds_since_start_median": _medians(runs, 0),
        "driver_processor_seconds_median": _medians(runs, 1),
        "handed_out_seconds": [run["handed out"][0] for run in runs],
        "first_result_seconds": [run["first result"][0] for run in runs],
        "target_seconds_handed_out": 15,
        "load_average": os.getloadavg()[0],
    }
    print(json.dumps({**report, **facts()}, indent=2))


if __name__ == "__main__":
    main()
