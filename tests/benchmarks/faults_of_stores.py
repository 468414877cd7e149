"""Faults of stores and artifacts, injected and counted; one line of JSON each.

python tests/benchmarks/faults_of_stores.py [--quick] [--only 'locked;writers'] [--json FILE]
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import faults_artifacts
import faults_disk
import faults_servers
import faults_stores

CASES: dict[str, tuple[Callable[..., dict[str, Any]], dict[str, Any]]] = {
    "damaged files": (faults_artifacts.measure, {"flips": 3, "cuts": 2}),
    "locked": (faults_stores.locked, {"seconds": 3.0, "trials": 60}),
    "locked beyond the busy timeout": (lambda seconds=45.0, **rest: faults_stores.locked(seconds, **rest), {}),
    "writers": (faults_stores.writers, {"processes": 4, "transactions": 50}),
    "writers with a pause": (lambda pause=0.05, **rest: faults_stores.writers(pause=pause, **rest), {"processes": 4}),
    "full disk": (faults_stores.full_disk, {"repeats": 2, "trials": 60}),
    "full disk, files": (faults_disk.full_disk_artifacts, {"names": ("scores", "report"), "left_kb": (0, 40)}),
    "gone": (faults_stores.gone, {"repeats": 1}),
    "clocks": (faults_stores.clocks, {"jumps": (3600.0,)}),
    "server: outage": (faults_servers.outage, {"seconds": 3.0, "trials": 60}),
    "server: killed": (lambda **rest: faults_servers.outage(how="kill", **{"seconds": 5.0, **rest}), {"trials": 60}),
    "server: storm": (faults_servers.storm, {"restarts": 2, "trials": 200}),
    "server: connections cut": (faults_servers.cut, {"times": 5, "trials": 150}),
    "server: writers": (faults_servers.server_writers, {"processes": 4, "transactions": 50}),
    "server: clocks": (faults_servers.server_clocks, {"jumps": (86400.0,)}),
}
"""Name -> what injects the fault, and its smaller figures for ``--quick``."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default=";".join(CASES), help="names, separated by semicolons")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--json", type=Path, help="append the results to this file, a line each")
    arguments = parser.parse_args()
    for name in arguments.only.split(";"):
        inject, quick = CASES[name]
        began = time.monotonic()
        found = {"name": name, **inject(**(quick if arguments.quick else {}))}
        found |= {"took": round(time.monotonic() - began, 1), "load_average": round(os.getloadavg()[0], 1)}
        line = json.dumps(found)
        sys.stdout.write(line + "\n")
        sys.stdout.flush()
        if arguments.json:
            with arguments.json.open("a") as file:
                file.write(line + "\n")


if __name__ == "__main__":
    main()
