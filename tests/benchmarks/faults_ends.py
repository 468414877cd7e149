"""R12: SIGTERM, SIGHUP and SIGINT at any moment: out in ten seconds, nothing left behind, nothing lost.

Not under nohup, which makes drivers deaf to SIGHUP as it should.
"""

from __future__ import annotations

import contextlib
import os
import random
import signal
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from faults_watch import RAY, Bench, end, spread

MOMENTS = ("start", "middle", "twice", "end")


def terminated(
    signals: Sequence[str] = ("SIGTERM", "SIGHUP", "SIGINT"),
    moments: Sequence[str] = MOMENTS,
    repeats: int = 2,
    executors: Sequence[str] = ("ray", "serial"),
    seed: int = 0,
) -> dict[str, Any]:
    """While Ray starts, in the middle of trials of 3 s, a second time a second later, and while the driver closes."""
    rng = random.Random(seed)
    cases = [(e, s, m) for e in executors for s in signals for m in moments for _ in range(repeats)]
    ended = [_terminate(executor, getattr(signal, name), moment, rng) for executor, name, moment in cases]
    faults = [[*case, one] for case, one in zip(cases, ended, strict=True) if not one["well"]]
    return {
        "fault": f"{', '.join(signals)} ({', '.join(moments)})",
        "n": len(ended),
        "survived": sum(one["well"] for one in ended),
        "exit_seconds": spread([one["seconds"] for one in ended]),
        "orphans": sum(one["orphans"] for one in ended),
        "shm_files": sum(one["shm"] for one in ended),
        "lost": sum(one["lost"] for one in ended),
        "twice": sum(one["twice"] for one in ended),
        "stuck_running": sum(one["stuck_running"] for one in ended),
        "not_well": faults,
    }


def _terminate(executor: str, number: int, moment: str, rng: random.Random) -> dict[str, Any]:
    with tempfile.TemporaryDirectory(prefix="apf", dir="/tmp") as folder:
        bench = Bench(Path(folder), {"TMPDIR": folder})
        kind = RAY if executor == "ray" else {"kind": "serial"}
        shm = set(os.listdir("/dev/shm"))
        trials = 4 if moment == "end" else 1000
        seconds = [0.3, 0.4] if moment == "end" else [2.0, 4.0]
        spec = {"executor": kind, "assets": {"seconds": seconds}}
        driver = bench.start(**spec, session={"trials": trials})
        _wait_for(bench, driver, moment, rng)
        began = time.monotonic()
        driver.send_signal(number)
        if moment == "twice":
            time.sleep(1)
            driver.send_signal(number)
        code, _, errors = end(driver, 30)
        took = time.monotonic() - began
        left = _processes(driver.pid, folder)
        bench.look()
        leaked = len(_nobodys(set(os.listdir("/dev/shm")) - shm))
        all_of_it = {"trials": max(len(bench.trials()) + 1, 4)}
        again, _, more = end(bench.start(assets={"seconds": [0.0, 0.01]}, session=all_of_it), 60)
        verdict = bench.verdict(all_of_it["trials"])
        well = took <= 10.5 and not left and not leaked and "Traceback" not in errors + more and again == 0
        return {
            "well": well and not (verdict["lost"] or verdict["twice"] or verdict["stuck_running"]),
            "code": code,
            "seconds": took,
            "orphans": len(left),
            "shm": leaked,
            **{key: verdict[key] for key in ("lost", "twice", "stuck_running", "trials")},
            "err": (errors + more)[-300:],
        }


def _wait_for(bench: Bench, driver: Any, moment: str, rng: random.Random) -> None:
    if moment == "start":
        bench.wait_for(lambda: (bench.folder / "a.db").exists(), driver)
        time.sleep(rng.uniform(0.3, 2.5))
    elif moment == "end":
        bench.wait_for(lambda: bench.look() >= 4, driver)
        time.sleep(rng.uniform(0.0, 0.3))
    else:
        bench.wait_for(lambda: bench.look() >= 1, driver)
        time.sleep(rng.uniform(0.0, 1.0))


def _processes(session: int, folder: str) -> list[int]:
    """What lives on of a driver ten seconds later: its session's processes, and those that name its folder."""
    deadline = time.monotonic() + 10
    while (found := _living(session, folder)) and time.monotonic() < deadline:
        time.sleep(0.1)
    return found


def _nobodys(names: set[str]) -> set[str]:
    """Shared-memory files that no living process maps: other programs of this machine have theirs."""
    mapped = ""
    for maps in Path("/proc").glob("[0-9]*/maps"):
        with contextlib.suppress(OSError):
            mapped += maps.read_text()
    return {name for name in names if f"/dev/shm/{name}" not in mapped}


def _living(session: int, folder: str) -> list[int]:
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            stat = (entry / "stat").read_text().rpartition(")")[2].split()
            command = (entry / "cmdline").read_bytes().decode(errors="replace")
        except OSError:
            continue
        if stat[0] not in "ZX" and (int(stat[3]) == session or (folder in command and "faults_drive" in command)):
            found.append(int(entry.name))
    return found
