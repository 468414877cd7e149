"""Faults of a store in a file: locks, many writers, a full disk, a file that goes away, clocks that jump.

Drivers are processes of their own (faults_drive.py). A full disk is a tmpfs, which needs root.
"""

from __future__ import annotations

import contextlib
import json
import multiprocessing
import os
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from faults_toy import NAME
from faults_watch import HERE, Bench, end, python_path

from autoprune.errors import AutopruneError, NotFound, StoreError
from autoprune.store import new_owner, open_store
from autoprune.types import Candidate, Trial, TrialState

__all__ = ["StoreBench", "clocks", "full_disk", "gone", "locked", "small_disk", "writers"]

EIGHT = {"kind": "ray", "max_parallel": 8, "cpus_per_trial": 0.125}


@dataclass
class StoreBench(Bench):
    """A bench on any store."""

    store: str = ""
    """Its URL; empty: a file in the folder."""

    @property
    def url(self) -> str:
        return self.store or super().url

    def trials(self) -> list[Trial]:
        try:
            with open_store(self.url, read_only=True) as store:
                return store.trials(NAME)
        except NotFound:
            return []
        except StoreError as error:
            if "it is empty" in error.message:  # its tables are being made
                return []
            raise

    def finished(self) -> int:
        return sum(trial.state.finished for trial in self.trials())


@contextlib.contextmanager
def bench(store: str = "") -> Iterator[StoreBench]:
    folder = Path(tempfile.mkdtemp(prefix="autoprune-faults-"))
    try:
        yield StoreBench(folder, store=store)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def survived(found: dict[str, Any]) -> bool:
    """Nothing lost, nothing twice, nothing stuck, every number once."""
    return not (found["lost"] or found["twice"] or found["stuck_running"] or found["numbers_wrong"])


# --- locks -----------------------------------------------------------------------------------------------------------


def locked(seconds: float = 20.0, trials: int = 400, executor: Any = EIGHT) -> dict[str, Any]:
    """R7: another process holds the file exclusively in mid-search."""
    with bench() as place:
        driver = place.start(executor=executor, assets={"seconds": [0.05, 0.1]}, session={"trials": trials})
        place.wait_for(lambda: place.finished() >= trials // 10, driver)
        place.look()
        holder = sqlite3.connect(place.folder / "a.db", timeout=60, isolation_level=None)
        holder.execute("BEGIN EXCLUSIVE")
        time.sleep(seconds)
        holder.execute("ROLLBACK")
        holder.close()
        released, before = time.monotonic(), place.finished()
        place.wait_for(lambda: place.finished() > before, driver)
        after = time.monotonic() - released
        code, _, err = end(driver)
        found = place.verdict(trials)
        said = [line for line in err.splitlines() if line.strip()]
        errors = sum("error" in line.lower() or "Traceback" in line for line in said)
    return {
        "held_seconds": seconds,
        "exit_code": code,
        "first_result_after_seconds": round(after, 2),
        "errors_to_the_user": errors,
        "said": said[:3],
        "survived": survived(found) and code == 0,
        **found,
    }


def _write(url: str, worker: int, transactions: int, pause: float, results: Any) -> None:
    seconds, errors = [], 0
    with open_store(url) as store:
        store.create_search(f"s{worker}", config={}, digest="d", evaluation_digest="e", baseline={})
        lease = store.claim(f"s{worker}", owner=new_owner(), ttl_seconds=600.0)
        for number in range(transactions):
            trial = Trial(number, Candidate({"a": number + 1}), TrialState.RUNNING, started_at=time.time())
            began = time.perf_counter()
            try:
                store.start_trial(lease, trial)
            except AutopruneError:
                errors += 1
            seconds.append(time.perf_counter() - began)
            time.sleep(pause)
    results.put((seconds, errors))


def writers(processes: int = 16, transactions: int = 200, pause: float = 0.0, url: str = "") -> dict[str, Any]:
    """R7, R8: processes that write to one store at once, each a search of its own, ``pause`` seconds in between."""
    with bench(url) as place:
        open_store(place.url).close()
        context = multiprocessing.get_context("fork")
        results = context.Queue()
        working = [
            context.Process(target=_write, args=(place.url, n, transactions, pause, results)) for n in range(processes)
        ]
        began = time.monotonic()
        for each in working:
            each.start()
        gathered = [results.get(timeout=600) for _ in working]
        for each in working:
            each.join()
        took = time.monotonic() - began
        with open_store(place.url, read_only=True) as store:
            rows = sum(len(store.trials(f"s{n}")) for n in range(processes))
    milliseconds = sorted(1e3 * each for seconds, _ in gathered for each in seconds)
    return {
        "processes": processes,
        "pause_seconds": pause,
        "transactions": len(milliseconds),
        "errors": sum(errors for _, errors in gathered),
        "lost": processes * transactions - rows,
        "p50_ms": round(milliseconds[len(milliseconds) // 2], 2),
        "p99_ms": round(milliseconds[int(0.99 * len(milliseconds))], 2),
        "max_ms": round(milliseconds[-1], 2),
        "transactions_a_second": round(len(milliseconds) / took),
    }


# --- a full disk -----------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def small_disk(megabytes: float = 3.0) -> Iterator[Path]:
    """A file system of its own. Raises PermissionError where it cannot be mounted (not root)."""
    folder = Path(tempfile.mkdtemp(prefix="autoprune-disk-"))
    size = f"size={round(megabytes * 1024)}k"
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", size, "tmpfs", folder], capture_output=True, check=False)
    if done.returncode:
        folder.rmdir()
        raise PermissionError(f"a tmpfs cannot be mounted: {done.stderr.decode().strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", folder], check=False)
        folder.rmdir()


def fill(folder: Path, leave_kb: int) -> Path:
    """A file that takes all but ``leave_kb`` of a disk."""
    path = folder / "filler"
    with path.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(bytes(4096))
    os.truncate(path, max(0, path.stat().st_size - 1024 * leave_kb))
    return path


def full_disk(repeats: int = 10, trials: int = 300) -> dict[str, Any]:
    """R9: the store's disk fills up in mid-search, again and again; space is freed and the search resumed."""
    codes, messages, integrity, tracebacks = [], set(), set(), 0
    with small_disk(3.0) as disk, bench(f"sqlite:///{disk}/a.db") as place:
        spec: dict[str, Any] = {"assets": {"seconds": [0.001, 0.002]}, "session": {"trials": trials}}
        for number in range(repeats):
            spec["session"]["trials"] = trials * (number + 1) // repeats
            driver = place.start(**spec)
            with contextlib.suppress(RuntimeError):  # it may be over already
                place.wait_for(lambda: place.finished() >= spec["session"]["trials"] // 2, driver)
            filler = fill(disk, leave_kb=4 * (number % 3))
            spec["session"]["trials"] = trials * (number + 2) // repeats
            code, _, err = end(driver)
            if code == 0:  # it ended before the disk was full: this one meets it from the start
                code, _, err = end(place.start(**spec))
            codes.append(code)
            tracebacks += "Traceback" in err
            messages |= {line.partition("(")[0].strip() for line in err.splitlines() if line.startswith("error")}
            with contextlib.closing(sqlite3.connect(disk / "a.db")) as raw:
                integrity |= {row[0] for row in raw.execute("PRAGMA integrity_check")}
            place.look()
            filler.unlink()
        spec["session"]["trials"] = trials
        code, _, err = end(place.start(**spec))
        found = place.verdict(trials)
    return {
        "faults": repeats,
        "exit_codes": sorted(set(codes)),
        "tracebacks": tracebacks,
        "said": sorted(message.replace(str(disk), "DISK") for message in messages),
        "integrity_check": sorted(integrity),
        "resumed": code,
        "survived": survived(found) and code == 0,
        **found,
    }


# --- a file that goes away -------------------------------------------------------------------------------------------


def _remove(path: Path) -> None:
    path.unlink()


def _move(path: Path) -> None:
    path.rename(path.with_name("elsewhere.db"))


def _remove_log(path: Path) -> None:
    Path(f"{path}-wal").unlink()


def _remove_folder(path: Path) -> None:
    shutil.rmtree(path.parent)


GONE = {"removed": _remove, "moved": _move, "its -wal removed": _remove_log, "folder removed": _remove_folder}


def gone(repeats: int = 5, trials: int = 60) -> dict[str, Any]:
    """The store's file is taken away from a running driver; what it saved is put back, and the search resumed."""
    counts: dict[str, Any] = {}
    for what, take in GONE.items():
        survivals, codes, lost = 0, set(), 0
        for _ in range(repeats):
            with bench() as place:
                place.store = f"sqlite:///{place.folder}/in/a.db"
                place.environment = {"TMPDIR": str(place.folder)}
                spec: dict[str, Any] = {"assets": {"seconds": [0.01, 0.03]}, "session": {"trials": trials}}
                driver = place.start(**spec)
                place.wait_for(lambda: place.finished() >= trials // 3, driver)
                place.look()
                path = place.folder / "in" / "a.db"
                take(path)
                code, _, _ = end(driver)
                codes.add(code)
                (saved,) = place.folder.rglob("a.db.rescued-*")
                path.parent.mkdir(exist_ok=True)
                for ending in ("", "-wal", "-shm"):  # as the message says: nothing else under this name
                    Path(f"{path}{ending}").unlink(missing_ok=True)
                saved.rename(path)
                place.look()
                again, _, _ = end(place.start(**spec))
                found = place.verdict(trials)
                lost += found["lost"]
                survivals += survived(found) and again == 0
        counts[what] = {"survived": f"{survivals} of {repeats}", "exit_codes": sorted(codes), "lost": lost}
    return counts


# --- clocks ----------------------------------------------------------------------------------------------------------

_DRIVER = """
import json, sys, time
real, began, (after, jump) = time.time, time.monotonic(), json.loads(sys.argv[2])
time.time = lambda: real() + (jump if time.monotonic() - began > after else 0.0)
import faults_drive
faults_drive.main()
"""


def clocks(
    jumps: tuple[float, ...] = (3600.0, -3600.0, 86400.0, -86400.0),
    trials: int = 150,
    new_store: Callable[[], str] = str,
) -> dict[str, Any]:
    """The machine's clock jumps in mid-search: times stay in order, durations and limits right, the lease kept."""
    found: dict[str, Any] = {}
    for jump in jumps:
        with bench(new_store()) as place:
            session = {"trials": trials, "hours": 30 / 3600, "ttl_seconds": 1.5}
            spec = {"url": place.url, "folder": str(place.folder), "assets": {"seconds": [0.02, 0.03]}}
            command = [sys.executable, "-c", _DRIVER, json.dumps({**spec, "session": session}), json.dumps([3.0, jump])]
            driver = subprocess.Popen(
                command,
                cwd=HERE,
                env={**os.environ, **python_path()},
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                start_new_session=True,
            )
            began = time.monotonic()
            code, _, err = end(driver)
            wall = time.monotonic() - began
            verdict = place.verdict(trials)
            with open_store(place.url, read_only=True) as store:
                active = store.active_seconds(NAME)
            trials_found = place.trials()
            finished = [trial.finished_at or 0.0 for trial in trials_found]
            seconds = [sum(trial.timings.values()) for trial in trials_found]
        found[f"{jump:+g} s"] = {
            "exit_code": code,
            "survived": verdict["lost"] == verdict["stuck_running"] == verdict["numbers_wrong"] == 0 and code == 0,
            "out_of_order": sum(later <= earlier for earlier, later in pairwise(finished)),
            "negative_durations": sum(each < 0 for each in seconds),
            "active_seconds_off": round(active - wall, 2),
            "said": err.splitlines()[:2],
        }
    return found
