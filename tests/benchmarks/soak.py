"""R14: thousands of tiny trials under a random fault every few seconds; then without any, for memory and overhead.

    python tests/benchmarks/soak.py [--trials 5000] [--store sqlite|postgres] [--minutes 6] [--json FILE]
    python tests/benchmarks/soak.py --uncut [--trials 400]     rows of a broken search beside those of a whole one
    python tests/benchmarks/soak.py --quiet [--trials 10000]   no faults

Drivers are processes of their own on Ray, three slots of a quarter of a core each. The SQLite file lies on a small disk
of its own (root; else without the full disk).
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import signal
import sqlite3
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from faults_stores import StoreBench, bench, fill, small_disk, survived
from faults_toy import TOY, open_toy
from faults_watch import end

from autoprune.store import open_store

SLOTS = {"kind": "ray", "max_parallel": 3, "cpus_per_trial": 0.25}
IN_TRIALS = ["nan", "die", "inf", "sleep", "-inf", "freeze", "nan", "busy", "die", "inf"]
"""What evaluations do by themselves, one after another."""


# --- injecting -------------------------------------------------------------------------------------------------------


class Soak:
    """Drivers of one search, one after another, and what is done to them."""

    def __init__(self, place: StoreBench, trials: int, seed: int, server: Any = None, disk: Path | None = None) -> None:
        self._place, self._server, self._disk = place, server, disk
        self._rng = random.Random(seed)
        self.done: Counter[str] = Counter()
        self.exits: Counter[str] = Counter()
        self.said: list[str] = []
        self._spec: dict[str, Any] = {
            "executor": SLOTS,
            "trial_seconds": 2.0,
            "assets": {"seconds": [0.01, 0.02], "every": 41, "faults": IN_TRIALS * (trials // 500)},
            "session": {"trials": trials, "ttl_seconds": 5.0, "retries": 5},
        }
        self._driver = place.start(**self._spec)

    @property
    def faults(self) -> list[Callable[[], None]]:
        common = [self.kill_worker, self.kill_worker, self.kill_driver, self.freeze_driver]
        if self._server is not None:
            return [*common, self.cut_connections, self.cut_connections, self.restart_server]
        return [*common, self.lock_store, *([self.fill_disk] if self._disk else [])]

    def run(self, seconds: float) -> None:
        """Inject until the search ends or the time is over; then let it end."""
        deadline = time.monotonic() + seconds
        while not self._ended():
            if time.monotonic() < deadline:
                self._rng.choice(self.faults)()
                self._pause(self._rng.uniform(1.5, 4.0))
            else:
                self._pause(5.0)

    def _ended(self) -> bool:
        """Whether the search is over; a driver that died or gave up is followed by another."""
        if self._driver.poll() is None:
            return False
        code, _, err = end(self._driver)
        self.exits[str(code)] += 1
        self.said += [line for line in err.splitlines() if line.startswith("error") or "Traceback" in line]
        if code == 0:
            return True
        self._driver = self._place.start(**self._spec)
        with contextlib.suppress(RuntimeError, TimeoutError):  # Ray takes seconds to start; faults are for trials
            begun = len(self._place.log())
            self._place.wait_for(lambda: len(self._place.log()) > begun, self._driver, 60)
        return False

    def _pause(self, seconds: float) -> None:
        until = time.monotonic() + seconds
        while time.monotonic() < until and self._driver.poll() is None:
            time.sleep(0.05)

    def kill_worker(self) -> None:
        for pid in self._rng.sample(workers := self._place.workers(), min(1, len(workers))):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
                self.done["worker killed"] += 1

    def kill_driver(self) -> None:
        if self._rng.random() < 0.5:  # each costs a start of Ray
            self._driver.kill()
            self._driver.wait()
            self.done["driver killed"] += 1

    def freeze_driver(self) -> None:
        """Sometimes for longer than its lease."""
        self._driver.send_signal(signal.SIGSTOP)
        time.sleep(self._rng.choice((0.5, 2.0, 6.0)))
        self._driver.send_signal(signal.SIGCONT)
        self.done["driver frozen"] += 1

    def lock_store(self) -> None:
        path = self._place.url.removeprefix("sqlite:///")
        with contextlib.closing(sqlite3.connect(path, timeout=30, isolation_level=None)) as holder:
            holder.execute("BEGIN EXCLUSIVE")
            time.sleep(self._rng.choice((0.5, 2.0, 7.0)))
            holder.execute("ROLLBACK")
        self.done["store locked"] += 1

    def fill_disk(self) -> None:
        assert self._disk is not None
        filler = fill(self._disk, 4 * self._rng.randrange(3))
        self._pause(3.0)
        filler.unlink()
        self.done["disk filled"] += 1

    def cut_connections(self) -> None:
        self._server.cut_connections()
        self.done["connections cut"] += 1

    def restart_server(self) -> None:
        self._server.stop(immediate=True)
        time.sleep(self._rng.choice((0.0, 1.0, 4.0)))
        self._server.start()
        self.done["server restarted"] += 1


# --- judging ---------------------------------------------------------------------------------------------------------


def raw_points(place: StoreBench) -> list[tuple[int, float, float]]:
    """Number, top1 and macs of the COMPLETE trials, read without our code."""
    query = (
        "SELECT t.number, a.value, b.value FROM trials t JOIN metrics a ON a.search_id = t.search_id AND"
        " a.number = t.number AND a.name = 'top1' JOIN metrics b ON b.search_id = t.search_id AND"
        " b.number = t.number AND b.name = 'macs' WHERE t.state = 'complete' ORDER BY t.number"
    )
    if place.url.startswith("sqlite"):
        with contextlib.closing(sqlite3.connect(place.url.removeprefix("sqlite:///"))) as raw:
            return [tuple(row) for row in raw.execute(query)]
    import psycopg

    with psycopg.connect(place.url) as connection:
        return [(int(number), float(top1), float(macs)) for number, top1, macs in connection.execute(query)]


def brute_front(points: list[tuple[int, float, float]]) -> set[tuple[float, float]]:
    """Non-dominated (top1, macs): more is better, less is better."""
    front: set[tuple[float, float]] = set()
    best = -1.0
    for _, top1, macs in sorted(points, key=lambda point: (point[2], -point[1])):
        if top1 > best:
            best = top1
            front.add((top1, macs))
    return front


def fronts(place: StoreBench) -> dict[str, Any]:
    """The front of the resumed session beside those of moocore and of plain Python over the raw rows."""
    import moocore
    import numpy as np

    points = raw_points(place)
    values = np.array([(-top1, macs) for _, top1, macs in points])
    theirs = {(-a, b) for a, b in values[moocore.is_nondominated(values)].tolist()}
    with open_store(place.url) as store, open_toy(store, trials=1, ttl_seconds=60.0) as session:
        ours = {(trial.metrics["top1"], trial.metrics["macs"]) for trial in session.front}
    trials = place.trials()
    wrong = sum(top1 != TOY.measure(trials[number].candidate)["top1"] for number, top1, _ in points)
    return {
        "front": len(ours),
        "front_mismatches": len(ours ^ theirs) + len(ours ^ brute_front(points)),
        "wrong": wrong,
    }


def begun_late(place: StoreBench) -> list[tuple[int, float]]:
    """Of evaluations that began after their result was stored: how often the candidate began, and seconds too late."""
    stored = {trial.candidate.digest: trial.finished_at or 0.0 for trial in place.trials() if not trial.duplicate_of}
    begun = [(digest, at) for what, digest, _, at in place.log() if what == "begin"]
    often = Counter(digest for digest, _ in begun)
    return [(often[digest], round(at - stored[digest], 4)) for digest, at in begun if at > stored.get(digest, at)]


def checked(url: str) -> list[str]:
    """What ``autoprune store check`` finds to be wrong."""
    from autoprune.api import check_store

    return [f"{item.check}: {item.found}" for item in check_store(url).problems]


@contextlib.contextmanager
def _place(store: str) -> Iterator[tuple[StoreBench, Any, Path | None]]:
    with contextlib.ExitStack() as stack:
        if store == "postgres":
            from autoprune.testing.postgres_server import PostgresServer

            server = stack.enter_context(PostgresServer())
            yield stack.enter_context(bench(server.new_database())), server, None
            return
        try:
            disk: Path | None = stack.enter_context(small_disk(24.0))
        except PermissionError:
            disk = None
        yield stack.enter_context(bench(f"sqlite:///{disk}/a.db" if disk else "")), None, disk


def soak(trials: int = 5000, store: str = "sqlite", minutes: float = 6.0, seed: int = 0) -> dict[str, Any]:
    began = time.monotonic()
    with _place(store) as (place, server, disk):
        run = Soak(place, trials, seed, server, disk)
        run.run(60 * minutes)
        verdict = place.verdict(trials)
        spent = Counter(what for what, *_ in place.log() if what not in ("begin", "end"))
        late = begun_late(place) if verdict["twice"] else []
        diverged = verdict["states"].get("diverged", 0)
        verdict["lost"] -= diverged  # what is not finite is an answer, too
        judged = fronts(place)
        problems = checked(place.url)
    return {
        "name": f"soak, {store}",
        "faults": dict(run.done),
        "faults_total": run.done.total() + spent.total(),
        "faults_in_trials": dict(spent),
        "driver_exits": dict(run.exits),
        "said": sorted({line.partition("(")[0].partition("postgresql:")[0][:120] for line in run.said}),
        "seconds": round(time.monotonic() - began),
        "survived": survived(verdict) and not (judged["front_mismatches"] or judged["wrong"] or problems),
        **verdict,
        **judged,
        "store_check": problems,
        **({"begun_late": late[:20]} if late else {}),
        "load_average": round(os.getloadavg()[0], 1),
    }


# --- broken and whole, row by row ------------------------------------------------------------------------------------

_ROWS = (
    "SELECT number, digest, widths, state, reason, note, duplicate_of FROM trials ORDER BY number",
    "SELECT number, name, value, added FROM metrics ORDER BY number, name",
    "SELECT controller_state FROM searches",
)


def rows(place: StoreBench) -> list[Any]:
    """Everything but times and attempts."""
    with contextlib.closing(sqlite3.connect(place.folder / "a.db")) as raw:
        return [raw.execute(query).fetchall() for query in _ROWS]


def uncut(trials: int = 400, breaks: int = 12, seed: int = 0) -> dict[str, Any]:
    """R3: one driver at a time in one process, killed, frozen and locked out, beside one that is left alone."""
    found: dict[str, Any] = {"name": "broken search beside a whole one", "trials": trials, "breaks": breaks}
    for controller in (
        {"kind": "random", "seed_uniform": 5},
        {"kind": "optuna", "sampler": "tpe"},
        {"kind": "regression"},
    ):
        spec: dict[str, Any] = {
            "assets": {"seconds": [0.001, 0.003]},
            "session": {"trials": trials, "controller": controller},
        }
        with bench() as whole, bench() as broken:
            code, _, err = end(whole.start(**spec), 300)
            assert code == 0, err
            rng = random.Random(seed)
            for number in range(breaks):
                driver = broken.start(**spec)
                with contextlib.suppress(RuntimeError):
                    broken.wait_for(lambda: broken.finished() > trials * (number + 0.5) // (breaks + 1), driver)  # noqa: B023
                if number % 3 == 2:
                    driver.send_signal(signal.SIGSTOP)
                    time.sleep(rng.uniform(0.0, 0.5))
                driver.kill()
                driver.wait()
            code, _, err = end(broken.start(**spec), 300)
            pairs = zip(rows(whole), rows(broken), strict=True)
            differing = sum(a != b for one, other in pairs for a, b in zip(one, other, strict=True))
            found[str(controller.get("sampler", controller["kind"]))] = {
                "exit_code": code,
                "rows_that_differ": differing,
            }
    return found


# --- no faults -------------------------------------------------------------------------------------------------------


def _memory_mb(pid: int) -> float:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS"):
            return int(line.split()[1]) / 1024
    return float("nan")


def quiet(trials: int = 10_000, controller: str = "random") -> dict[str, Any]:
    """Memory from 10 to 100 %, what a trial costs beside its evaluation, and the size of the file."""
    with bench() as place:
        spec = {"assets": {"seconds": [0.0, 0.0]}, "session": {"trials": trials, "controller": {"kind": controller}}}
        driver = place.start(**spec)
        place.wait_for(lambda: place.finished() >= trials // 10, driver, 300)
        first = last = _memory_mb(driver.pid)
        while driver.poll() is None:
            with contextlib.suppress(OSError):
                last = _memory_mb(driver.pid) or last
            time.sleep(0.2)
        code, _, err = end(driver, 10)
        found = place.trials()
        overhead = sorted(1e3 * (trial.timings["wait"] + trial.timings["report"]) for trial in found)
        with contextlib.closing(sqlite3.connect(place.folder / "a.db")) as raw:
            raw.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        size = (place.folder / "a.db").stat().st_size
    return {
        "name": "soak without faults",
        "trials": len(found),
        "exit_code": code,
        "memory_mb": [round(first, 1), round(last, 1)],
        "memory_growth_mb": round(last - first, 1),
        "overhead_ms_p50": round(overhead[len(overhead) // 2], 2),
        "overhead_ms_p95": round(overhead[int(0.95 * len(overhead))], 2),
        "store_mb": round(size / 1e6, 2),
        "errors": err[-200:],
        "load_average": round(os.getloadavg()[0], 1),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int)
    parser.add_argument("--store", choices=("sqlite", "postgres"), default="sqlite")
    parser.add_argument("--minutes", type=float, default=6.0, help="for how long faults are injected, at most")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--uncut", action="store_true")
    parser.add_argument("--quiet", action="store_true")
    parser.add_argument("--json", type=Path, help="append the result to this file, as a line")
    given = parser.parse_args()
    if given.uncut:
        found = uncut(given.trials or 400, seed=given.seed)
    elif given.quiet:
        found = quiet(given.trials or 10_000)
    else:
        found = soak(given.trials or 5000, given.store, given.minutes, given.seed)
    line = json.dumps(found)
    sys.stdout.write(line + "\n")
    if given.json:
        with given.json.open("a") as file:
            file.write(line + "\n")


if __name__ == "__main__":
    main()
