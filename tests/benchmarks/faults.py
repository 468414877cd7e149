"""Faults of processes and nodes, injected and counted; one line of JSON each.

python tests/benchmarks/faults.py [--quick] [--only R1,R4] [--json FILE]
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import faults_ends
import faults_trials
import faults_workers

CASES: dict[str, tuple[Callable[..., dict[str, Any]], dict[str, Any]]] = {
    "R1": (faults_workers.killed_workers, {"kills": 4, "trials": 60}),
    "R4": (faults_trials.hung_trials, {"count": 3, "limit": 2.0, "trials": 8}),
    "R5": (faults_trials.out_of_memory, {"trials": 9, "every": 4}),
    "R5-serial": (lambda **more: faults_trials.out_of_memory(executor="serial", **more), {"trials": 9, "every": 4}),
    "R6": (faults_trials.not_finite, {"count": 20, "trials": 100}),
    "R12": (faults_ends.terminated, {"signals": ["SIGTERM"], "repeats": 1}),
    "builds": (faults_trials.broken_builds, {}),
}
"""Name -> what injects the fault, and its smaller figures for ``--quick``."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default=",".join(CASES), help="names, separated by commas")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--json", type=Path, help="append the results to this file, a line each")
    arguments = parser.parse_args()
    for name in arguments.only.split(","):
        inject, quick = CASES[name]
        began = time.monotonic()
        found = {"name": name, **inject(**(quick if arguments.quick else {}))}
        line = json.dumps({**found, "took": round(time.monotonic() - began, 1)})
        sys.stdout.write(line + "\n")
        sys.stdout.flush()
        if arguments.json:
            with arguments.json.open("a") as file:
                file.write(line + "\n")


if __name__ == "__main__":
    main()
