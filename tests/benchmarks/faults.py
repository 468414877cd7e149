"""Faults of processes and nodes, injected and counted; one line of JSON each.

python tests/benchmarks/faults.py [--quick] [--only R1,R4] [--json FILE]
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import faults_driver
import faults_ends
import faults_nodes
import faults_trials
import faults_watch
import faults_workers

CASES: dict[str, tuple[Callable[..., dict[str, Any]], dict[str, Any]]] = {
    "R1": (faults_workers.killed_workers, {"kills": 4, "trials": 60}),
    "R2": (faults_driver.killed_driver, {"kills": 4}),
    "R2-ray": (partial(faults_driver.killed_driver, executor=faults_watch.RAY), {"kills": 2}),
    "R2-resume": (faults_driver.resumed, {"trials": 200, "repeats": 1}),
    "R3": (faults_driver.resumed_proposals, {"trials": 20, "cuts": 3}),
    "R4": (faults_trials.hung_trials, {"count": 3, "limit": 2.0, "trials": 16}),
    "R5": (faults_trials.out_of_memory, {"trials": 9, "every": 4}),
    "R5-serial": (partial(faults_trials.out_of_memory, executor="serial"), {"trials": 9, "every": 4}),
    "R6": (faults_trials.not_finite, {"count": 20, "trials": 100}),
    "R11": (faults_driver.racing_drivers, {"rounds": 2}),
    "R11-fenced": (faults_driver.fenced_driver, {"rounds": 1}),
    "R12": (faults_ends.terminated, {"signals": ["SIGTERM"], "repeats": 1}),
    "twice": (faults_driver.told_twice, {"trials": 60}),
    "storm": (faults_driver.storm, {"kills": 2}),
    "storm-serial": (partial(faults_driver.storm, executor=faults_driver.SERIAL), {"kills": 3, "every": 1.0}),
    "raylet": (partial(faults_nodes.lost_node, "raylet"), {"repeats": 1}),
    "node": (partial(faults_nodes.lost_node, "node"), {"repeats": 1}),
    "freeze": (partial(faults_nodes.lost_node, "freeze"), {"repeats": 1}),
    "cut": (partial(faults_nodes.lost_node, "cut"), {"repeats": 1}),
    "far": (faults_nodes.hung_far_away, {"count": 3}),
    "head": (faults_nodes.lost_head, {"repeats": 1}),
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
