"""R1: workers killed at random while a search runs through Ray."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import tempfile
import time
from pathlib import Path
from typing import Any

from faults_watch import RAY, Bench, end, spread


def killed_workers(kills: int = 100, trials: int = 1000, seed: int = 0) -> dict[str, Any]:
    """SIGKILL of a random living worker every 10 trials or so; how long until the trial that it ran begins again."""
    rng = random.Random(seed)
    with tempfile.TemporaryDirectory(prefix="apf-") as folder:
        bench = Bench(Path(folder))
        driver = bench.start(executor=RAY, session={"trials": trials, "retries": 5})
        killed: list[tuple[int, float]] = []
        try:
            for number in range(kills):
                done = number * trials // (kills + 1)
                bench.wait_for(lambda done=done: bench.look() >= done and bool(bench.workers()), driver)
                time.sleep(rng.uniform(0, 0.1))
                pid = rng.choice(bench.workers() or [0])
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL) if pid else None
                    killed.append((pid, time.time()))
            code, said, errors = end(driver, 300)
        finally:
            driver.kill()
        return {
            "fault": "SIGKILL of a random worker",
            "n": len(killed),
            "survived": len(killed) if code == 0 else 0,
            "requeue_seconds": spread(requeued(bench, killed)),
            **bench.verdict(trials),
            "seconds": said.get("seconds"),
            "errors": errors[-500:],
        }


def requeued(bench: Bench, killed: list[tuple[int, float]]) -> list[float]:
    """From the kill of a worker to the next beginning of what it had begun and not ended."""
    log = bench.log()
    found = []
    for pid, at in killed:
        open_trials = {digest for what, digest, of, _ in log if of == pid and what == "begin"}
        open_trials -= {digest for what, digest, of, _ in log if of == pid and what == "end"}
        for digest in open_trials:
            found += [when - at for what, which, _, when in log if (what, which) == ("begin", digest) and when > at][:1]
    return found
