"""Fronts and pages of a store with 100,000 trials while a search is running, asked by 20 readers at once.

    python tests/benchmarks/service_load.py OUT.json [--trials 100000] [--readers 20] [--seconds 30] [--pace 0.2]

A writer finishes a trial of the same search every ``pace`` seconds, as a driver does; its commits are timed with and
without readers. Each reader asks as a page does: a front with 2,000 points behind it, a page of 50, then a pause.
Quantiles are those of the readers' own clocks; ``nothing`` is a request that needs no work, and ``slowdown`` how much
longer than alone a loop took before and after. Processor time is the server's, which other work disturbs least.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import httpx

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from autoprune.bench import big_store  # noqa: E402
from autoprune.store import Lease, Store, new_owner, open_store  # noqa: E402
from autoprune.types import Candidate, Trial, TrialState  # noqa: E402

FRONT = f"/api/v1/searches/{big_store.NAME}/front?others=2000"
PAGES = (
    f"/api/v1/searches/{big_store.NAME}/trials?limit=50&cursor=60000",
    f"/api/v1/searches/{big_store.NAME}/trials?limit=50&sort=-top1",
    f"/api/v1/searches/{big_store.NAME}/trials?limit=50&sort=-number",
    f"/api/v1/searches/{big_store.NAME}/trials?limit=50&sort=macs&where=top1%20%3E%3D%200.8",
)
NOTHING = "/api/v1/nothing"
"""What an answer takes that needs no work."""
PAUSE = 1.0
TRIALS_EACH = 40


def quantiles(seconds: list[float]) -> dict[str, float]:
    ordered = sorted(1000 * each for each in seconds)
    pick = {
        name: ordered[int(share * (len(ordered) - 1))] for name, share in (("p50", 0.5), ("p95", 0.95), ("p99", 0.99))
    }
    return {"n": len(ordered), **{f"{name}_ms": round(value, 1) for name, value in pick.items()}}


def finish(store: Store, lease: Lease, number: int) -> None:
    """Start and finish a trial."""
    trial = Trial(number, Candidate({f"layer{i}.conv1": 8 + number % 50 for i in range(12)}), TrialState.RUNNING)
    top1 = 0.5 + (number % 97) / 1000
    metrics = {"top1": top1, "loss": 1 - top1, "macs": 1e7 + number, "flops": 2e7, "params": 1e5, "keep_ratio": 0.5}
    store.start_trial(lease, trial)
    done = Trial(number, trial.candidate, TrialState.COMPLETE, metrics, finished_at=time.time())
    store.finish_trial(lease, done, {"kept": list(range(100))})


class Writer:
    """Finishes trials in a process's thread, as a driver's session does."""

    def __init__(self, url: str, first: int, pace: float) -> None:
        self.commits: list[float] = []
        self._url, self._next, self._pace, self._stop = url, first, pace, threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        with open_store(self._url) as store:
            lease = store.claim(big_store.NAME, owner=new_owner(), ttl_seconds=600)
            while not self._stop.wait(self._pace):
                began = time.perf_counter()
                finish(store, lease, self._next)
                self.commits.append(time.perf_counter() - began)
                self._next += 1
            store.release(lease)

    def stop(self) -> int:
        self._stop.set()
        self._thread.join()
        return self._next


def read(base: str, readers: int, seconds: float) -> dict[str, list[float]]:
    times: dict[str, list[float]] = {"front": [], "page": [], "nothing": []}
    deadline = time.monotonic() + seconds

    def one(number: int) -> None:
        time.sleep(PAUSE * number / readers)
        with httpx.Client(base_url=base, timeout=60) as http:
            asked = number
            while time.monotonic() < deadline:
                for kind, path in (("front", FRONT), ("page", PAGES[asked % len(PAGES)]), ("nothing", NOTHING)):
                    began = time.perf_counter()
                    answer = http.get(path)
                    times[kind].append(time.perf_counter() - began)
                    assert answer.status_code == (404 if path == NOTHING else 200), answer.text
                asked += 1
                time.sleep(PAUSE)

    threads = [threading.Thread(target=one, args=(number,)) for number in range(readers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return times


def slowdown(seconds: float = 0.3) -> float:
    """Wall time over processor time of a loop: 1 on a machine that is free."""
    wall, cpu = time.perf_counter(), time.process_time()
    while time.process_time() - cpu < seconds:
        sum(range(1000))
    return round((time.perf_counter() - wall) / seconds, 2)


def cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def after_each_trial(base: str, pid: int, url: str, first: int) -> tuple[dict[str, float], int]:
    """Processor time of the server for one answer after one trial, by what is asked: nothing is kept that long."""
    spent = {}
    with open_store(url) as store, httpx.Client(base_url=base, timeout=60) as http:
        lease = store.claim(big_store.NAME, owner=new_owner(), ttl_seconds=600)
        for path in (FRONT, *PAGES, NOTHING):
            before = cpu_seconds(pid)
            for _ in range(TRIALS_EACH):
                finish(store, lease, first)
                first += 1
                http.get(path)
            spent[path.removeprefix("/api/v1")] = round(1000 * (cpu_seconds(pid) - before) / TRIALS_EACH, 1)
        store.release(lease)
    return spent, first


def serve(folder: Path, url: str) -> tuple[subprocess.Popen[bytes], str]:
    port, connections = folder / "port", folder / "connections"
    command = [sys.executable, str(Path(__file__).with_name("service_security_server.py")), url, str(folder)]
    process = subprocess.Popen([*command, str(port), str(connections)], env={**os.environ, "PYTHONPATH": str(ROOT)})
    while True:
        time.sleep(0.2)
        try:
            base = f"http://127.0.0.1:{int(port.read_text())}"
            httpx.get(f"{base}/api/v1/health", timeout=10)
            return process, base
        except (OSError, ValueError, httpx.HTTPError):
            continue


def measure(folder: Path, trials: int, readers: int, seconds: float, pace: float) -> dict[str, Any]:
    url = f"sqlite:///{folder / 'big.db'}"
    built = big_store.build(folder / "big.db", trials)
    process, base = serve(folder, url)
    found: dict[str, Any] = {"store": built, "load_average": os.getloadavg(), "slowdown": [slowdown()]}
    try:
        with httpx.Client(base_url=base, timeout=60) as http:
            for path in (FRONT, *PAGES):
                http.get(path)
            found["front_members"] = len(http.get(FRONT).json()["front"])
            found["front_kb"] = round(len(http.get(FRONT).content) / 1000)
        found["server_cpu_ms_after_each_trial"], trials = after_each_trial(base, process.pid, url, trials)
        writer = Writer(url, trials, pace)
        time.sleep(seconds / 2)
        last, alone = writer.stop(), writer.commits
        for count in (1, readers):
            writer, before = Writer(url, last, pace), cpu_seconds(process.pid)
            times = read(base, count, seconds)
            spent = cpu_seconds(process.pid) - before
            last = writer.stop()
            answers = sum(map(len, times.values()))
            found[f"{count}_readers"] = {
                **{kind: quantiles(values) for kind, values in times.items()},
                "answers_per_second": round(answers / seconds, 1),
                "server_cpu_ms_per_answer": round(1000 * spent / answers, 1),
                "trials_written": len(writer.commits),
                "commit": quantiles(writer.commits),
            }
        found["commit_without_readers"] = quantiles(alone)
        found["slowdown"].append(slowdown())
    finally:
        process.terminate()
        process.wait()
    return found


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("out", type=Path)
    parser.add_argument("--trials", type=int, default=100_000)
    parser.add_argument("--readers", type=int, default=20)
    parser.add_argument("--seconds", type=float, default=30)
    parser.add_argument("--pace", type=float, default=0.2)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        found = measure(Path(folder), given.trials, given.readers, given.seconds, given.pace)
    found["machine"] = {"cores": os.cpu_count(), "python": platform.python_version()}
    given.out.write_text(json.dumps(found, indent=2) + "\n")
    sys.stderr.write(json.dumps(found, indent=2) + "\n")


if __name__ == "__main__":
    main()
