"""A search of a million trials on a thousand slots, without a network: what its driver and its store take as it grows.

    python tests/benchmarks/scale.py OUT.json [--trials 1000000] [--slots 1000] [--controller '{"kind": "random"}']
        [--groups 12] [--driven 30000] [--last 5000] [--store FOLDER] [--plot OUT.png]

The real session, store (SQLite), space and controller; a pretended evaluator on a virtual clock. The search is cut at
1,000, 10,000, 30,000, 100,000, 300,000 and 1,000,000 trials: each part runs in a process of its own, which opens the
session on what is stored (a resume of so many trials) and then runs on. After each part queries are timed, in another
process. Beyond ``--driven`` trials only the ``--last`` ones of a part are driven; those before are written straight
into the store, in the same form. (With --driven 1000000 every one is: an hour or more.) OUT.json is written after each
part; a part that is in it already is not run again. ``reference_us`` is a fixed piece of work, timed in each window:
how slow the machine was then.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sqlite3
import subprocess
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
MARKS = (1_000, 10_000, 30_000, 100_000, 300_000, 1_000_000)


def run(script: str, *arguments: str) -> dict[str, Any]:
    """What the script prints, in a new process with one thread."""
    command = [sys.executable, str(HERE / script), *arguments]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    printed = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=environment).stdout
    return dict(json.loads(printed))


def machine() -> dict[str, Any]:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    return {
        "processor": next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "sqlite": sqlite3.sqlite_version,
        **{name: version(name) for name in ("numpy", "sqlalchemy", "optuna", "moocore")},
    }


def part(url: str, given: argparse.Namespace, done: int, trials: int) -> dict[str, Any]:
    filled: dict[str, Any] = {}
    if trials > given.driven and trials - done > given.last:
        path = url.removeprefix("sqlite:///")
        filled, done = run("scale_bulk.py", path, str(trials - given.last), str(given.groups)), trials - given.last
    options = {"controller": given.controller, "groups": given.groups, "slots": given.slots}
    row = run("scale_search.py", url, json.dumps({**options, "done": done, "trials": trials}))
    row |= {"resumed_from": done, **filled}
    row["store_bytes"] = Path(url.removeprefix("sqlite:///")).stat().st_size
    row["queries"] = {} if given.no_queries else run("scale_queries.py", url)
    row["load_1_5_15"] = [round(value, 2) for value in os.getloadavg()]
    return row


def measure(given: argparse.Namespace, folder: str) -> dict[str, Any]:
    url = f"sqlite:///{Path(folder).absolute() / 'scale.db'}"
    result: dict[str, Any] = {
        "machine": machine(),
        "controller": given.controller,
        "groups": given.groups,
        "slots": given.slots,
        "parts": json.loads(given.out.read_text())["parts"] if given.store and given.out.exists() else [],
    }
    done = max((row["trials"] for row in result["parts"]), default=0)
    for trials in sorted({mark for mark in MARKS if mark < given.trials} | {given.trials}):
        if trials <= done:
            continue
        row = part(url, given, done, trials)
        result["parts"].append(row)
        done = trials
        given.out.write_text(json.dumps(result, indent=1) + "\n")
        cost = row["windows"][-1]["cpu_us"] if row["windows"] else float("nan")
        print(f"{trials:>9} trials: {cost:.0f} us a trial, {row['store_bytes'] / trials:.0f} bytes", flush=True)
    return result


def _after(result: dict[str, Any]) -> list[tuple[int, dict[str, Any]]]:
    """Each part, with the trials before it."""
    marks = [0, *(row["trials"] for row in result["parts"])]
    return list(zip(marks, result["parts"], strict=False))


def plot(result: dict[str, Any], path: Path) -> None:
    """Microseconds, as on a machine as fast throughout as at its fastest, and bytes against the number of trials."""
    import matplotlib

    matplotlib.use("agg")
    import matplotlib.pyplot as plt

    figure, (left, right) = plt.subplots(1, 2, figsize=(8.0, 3.2), constrained_layout=True)
    windows = [window for row in result["parts"] for window in row["windows"]]
    least = min((window["reference_us"] for window in windows), default=1.0)
    trials = [row["trials"] for row in result["parts"]]
    ends = [(window["finished"], window["cpu_us"] * least / window["reference_us"]) for window in windows]
    left.plot(*zip(*ends, strict=True), ".", color="#9db4d0", label="windows")
    means = [(row["trials"], [at for n, at in ends if n <= row["trials"] and n > done]) for done, row in _after(result)]
    drawn = [(n, sum(values) / len(values)) for n, values in means if values]
    left.plot(*zip(*drawn, strict=True), "-", color="#1f5fa8", label="mean of a part")
    left.set(xlabel="trials", ylabel="processor time of the driver, µs a trial", xscale="log", ylim=(0, None))
    left.legend(frameon=False)
    right.plot(trials, [row["store_bytes"] / row["trials"] for row in result["parts"]], ".-", label="store, bytes")
    grown = [1e6 * (row["end_mb"] - row["before_mb"]) / row["trials"] for row in result["parts"]]
    right.plot(trials, grown, ".--", label="driver's memory, bytes")
    right.set(xlabel="trials", ylabel="bytes a trial", xscale="log", yscale="log")
    right.legend(frameon=False)
    for axes in (left, right):
        axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=110)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--trials", type=int, default=1_000_000)
    parser.add_argument("--slots", type=int, default=1_000)
    parser.add_argument("--controller", type=json.loads, default={"kind": "random"}, help="as in a launch file, JSON")
    parser.add_argument("--groups", type=int, default=12, help="12: ResNet-20; else a chain of so many convolutions")
    parser.add_argument("--driven", type=int, default=30_000, help="so many trials all go through the session")
    parser.add_argument("--last", type=int, default=5_000, help="beyond them, as many of each part do")
    parser.add_argument("--store", help="folder to keep the store in, and to go on with; default: a temporary one")
    parser.add_argument("--no-queries", action="store_true")
    parser.add_argument("--plot", type=Path)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        result = measure(given, given.store or temporary)
    if given.plot:
        plot(result, given.plot)


if __name__ == "__main__":
    main()
