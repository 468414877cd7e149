"""Memory of a search: its driver over ten thousand empty trials through Ray, and one worker beside its images.

    python tests/benchmarks/driver_memory.py [--trials 10000] [--controller random|tpe] [--images 30000]

The driver is the real one: session, SQLite store, controller, Ray executor; only the evaluation is empty. A worker
says what it holds when it starts, with a ResNet-20 that was run, and after reading all images, which lie in Ray's
shared memory: its private part should not grow by them.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
import tracemalloc
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np

from autoprune.api.reporting import facts
from autoprune.bench.empty_trials import CountingSession, EmptyEvaluator
from autoprune.bench.memory import memory_of, resident_mb
from autoprune.bench.search_rate import digits_search
from autoprune.bench.throughput import random_assets
from autoprune.config.schema import OptunaControllerConfig, RandomControllerConfig, RayExecutorConfig
from autoprune.driver.assemble import Prepared, make_controller
from autoprune.driver.observers import Silent
from autoprune.driver.session import Session
from autoprune.evaluators.assets import Assets
from autoprune.evaluators.evaluator import make_evaluator
from autoprune.executors.ray_tune import RayTuneExecutor
from autoprune.store import Store, new_owner, open_store
from autoprune.types import Candidate, Measurement, Outcome, Trial, TrialState

CONTROLLERS = {"random": RandomControllerConfig(), "tpe": OptunaControllerConfig()}
SHARES = (0.1, 0.25, 0.5, 1.0)


class Watcher(Silent):
    """Resident megabytes of this process after some numbers of finished trials."""

    def __init__(self, trials: int, python_objects: bool) -> None:
        self._marks = [round(share * trials) for share in SHARES]
        self._python_objects = python_objects
        self._finished = 0
        self._snapshot: tracemalloc.Snapshot | None = None
        self.megabytes: dict[int, float] = {}

    def on_trial(self, trial: Trial) -> None:
        if trial.state is TrialState.RUNNING:
            return
        self._finished += 1
        if self._finished in self._marks:
            self.megabytes[self._finished] = round(resident_mb(), 1)
            sys.stderr.write(f"{self._finished} trials: {resident_mb():.1f} MB\n")
            if self._python_objects:
                self._compare()

    def _compare(self) -> None:
        """What Python objects were added since the mark before, by the line that made them."""
        now = tracemalloc.take_snapshot()
        if self._snapshot is not None:
            for line in now.compare_to(self._snapshot, "lineno")[:12]:
                sys.stderr.write(f"    {line}\n")
        self._snapshot = now


def drive(store: Store, prepared: Prepared, watcher: Watcher) -> None:
    config = prepared.config
    record = store.create_search(
        config.name,
        config={},
        digest="d",
        evaluation_digest="e",
        baseline={"top1": 0.5, **prepared.space.cost.baseline},
    )
    session = Session(
        store=store,
        search=record,
        lease=store.claim(config.name, owner=new_owner(), ttl_seconds=60.0),
        controller=make_controller(prepared),
        decoder=prepared.decoder,
        space=prepared.space,
        objectives=config.parsed_objectives(),
        constraints=(),
        limits=config.limits,
        observers=(watcher,),
    )
    with session:
        RayTuneExecutor(RayExecutorConfig(), {}, EmptyEvaluator, 60.0).run(session)


def driver_memory(trials: int, controller: str, python_objects: bool) -> dict[str, object]:
    prepared = digits_search("ray", trials)
    settings = prepared.config.model_copy(update={"controller": CONTROLLERS[controller]})
    prepared = Prepared(settings, prepared.dataset, prepared.base, prepared.space, prepared.decoder)
    watcher, began = Watcher(trials, python_objects), time.perf_counter()
    with tempfile.TemporaryDirectory() as folder, open_store(f"sqlite:///{Path(folder) / 'a.db'}") as store:
        drive(store, prepared, watcher)
    first, *_, last = sorted(watcher.megabytes)
    grown = watcher.megabytes[last] - watcher.megabytes[first]
    return {
        "controller": controller,
        "megabytes_after_trials": watcher.megabytes,
        "kilobytes_a_trial_from_the_first_mark": round(1000 * grown / (last - first), 2),
        "seconds": round(time.perf_counter() - began, 1),
    }


class MeasuringEvaluator:
    """A real evaluator, and its process's memory: when it starts, with the evaluator, and once all images are read."""

    def __init__(self, assets: Assets) -> None:
        before = memory_of(os.getpid())
        self._images = assets.images
        few = replace(assets, images=assets.images[:500], labels=assets.labels[:500])
        self._evaluator = make_evaluator(few)
        self._memory = {"process": before}

    def evaluate(self, candidate: Candidate) -> Iterator[Measurement]:
        for _ in range(2):  # twice: memory that one evaluation needs is kept for the next
            for _ in self._evaluator.evaluate(candidate):
                pass
        self._memory["with_the_model_run"] = memory_of(os.getpid())
        np.max(self._images)
        self._memory["with_all_images_read"] = memory_of(os.getpid())
        metrics = {
            f"{when}_{kind}_mb": round(value, 1)
            for when, each in self._memory.items()
            for kind, value in vars(each).items()
        }
        yield Measurement(metrics, step=1, seconds=0.0, final=True)


class OneTrial(CountingSession):
    def __init__(self, candidate: Candidate) -> None:
        super().__init__(1)
        self._candidate = candidate
        self.metrics: Mapping[str, float] = {}

    def ask(self) -> Trial | None:
        trial = super().ask()
        return None if trial is None else replace(trial, candidate=self._candidate)

    def tell(self, number: int, outcome: Outcome) -> None:
        super().tell(number, outcome)
        self.metrics = outcome.metrics


def worker_memory(images: int) -> dict[str, float]:
    assets = random_assets("resnet20", 500)
    many = np.random.default_rng(0).integers(0, 256, (images, 3, 32, 32), dtype=np.uint8)
    assets = replace(assets, images=many, labels=np.zeros(images, np.int64))
    session = OneTrial(Candidate({group.name: group.channels // 2 for group in assets.groups}))
    RayTuneExecutor(RayExecutorConfig(max_parallel=1), assets, MeasuringEvaluator, 600.0).run(session)
    return {"images": images, "images_mb": round(many.nbytes / 1e6, 1), **session.metrics}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=10_000, help="0: the driver is not measured")
    parser.add_argument("--controller", choices=sorted(CONTROLLERS), default="random")
    parser.add_argument("--images", type=int, default=30_000, help="0: no worker is measured")
    parser.add_argument("--objects", action="store_true", help="also list what Python objects were added (slower)")
    given = parser.parse_args()
    if given.objects:
        tracemalloc.start()
    result: dict[str, object] = {}
    if given.trials:
        result["driver"] = driver_memory(given.trials, given.controller, given.objects)
    if given.images:
        result["worker"] = worker_memory(given.images)
    print(json.dumps({**result, "load_average": os.getloadavg()[0], **facts()}, indent=2))


if __name__ == "__main__":
    main()
