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
from collections.abc import Callable, Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from autoprune.api import queries
from autoprune.store import new_owner, open_store
from autoprune.types import Candidate

NAME = "big"
METRICS = ("top1", "loss", "macs", "flops", "params", "keep_ratio")
BASELINE = {"top1": 0.92, "loss": 0.3, "macs": 40.6e6, "flops": 81.1e6, "params": 270e3, "keep_ratio": 1.0}
WHERE = ["macs <= 0.5 * baseline", "params <= 200k"]
NEVER = ["macs <= 0.01 * baseline", "top1 >= 0.9"]
_BATCH = 20_000

COLD = """
import sys, time
began = time.perf_counter()
from autoprune.api import queries
from autoprune.store import open_store
imported = time.perf_counter()
queries.front("big", where=sys.argv[2:], store=sys.argv[1])
print(imported - began, time.perf_counter() - imported)
"""


def batches(trials: int) -> Iterator[tuple[list[tuple[Any, ...]], list[tuple[Any, ...]]]]:
    """Rows of ``trials`` and ``metrics``. Accuracy saturates with the MACs, is noisy, and counts 2,000 images."""
    rng = np.random.default_rng(0)
    groups = [f"layer{i}.conv1" for i in range(12)]
    for begin in range(0, trials, _BATCH):
        count = min(_BATCH, trials - begin)
        widths = rng.integers(4, 65, (count, len(groups)))
        keep = widths.mean(axis=1) / 64
        macs = BASELINE["macs"] * keep * rng.uniform(0.3, 1.0, count)
        params = BASELINE["params"] * keep * rng.uniform(0.6, 1.2, count)
        top1 = 0.92 * (1 - np.exp(-macs / 5e6)) - np.abs(rng.normal(0, 0.08, count))
        top1 = np.round(np.clip(top1, 0.1, 1) * 2000) / 2000
        columns = (top1, 1 - top1, np.round(macs), 2 * np.round(macs), np.round(params), keep)
        values = dict(zip(METRICS, (column.tolist() for column in columns), strict=True))
        states = np.where(rng.random(count) < 0.95, "complete", "stopped").tolist()
        rows, measured = [], []
        for i, row in enumerate(widths.tolist()):
            candidate = Candidate(dict(zip(groups, row, strict=True)))
            text, number = json.dumps(candidate.widths), begin + i
            rows.append((1, number, candidate.digest, text, states[i], "", 1, "{}", "{}", "", "", 1.0, 2.0 + number))
            measured += [(1, number, name, values[name][i], 0) for name in METRICS]
        yield rows, measured


def build(path: Path, trials: int) -> dict[str, float]:
    """A search with ``trials`` finished trials, written around the driver's way in; then packed by a claim."""
    url, began = f"sqlite:///{path}", time.perf_counter()
    with open_store(url) as store:
        store.create_search(NAME, config={}, digest="d", evaluation_digest="e", baseline=BASELINE)
        raw = sqlite3.connect(path, isolation_level=None)
        raw.execute("PRAGMA synchronous=OFF")
        indices = raw.execute(
            "SELECT name, sql FROM sqlite_master WHERE type = 'index' AND sql LIKE '% ON %'"
        ).fetchall()
        late = [(name, sql) for name, sql in indices if name in ("metrics_by_value", "ix_trials_digest")]
        for name, _ in late:
            raw.execute(f"DROP INDEX {name}")
        for rows, measured in batches(trials):
            raw.execute("BEGIN")
            raw.executemany(f"INSERT INTO trials VALUES ({','.join('?' * 13)})", rows)
            raw.executemany("INSERT INTO metrics VALUES (?,?,?,?,?)", measured)
            raw.execute("COMMIT")
        for _, sql in late:
            raw.execute(sql)
        raw.close()
        inserted = time.perf_counter()
        store.release(store.claim(NAME, owner=new_owner(), ttl_seconds=3600))
    packed = time.perf_counter()
    return {
        "insert_s": round(inserted - began, 1),
        "pack_s": round(packed - inserted, 2),
        "file_mb": round(path.stat().st_size / 1e6),
    }


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
    calls: dict[str, Callable[[], object]] = {
        "front_two_constraints": lambda: queries.front(NAME, where=WHERE, store=url),
        "front_unconstrained": lambda: queries.front(NAME, store=url),
        "select_two_constraints": lambda: queries.select(NAME, where=WHERE, store=url),
        "select_nothing_feasible": lambda: refused(lambda: queries.select(NAME, where=NEVER, store=url)),
        "hypervolume_history": lambda: queries.history(NAME, store=url),
    }
    for call in calls.values():
        call()
    return {what: milliseconds(call, repeats) for what, call in calls.items()}


def refused(call: Callable[[], object]) -> None:
    from autoprune.errors import NothingFeasible

    try:
        call()
    except NothingFeasible:
        return
    raise RuntimeError("expected no feasible trial")


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
    for rows, measured in batches(trials):
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
