"""A search on one, two and three nodes of a Ray cluster on this machine, ways to reach it, and ways to bring images.

    python tests/benchmarks/ray_cluster.py [--trials 200] [--empty 500] [--images ROOT]

Nodes are processes of ``ray start`` with one CPU each. On a machine of two cores more nodes are no faster; what is
measured is what a cluster costs. ``--images``: a folder of CIFAR-10 as JPEG, to bring to two nodes through the object
store and by a shared path, into caches that are empty and then full.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import socket
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import ray
from ray._private.internal_api import node_stats

from autoprune.analysis.nodes import node_figures
from autoprune.api.reporting import facts
from autoprune.bench.empty_trials import CountingSession, EmptyEvaluator
from autoprune.bench.search_rate import digits_search
from autoprune.config.schema import RayExecutorConfig, Recipe, TorchvisionData
from autoprune.data import sources
from autoprune.data.dataset import Dataset
from autoprune.data.shared import SharedSplit, sent_split
from autoprune.driver.assemble import Prepared
from autoprune.driver.observers import Silent
from autoprune.driver.running import run_session
from autoprune.evaluators.assets import Finetuning
from autoprune.executors.ray_tune import RayTuneExecutor
from autoprune.store import open_store
from autoprune.testing.ray_nodes import RayCluster, ray_nodes
from autoprune.types import Candidate, Measurement, Trial, TrialState


class Watch(Silent):
    """When the first trial ended, and what each node's object store held after half of them."""

    def __init__(self, trials: int) -> None:
        self._half, self._finished = trials // 2, 0
        self.first_at = 0.0
        self.stored: dict[str, int] = {}

    def on_trial(self, trial: Trial) -> None:
        if trial.state is TrialState.RUNNING:
            return
        self._finished += 1
        self.first_at = self.first_at or time.perf_counter()
        if self._finished == self._half:
            self.stored = stored_bytes()


def stored_bytes() -> dict[str, int]:
    """Address -> bytes in the object store."""
    found = {}
    for node in ray.nodes():
        if node["Alive"]:
            stats = node_stats(node["NodeManagerAddress"], node["NodeManagerPort"], include_memory_info=False)
            found[node["NodeManagerAddress"]] = stats.store_stats.object_store_bytes_used
    return found


def searched(cluster: RayCluster, trials: int) -> dict[str, object]:
    prepared = digits_search("ray", trials)
    executor = RayExecutorConfig(address=cluster.address)
    config = prepared.config.model_copy(update={"executor": executor})
    prepared = Prepared(config, prepared.dataset, prepared.base, prepared.space, prepared.decoder)
    watch = Watch(trials)
    _ = prepared.assets  # ranking and baseline are not what is measured
    prepared.measure_baseline()
    with tempfile.TemporaryDirectory() as folder, open_store(f"sqlite:///{Path(folder) / 'a.db'}") as store:
        began = time.perf_counter()
        run_session(store, prepared, watch)
        seconds = time.perf_counter() - began
        nodes = node_figures(store.worker_totals("digits"), store.active_seconds("digits"))
        ended = sorted(trial.finished_at or 0.0 for trial in store.trials("digits") if not trial.duplicate_of)
    late = ended[len(ended) // 2 :]
    return {
        "nodes": len(cluster.nodes),
        "trials": trials,
        "seconds_to_the_first_trial": round(watch.first_at - began, 2),
        "seconds": round(seconds, 2),
        "trials_a_minute_in_the_second_half": round(60 * (len(late) - 1) / (late[-1] - late[0])),
        "object_store_bytes": watch.stored,
        "figures": [{**vars(node), "busy_seconds": round(node.busy_seconds, 1)} for node in nodes],
    }


def empty(address: str, trials: int) -> dict[str, object]:
    session, began = CountingSession(trials), time.perf_counter()
    RayTuneExecutor(RayExecutorConfig(address=address), {}, EmptyEvaluator, 60.0).run(session)
    each = session.seconds_each(parts=5)
    return {
        "address": "ray://" if address.startswith("ray://") else "host:port",
        "seconds_to_the_first_trial": round(session.told_at[0] - began, 2),
        "milliseconds_an_empty_trial": [round(1e3 * value, 2) for value in each],
    }


class Reader:
    """Brings images to a worker and says how long that took; they are not trained on."""

    def __init__(self, given: Finetuning) -> None:
        began = time.perf_counter()
        split = given.split()
        self._total = int(np.sum(split.images, dtype=np.int64))
        self._seconds = time.perf_counter() - began

    def evaluate(self, candidate: Candidate) -> Iterator[Measurement]:
        yield Measurement({"seconds": self._seconds, "total": float(self._total)}, 1, 0.0, True)


class Reading(CountingSession):
    def __init__(self, trials: int) -> None:
        super().__init__(trials)
        self.stored: dict[str, int] = {}
        self.seconds: dict[str, float] = {}
        self.totals: set[float] = set()

    def tell(self, number: int, outcome: object) -> None:
        super().tell(number, outcome)  # type: ignore[arg-type]
        self.seconds[outcome.worker] = outcome.metrics["seconds"]  # type: ignore[attr-defined]
        self.totals.add(outcome.metrics["total"])  # type: ignore[attr-defined]
        self.stored = stored_bytes()
        time.sleep(0.2)


def brought(
    cluster: RayCluster, data: Dataset, config: TorchvisionData, most_gb: float, what: str
) -> dict[str, object]:
    sent = sent_split(data.train, "train", config, 0, 1e9 * most_gb)
    shared = sent if isinstance(sent, SharedSplit) else None
    train = data.train.images[:0] if shared else np.ascontiguousarray(data.train.images)
    given = Finetuning(train, data.train.labels, Recipe(), 1, "k", shared)
    session, began = Reading(60), time.perf_counter()
    RayTuneExecutor(RayExecutorConfig(address=cluster.address), given, Reader, 600.0).run(session)
    assert len(session.totals) == 1, "all nodes have the same images"
    return {
        "images": what,
        "megabytes": round(data.train.images.nbytes / 1e6),
        "seconds_to_the_first_trial": round(session.told_at[0] - began, 2),
        "seconds_of_each_worker": sorted(round(value, 2) for value in session.seconds.values()),
        "object_store_bytes": session.stored,
    }


def images(root: str) -> Iterator[dict[str, object]]:
    config = TorchvisionData(kind="cifar10", root=root)
    data = sources.load(config)
    with tempfile.TemporaryDirectory() as homes, ray_nodes(0) as cluster:
        for number in range(2):  # a cache a node, as on two machines
            cluster.add(cpus=1, environment={"AUTOPRUNE_HOME": f"{homes}/{number}"})
        yield brought(cluster, data, config, 1.0, "object store")
        yield brought(cluster, data, config, 0.0, "shared path, empty caches")
        yield brought(cluster, data, config, 0.0, "shared path, full caches")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=200, help="of each search; 0: none")
    parser.add_argument("--empty", type=int, default=500, help="empty trials; 0: none")
    parser.add_argument("--images", help="a folder of CIFAR-10 as JPEG")
    given = parser.parse_args()
    found: dict[str, object] = {}
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = int(free.getsockname()[1]) if importlib.util.find_spec("grpc") else None
    if given.trials or given.empty:
        with ray_nodes(0, head_cpus=1, client_port=port) as cluster:
            if given.empty:
                found["empty"] = [empty(cluster.address, given.empty)]
                if port:
                    found["empty"].append(empty(f"ray://{cluster.head.ip}:{port}", given.empty))  # type: ignore[attr-defined]
            for number in range(3 if given.trials else 0):
                if number:
                    cluster.add(cpus=1)
                found.setdefault("searches", []).append(searched(cluster, given.trials))  # type: ignore[attr-defined]
                sys.stderr.write(f"{number + 1} nodes\n")
    if given.images:
        found["images"] = list(images(given.images))
    print(json.dumps({**found, "load_average": os.getloadavg()[0], **facts()}, indent=2))


if __name__ == "__main__":
    main()
