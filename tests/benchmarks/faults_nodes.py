"""Nodes: killed, frozen, cut off and lost with the head; how long until their trials run elsewhere.

Needs nothing but this machine: a head and two workers are started with ``ray start``. Cutting the network needs root
and network namespaces.
"""

from __future__ import annotations

import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from faults_watch import Bench, end, lives, python_path, spread

from autoprune.testing.ray_nodes import RayCluster, RayNode, ray_nodes, without_namespaces

SECONDS = [0.3, 0.6]


def kill_raylet(node: RayNode) -> None:
    node.kill("raylet")


def kill_node(node: RayNode) -> None:
    node.kill()


def freeze_node(node: RayNode) -> None:
    node.freeze()


def cut_node(node: RayNode) -> None:
    node.cut()


HITS: dict[str, Callable[[RayNode], None]] = {
    "raylet": kill_raylet,
    "node": kill_node,
    "freeze": freeze_node,
    "cut": cut_node,
}


def lost_node(
    how: str,
    repeats: int = 2,
    trials: int = 400,
    trial_seconds: float = 600.0,
    heal: bool = True,
    system_config: Mapping[str, object] | None = None,
) -> dict[str, Any]:
    """Hit one of two worker nodes in the middle of trials; the other goes on. Healed, its late words count nothing."""
    reason = without_namespaces() if how == "cut" else None
    if reason:
        return {"fault": how, "skipped": reason}
    runs = [_lost_node(how, trials, trial_seconds, heal, system_config) for _ in range(repeats)]
    return {
        "fault": f"worker node: {how}" + (", then healed" if heal and how in ("freeze", "cut") else ""),
        "n": repeats,
        "survived": sum(run["code"] == 0 and not run["lost"] and not run["twice"] for run in runs),
        "trial_seconds": trial_seconds,
        "system_config": dict(system_config or {}),
        "others_went_on_seconds": spread([run["gap"] for run in runs]),
        "requeue_seconds": spread([seconds for run in runs for seconds in run["requeued"]]),
        **{key: sum(run[key] for run in runs) for key in ("lost", "twice", "stuck_running", "rerun", "numbers_wrong")},
        "late_words": sum(run["late"] for run in runs),
        "errors": [run["err"] for run in runs],
    }


def _lost_node(
    how: str, trials: int, trial_seconds: float, heal: bool, system_config: Mapping[str, object] | None
) -> dict[str, Any]:
    with searching(trials, trial_seconds, SECONDS, network=how == "cut", system_config=system_config) as (
        bench,
        cluster,
        driver,
    ):
        bench.wait_for(lambda: bench.look() >= 8 and len(bench.workers()) == 2, driver)
        node = cluster.workers[0]
        here = set(node.pids("worker"))
        HITS[how](node)
        hit = time.time()
        going = interrupted(bench, here, hit)
        bench.wait_for(lambda: not waiting(bench, going, here, hit) or driver.poll() is not None, None, 240)
        requeued = [at - hit for at in begun_again(bench, going, hit).values()]
        if heal and how in ("freeze", "cut"):
            node.thaw() if how == "freeze" else node.restore()
            time.sleep(5)
        late = sum(pid in here and at > hit + 3 and what == "end" for what, _, pid, at in bench.log())
        bench.look()
        driver.send_signal(signal.SIGINT)
        code, _, errors = end(driver, 120)
        others = [at for what, _, pid, at in bench.log() if what == "begin" and pid not in here and at > hit]
        code = 0 if code == 0 and "Traceback" not in errors else code or 1
        verdict = settle(bench)
        return {
            "code": code,
            "gap": min(others, default=float("inf")) - hit,
            "requeued": requeued,
            "late": late,
            "err": errors[-400:],
            **verdict,
        }


def settle(bench: Bench) -> dict[str, Any]:
    """Run what was left without Ray, and judge."""
    number = len(bench.trials())
    code, _, errors = end(bench.start(assets={"seconds": [0.0, 0.01]}, session={"trials": number}), 60)
    if code:
        raise RuntimeError(errors)
    return bench.verdict(number)


def interrupted(bench: Bench, pids: set[int], at: float) -> set[str]:
    """Candidates that these processes had begun and not ended."""
    lines = [line for line in bench.log() if line[2] in pids and line[3] <= at]
    return {d for what, d, _, _ in lines if what == "begin"} - {d for what, d, _, _ in lines if what == "end"}


def waiting(bench: Bench, digests: set[str], pids: set[int], hit: float) -> set[str]:
    """Those that were neither begun again nor ended by a process that outlived the hit for a moment."""
    alive = any(lives(pid) for pid in pids)  # frozen or cut off: what ends there is not heard of
    ended = {d for what, d, pid, at in bench.log() if what == "end" and pid in pids and at > hit}
    return digests - set(begun_again(bench, digests, hit)) - (set() if alive else ended)


def begun_again(bench: Bench, digests: set[str], after: float) -> dict[str, float]:
    found: dict[str, float] = {}
    for what, digest, _, at in bench.log():
        if what == "begin" and digest in digests and at > after:
            found.setdefault(digest, at)
    return found


@contextmanager
def searching(
    trials: int, trial_seconds: float, seconds: list[float], faults: list[str] | None = None, **nodes: Any
) -> Iterator[tuple[Bench, RayCluster, subprocess.Popen[str]]]:
    """A search that runs on two worker nodes of one slot each."""
    environment = {"PYTHONPATH": python_path()["PYTHONPATH"], "OMP_NUM_THREADS": "1"}
    with (
        tempfile.TemporaryDirectory(prefix="apf-") as folder,
        ray_nodes(2, environment=environment, **nodes) as cluster,
    ):
        bench = Bench(Path(folder), cluster.driver_environment)
        driver = bench.start(
            executor={"kind": "ray", "address": cluster.address},
            trial_seconds=trial_seconds,
            assets={"seconds": seconds, "faults": faults or []},
            session={"trials": trials},
        )
        try:
            yield bench, cluster, driver
        finally:
            driver.kill()
            driver.wait()


def hung_far_away(count: int = 6, limit: float = 5.0) -> dict[str, Any]:
    """Hung trials on other nodes than the driver's, where it can send no signal."""
    from faults_trials import HANGS, hung_since

    faults = [HANGS[i % len(HANGS)] for i in range(count)]
    with searching(count + 6, limit, [0.01, 0.05], faults) as (bench, _, driver):
        gone: dict[int, float] = {}

        def watch() -> bool:
            for pid in hung_since(bench):
                if pid not in gone and not lives(pid):
                    gone[pid] = time.time()
            return driver.poll() is not None

        bench.wait_for(watch, None, 60 + count * (limit + 10))
        code, _, errors = end(driver)
        since = hung_since(bench)
        hung = {digest: at for what, digest, _, at in bench.log() if what in HANGS}
        again = [at - hung[d] for d, at in begun_again_all(bench, hung).items()]
        return {
            "fault": f"hung trial on another node, limit {limit:g} s",
            "n": count,
            "survived": count if code == 0 else 0,
            "process_gone_seconds": spread([gone[pid] - at for pid, at in since.items() if pid in gone]),
            "processes_left": sum(pid not in gone for pid in since),
            "run_again_seconds": spread(again),
            **bench.verdict(count + 6),
            "errors": errors[-300:],
        }


def begun_again_all(bench: Bench, since: Mapping[str, float]) -> dict[str, float]:
    found: dict[str, float] = {}
    for what, digest, _, at in bench.log():
        if what == "begin" and digest in since and at > since[digest]:
            found.setdefault(digest, at)
    return found


def lost_head(repeats: int = 2) -> dict[str, Any]:
    """The whole head node is killed; the driver ends with words, and the search goes on on a new cluster."""
    runs = []
    for _ in range(repeats):
        with tempfile.TemporaryDirectory(prefix="apf-") as keep:
            with searching(400, 600.0, SECONDS) as (bench, cluster, driver):
                bench.wait_for(lambda: bench.look() >= 8, driver)
                cluster.head.kill()
                began = time.monotonic()
                code, _, errors = end(driver, 200)
                took = time.monotonic() - began
                bench.look()
                for name in os.listdir(bench.folder):
                    if name.startswith(("a.db", "log")):
                        (Path(keep) / name).write_bytes((bench.folder / name).read_bytes())
                known = dict(bench.known)
            later = Bench(Path(keep), known=known)
            with ray_nodes(1, environment=python_path()) as second:
                later.environment = second.driver_environment
                number = len(later.trials()) + 10
                executor = {"kind": "ray", "address": second.address}
                again, _, more = end(later.start(executor=executor, session={"trials": number}), 120)
            verdict = later.verdict(number)
            runs.append(
                {"code": code, "seconds": took, "again": again, "err": errors[-500:], "more": more[-300:], **verdict}
            )
    well = [run["again"] == 0 and run["code"] > 0 and not run["lost"] and not run["twice"] for run in runs]
    return {
        "fault": "head node killed",
        "n": repeats,
        "survived": sum(well),
        "driver_ended_seconds": spread([run["seconds"] for run in runs]),
        **{key: sum(run[key] for run in runs) for key in ("lost", "twice", "stuck_running", "rerun")},
        "codes": [run["code"] for run in runs],
        "said": [run["err"] for run in runs],
        "more": [run["more"] for run in runs],
    }
