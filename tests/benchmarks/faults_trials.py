"""R4, R5, R6: trials that hang, take all memory or measure nothing finite; and evaluators that cannot be built."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Sequence
from itertools import cycle, islice
from pathlib import Path
from typing import Any

from faults_watch import RAY, Bench, end, lives, spread

from autoprune.executors.memory import OUT_OF_MEMORY
from autoprune.store import open_store
from autoprune.types import TrialState

HANGS = ("sleep", "busy", "freeze")
BUILDS = (["die"], ["sleep"], ["raise"], ["die", "die"], ["sleep", "sleep"], ["die", "die", "die"])


def hung_trials(count: int = 21, limit: float = 5.0, trials: int = 100) -> dict[str, Any]:
    """Sleeps, loops in C and stopped processes; ``trial_seconds`` is ``limit``. How long their process lives on."""
    with tempfile.TemporaryDirectory(prefix="apf-") as folder:
        bench = Bench(Path(folder))
        kinds = list(islice(cycle(HANGS), count))
        assets = {"faults": kinds, "every": 2}
        driver = bench.start(executor=RAY, trial_seconds=limit, assets=assets, session={"trials": trials})
        gone: dict[int, float] = {}

        def watch() -> bool:
            for pid in hung_since(bench):
                if pid not in gone and not lives(pid):
                    gone[pid] = time.time()
            return len(gone) >= count or driver.poll() is not None

        bench.wait_for(watch, None, 60 + count * (limit + 10))
        code, _, errors = end(driver)
        since = hung_since(bench)
        freed = [at - since[pid] for pid, at in gone.items()]
        return {
            "fault": f"hung trial ({', '.join(HANGS)}), limit {limit:g} s",
            "n": count,
            "survived": sum(seconds <= limit + 1 for seconds in freed) if code == 0 else 0,
            "freed_seconds": spread(freed),
            **bench.verdict(trials),
            "errors": errors[-300:],
        }


def hung_since(bench: Bench) -> dict[int, float]:
    return {pid: at for what, _, pid, at in bench.log() if what in HANGS}


def not_finite(count: int = 100, trials: int = 1000) -> dict[str, Any]:
    """NaN, inf and -inf as top1: DIVERGED, and none on the front."""
    with tempfile.TemporaryDirectory(prefix="apf-") as folder:
        bench = Bench(Path(folder))
        assets = {"faults": list(islice(cycle(("nan", "inf", "-inf")), count)), "every": 3, "seconds": [0.0, 0.002]}
        code, _, errors = end(bench.start(assets=assets, session={"trials": trials}), 300)
        faulty = {digest for what, digest, _, _ in bench.log() if what in ("nan", "inf", "-inf")}
        found = bench.trials()
        with open_store(bench.url, read_only=True) as store:
            _, values = store.columns("toy", ["top1", "macs"])
        wrong = [t for t in found if (t.candidate.digest in faulty) != (t.state is TrialState.DIVERGED)]
        return {
            "fault": "NaN, inf, -inf as a result",
            "n": len(faulty),
            "survived": len(faulty) - len(wrong) if code == 0 else 0,
            "among_those_of_the_front": int((~(abs(values) < float("inf"))).any(axis=1).sum()),
            **bench.verdict(),
            "errors": errors[-300:],
        }


def out_of_memory(trials: int = 100, every: int = 5, executor: str = "ray", gigabytes: float = 0.5) -> dict[str, Any]:
    """Every fifth candidate allocates without end (a third of them in one gulp); the others go on beside it."""
    with tempfile.TemporaryDirectory(prefix="apf-") as folder:
        bench = Bench(Path(folder))
        assets = {"always": "allocate", "every": every, "step_mb": 40, "most_mb": 3000}
        kind = RAY if executor == "ray" else {"kind": "serial"}
        driver = bench.start(
            executor=kind, trial_memory=1e9 * gigabytes, assets=assets, session={"trials": trials, "retries": 2}
        )
        bench.wait_for(lambda: bench.look() >= min(10, trials // 3), driver)
        before = held_mb(driver.pid)
        bench.wait_for(lambda: bench.look() >= trials - 2 or driver.poll() is not None, None, 600)
        growth = held_mb(driver.pid) - before
        code, _, errors = end(driver, 300)
        hungry = {digest for what, digest, _, _ in bench.log() if what == "allocate"}
        begun = [digest for what, digest, _, _ in bench.log() if what == "begin"]
        found = {t.candidate.digest: t for t in bench.trials()}
        told = [d for d in hungry if found[d].state is TrialState.FAILED and found[d].reason.startswith(OUT_OF_MEMORY)]
        return {
            "fault": f"a trial allocates without end ({executor}, limit {gigabytes:g} GB)",
            "n": len(hungry),
            "survived": len(told) if code == 0 else 0,
            "attempts_each": sorted({begun.count(digest) for digest in hungry}),
            "neighbours_run_again": sum(begun.count(digest) - 1 for digest in found if digest not in hungry),
            "driver_growth_mb": round(growth, 1),
            "reason": found[told[0]].reason if told else "",
            **bench.verdict(trials - len(hungry)),
            "errors": errors[-300:],
        }


def held_mb(pid: int) -> float:
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * 4096 / 1e6
    except OSError:
        return float("nan")


def broken_builds(trials: int = 10, faults: Sequence[Sequence[str]] = BUILDS) -> dict[str, Any]:
    """The first buildings of an evaluator die, hang or raise; the search goes on with others, or ends with words."""
    found = {}
    for kinds in faults:
        with tempfile.TemporaryDirectory(prefix="apf-") as folder:
            bench = Bench(Path(folder))
            spec = {"build": "broken", "assets": {"builds": kinds}, "session": {"trials": trials}}
            code, said, errors = end(bench.start(executor=RAY, start_seconds=3, **spec), 120)
            seconds, words = said.get("seconds"), errors[-300:]
            found["+".join(kinds)] = {"code": code, **bench.verdict(trials), "seconds": seconds, "said": words}
    survived = sum(each["code"] == 0 and each["lost"] == 0 for each in found.values())
    return {"fault": "an evaluator's building dies, hangs, raises", "n": len(found), "survived": survived, **found}
