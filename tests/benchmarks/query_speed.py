"""Queries over a big store: ``python tests/benchmarks/query_speed.py [--trials N] [--optuna N] [--out FILE]``.

Builds a store in a temporary folder (about 1 GB for a million trials of 12 groups and 6 metrics), and times the front
under two constraints, the selection and the hypervolume history: in this process again and again, and in new processes.
Beside it, ``best_trials`` of an Optuna study in memory with as many trials as asked for. Prints JSON.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

from autoprune.api import queries
from autoprune.bench.big_store import NAME, WHERE, build, rows_of, user_queries

COLD = """
import sys, time
began = time.perf_counter()
from autoprune.api import queries
from autoprune.store import open_store
imported = time.perf_counter()
queries.front("big", where=sys.argv[2:], store=sys.argv[1])
print(imported - began, time.perf_counter() - imported)
"""


def milliseconds(call: Callable[[], object], repeats: int) -> dict[str, Any]:
    seconds, busy = [], []
    for _ in range(repeats):
        began, began_cpu = time.perf_counter(), time.process_time()
        call()
        seconds.append(time.perf_counter() - began)
        busy.append(time.process_time() - began_cpu)
    return {**summary(seconds), "median_cpu_ms": summary(busy)["median_ms"]}


def summary(seconds: list[float]) -> dict[str, Any]:
    each = [round(1e3 * value, 1) for value in seconds]
    return {"median_ms": round(statistics.median(each), 1), "ms": each}


def warm(url: str, repeats: int) -> dict[str, Any]:
    """The calls that a user makes, in a process that has made one before."""
    calls = user_queries(url)
    for call in calls.values():
        call()
    return {what: milliseconds(call, repeats) for what, call in calls.items()}


def cold(url: str, repeats: int) -> dict[str, Any]:
    """The front in new processes: imports apart from the call, both by the process's own clock."""
    imports, calls = [], []
    for _ in range(repeats):
        command = [sys.executable, "-c", COLD, url, *WHERE]
        printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
        imports.append(float(printed[0]))
        calls.append(float(printed[1]))
    return {"imports": summary(imports), "front_two_constraints": summary(calls)}


def optuna_best_trials(trials: int, repeats: int) -> dict[str, Any]:
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(directions=["minimize", "maximize"])
    for rows, measured in rows_of(trials):
        values = {(number, name): value for _, number, name, value, _ in measured}
        study.add_trials(
            [
                optuna.trial.create_trial(
                    params={name: float(width) for name, width in json.loads(row[3]).items()},
                    distributions={name: optuna.distributions.FloatDistribution(1, 64) for name in json.loads(row[3])},
                    values=[values[row[1], "macs"], values[row[1], "top1"]],
                )
                for row in rows
            ]
        )
    return {"trials": trials, "front": len(study.best_trials), **milliseconds(lambda: study.best_trials, repeats)}


def machine() -> dict[str, Any]:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    return {
        "processor": next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")),
        "cores": os.cpu_count(),
        "load_1_5_15": [round(value, 2) for value in os.getloadavg()],
        "python": platform.python_version(),
        "sqlite": sqlite3.sqlite_version,
        **{name: version(name) for name in ("numpy", "sqlalchemy", "optuna", "moocore")},
    }


def measured(url: str, repeats: int) -> dict[str, Any]:
    found = queries.front(NAME, where=WHERE, store=url)
    return {
        "front": {"where": WHERE, "members": len(found.trials), "considered": found.considered},
        "load_before_queries": [round(value, 2) for value in os.getloadavg()],
        "warm": warm(url, repeats),
        "new_process": cold(url, repeats),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--trials", type=int, default=1_000_000)
    parser.add_argument("--optuna", type=int, default=10_000, help="trials of the Optuna study; 0: none")
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--folder", help="build the store there, or use the one there, and keep it; default: temporary")
    parser.add_argument("--out", help="also write the JSON there")
    given = parser.parse_args()
    result: dict[str, Any] = {"command": " ".join(["python", *sys.argv]), "machine": machine(), "trials": given.trials}
    with tempfile.TemporaryDirectory() as temporary:
        path = Path(given.folder or temporary) / f"{given.trials}.db"
        if not path.exists():
            result["store"] = build(path, given.trials)
        result.update(measured(f"sqlite:///{path}", given.repeats))
    if given.optuna:
        result["optuna_best_trials"] = optuna_best_trials(given.optuna, min(given.repeats, 5))
    result["load_at_end"] = [round(value, 2) for value in os.getloadavg()]
    text = json.dumps(result, indent=2)
    print(text)
    if given.out:
        Path(given.out).write_text(text + "\n")


if __name__ == "__main__":
    main()
