"""Candidates a minute of real searches, and what a search adds to a bare loop over the same candidates.

The networks are untrained and everything lies in a temporary folder: what a trial costs does not depend on either.
"""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing.synchronize import Barrier
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch

from autoprune.bench.spawning import require_guarded_main
from autoprune.config.loading import load_search
from autoprune.config.schema import SearchConfig
from autoprune.data import sources
from autoprune.data.dataset import Dataset, Split
from autoprune.driver.assemble import Prepared, make_space
from autoprune.driver.observers import Silent
from autoprune.driver.running import run_session
from autoprune.errors import EvaluationError
from autoprune.evaluators.assets import Assets
from autoprune.evaluators.evaluator import PruneEvaluator, make_evaluator
from autoprune.models import registry
from autoprune.models.checkpoint import state_digest
from autoprune.space.decoding import Decoder
from autoprune.store import open_store
from autoprune.training.base import BaseModel
from autoprune.types import Candidate, Trial

__all__ = ["bare_loops", "digits_search", "loop_seconds", "per_minute", "run_search", "synthetic_search"]

_DIGITS = {
    "name": "digits",
    "space": {
        "model": {"kind": "builtin", "name": "resnet8"},
        "data": {"kind": "digits"},
        "rules": [{"multiple": 2, "floor": 0.25}],
    },
    "evaluator": {"calibration_images": 500, "validation_images": 2000},
}
"""As ``launch/quickstart.yaml``."""


def digits_search(executor: str, trials: int) -> Prepared:
    """The quickstart's search with ``executor`` (``ray`` or ``serial``): about 20 ms a trial."""
    config = load_search({**_DIGITS, "executor": {"kind": executor}, "limits": {"trials": trials}})
    return _prepared(config, sources.load(config.space.data, seed=0))


def synthetic_search(seconds: float, trials: int) -> Prepared:
    """ResNet-20 on random 32x32 images through Ray, with as many images as take about ``seconds`` on one thread."""
    few = 100
    one = min(loop_seconds(_synthetic(few, trials).evaluator, [_synthetic(few, trials).space.uniform(0.6)] * 3))
    return _synthetic(max(10, round(few * seconds / one)), trials)


def run_search(prepared: Prepared) -> list[Trial]:
    """Run it in a new store, which is deleted; the trials that were really run, by the time of their end."""
    with TemporaryDirectory() as folder, open_store(f"sqlite:///{Path(folder) / 'bench.db'}") as store:
        run_session(store, prepared, Silent())
        found = store.trials(prepared.config.name)
    run = [trial for trial in found if trial.timings and not trial.duplicate_of]
    return sorted(run, key=lambda trial: trial.finished_at or 0.0)


def per_minute(trials: Sequence[Trial]) -> float:
    """Trials a minute from the first one's end to the last one's. Needs two at least."""
    ended = [trial.finished_at or 0.0 for trial in trials]
    return 60 * (len(ended) - 1) / (max(ended) - min(ended))


def loop_seconds(evaluator: PruneEvaluator, candidates: Sequence[Candidate]) -> list[float]:
    """Wall seconds of each candidate, evaluated one after the other in this process; no warming up."""
    seconds = []
    for candidate in candidates:
        began = time.perf_counter()
        for _ in evaluator.evaluate(candidate):
            pass
        seconds.append(time.perf_counter() - began)
    return seconds


class BareLoops:
    """As many processes as there are workers, each a loop over candidates: no store, no controller, no Ray."""

    def __init__(self, pool: ProcessPoolExecutor, processes: int) -> None:
        self._pool = pool
        self._processes = processes

    def seconds(self, candidates: Sequence[Candidate]) -> list[float]:
        """Wall seconds of each candidate; the processes share the candidates and start together.

        Raises EvaluationError when one of them dies.
        """
        shares = [candidates[start :: self._processes] for start in range(self._processes)]
        result = [0.0] * len(candidates)
        try:
            for start, taken in enumerate(self._pool.map(_loop, shares)):
                result[start :: self._processes] = taken
        except BrokenProcessPool:
            raise EvaluationError(
                "a process of the bare loops died before it answered.",
                "Was memory short? If a script of yours starts them: are the calls under if __name__ == '__main__':?",
            ) from None
        return result


@contextmanager
def bare_loops(assets: Assets, processes: int) -> Iterator[BareLoops]:
    """Start the processes, each with an evaluator and one thread.

    Raises ConfigError where the user's script would be run by each of them again.
    """
    require_guarded_main()
    context = multiprocessing.get_context("spawn")
    arguments = (assets, context.Barrier(processes))
    with ProcessPoolExecutor(processes, context, initializer=_start_loop, initargs=arguments) as pool:
        yield BareLoops(pool, processes)


_LOOP: dict[str, Any] = {}
"""The evaluator and the barrier of a process of ``bare_loops``."""


def _start_loop(assets: Assets, barrier: Barrier) -> None:
    torch.set_num_threads(1)
    _LOOP.update(evaluator=make_evaluator(assets), barrier=barrier)


def _loop(candidates: Sequence[Candidate]) -> list[float]:
    _LOOP["barrier"].wait()  # one share a process, since none takes a second one before all have one
    return loop_seconds(_LOOP["evaluator"], candidates)


def _synthetic(images: int, trials: int) -> Prepared:
    """``images`` to calibrate on and twice as many to score, as the defaults of an evaluator have them."""
    content: Mapping[str, Any] = {
        "name": "synthetic",
        "space": {"model": {"kind": "builtin", "name": "resnet20"}, "data": {"kind": "cifar10"}},
        "evaluator": {"calibration_images": images, "validation_images": 2 * images},
        "limits": {"trials": trials},
    }
    generator = np.random.default_rng(0)

    def split(size: int) -> Split:
        pixels = generator.integers(0, 256, (size, 3, 32, 32), dtype=np.uint8)
        return Split(pixels, generator.integers(0, 10, size))

    def no_test() -> Split:
        raise NotImplementedError("a search never opens the test split")

    names = tuple(str(label) for label in range(10))
    dataset = Dataset(split(images), split(2 * images), 10, names, (0.5,) * 3, (0.25,) * 3, read_test=no_test)
    return _prepared(load_search(content), dataset)


def _prepared(config: SearchConfig, dataset: Dataset) -> Prepared:
    """A search whose base model has its random weights."""
    space = make_space(config.space)
    objectives = config.parsed_objectives()
    decoder = Decoder(space, (), objectives=objectives, tolerance=config.budget_tolerance)
    torch.manual_seed(0)
    shape = dataset.image_shape
    module = registry.build(config.space.model, num_classes=dataset.num_classes, in_channels=shape[0]).eval()
    base = BaseModel(module, state_digest(module.state_dict()), trained=False, seconds=0.0)
    return Prepared(config, dataset, base, space, decoder)
