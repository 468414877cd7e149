"""One run: a starting module trained to its end in a worker process, and scored once on the test split."""

from __future__ import annotations

import hashlib
import json
import math
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import nn

from autoprune.config.recipes import Recipe
from autoprune.data.dataset import Dataset, Split
from autoprune.data.shared import SharedSplit
from autoprune.errors import ConfigError, SearchAborted
from autoprune.retraining.weights import Origins, starting_module
from autoprune.training.cache import TrainedCache
from autoprune.training.loop import Trainer
from autoprune.training.scoring import score
from autoprune.types import Candidate, Measurement

__all__ = ["PROGRESS", "RUN", "Materials", "Retrainer", "Run", "images_per_epoch", "make_retrainer", "trained_state"]

_VERSION = 1
"""Raised whenever a change of the code would give other numbers for the same run."""
_SAVE_SECONDS = 20.0
_BATCH = 500
RUN = "run"
"""Executors hand a worker a mapping of names to integers: here one, the place of the run among ``Materials.runs``."""
PROGRESS = TrainedCache("retraining", "retrained model")


@dataclass(frozen=True)
class Run:
    """An architecture, an arm and a seed, resolved to what is done."""

    widths: Mapping[str, int]
    arm: str
    start: str
    recipe: Recipe
    """With the run's seed."""
    first_epoch: int
    identity: str
    """Digest of the base model, the images and the ranking."""

    @property
    def epochs(self) -> int:
        return self.recipe.epochs - self.first_epoch

    def content(self) -> dict[str, Any]:
        """All that decides the result; another arm of the same weights and schedule is the same run."""
        return {
            "version": _VERSION,
            "widths": {name: int(self.widths[name]) for name in sorted(self.widths)},
            "start": self.start,
            "recipe": self.recipe.model_dump(mode="json"),
            "first_epoch": self.first_epoch,
            "identity": self.identity,
        }

    @property
    def digest(self) -> str:
        return hashlib.sha256(json.dumps(self.content(), sort_keys=True).encode()).hexdigest()[:24]


@dataclass(frozen=True, eq=False)
class Materials:
    """What workers are built from: origins of weights, images and the runs to choose from."""

    origins: Origins
    train: Split | SharedSplit
    search_val: Split | SharedSplit
    test: Split | SharedSplit
    mean: tuple[float, ...]
    std: tuple[float, ...]
    runs: tuple[Run, ...]

    def dataset(self) -> Dataset:
        """As the trainer wants it."""
        classes = self.origins.num_classes
        names = tuple(map(str, range(classes)))
        train, search_val = _read(self.train), _read(self.search_val)
        return Dataset(train, search_val, classes, names, self.mean, self.std, read_test=lambda: _read(self.test))


def _read(split: Split | SharedSplit) -> Split:
    return split.read() if isinstance(split, SharedSplit) else split


class Retrainer:
    """Trains the run that it is given. An attempt that was killed goes on from where it last was saved.

    Metrics: ``top1`` and ``loss`` on search-val, ``test_top1`` and ``test_loss``, all of the model of the last epoch;
    ``train_seconds``, earlier parts included. All are NaN when training diverged.
    """

    def __init__(self, materials: Materials) -> None:
        self._materials = materials
        self._dataset = materials.dataset()
        self.trained: nn.Module | None = None
        """The model of the last epoch, after the final measurement; None where training diverged."""

    def evaluate(self, candidate: Candidate) -> Iterator[Measurement]:
        """One measurement an epoch; the last is the final one."""
        run = self._materials.runs[candidate.widths[RUN]]
        began = time.perf_counter()
        self.trained = None
        try:
            trainer, earlier = self._trainer(run)
            saved = began
            for report in trainer.run():
                now = time.perf_counter()
                if now - saved > _SAVE_SECONDS and report.epoch < report.epochs:
                    PROGRESS.save_progress(run.digest, trainer, earlier + now - began)
                    saved = time.perf_counter()
                yield Measurement({"top1": report.val_top1}, report.epoch - run.first_epoch, now - began, False)
            metrics = self._scored(trainer)
            self.trained = trainer.model
        except SearchAborted:
            metrics, earlier = dict.fromkeys(("top1", "loss", "test_top1", "test_loss"), math.nan), 0.0
        seconds = time.perf_counter() - began
        PROGRESS.discard_progress(run.digest)
        metrics["train_seconds"] = earlier + seconds
        yield Measurement(metrics, run.epochs, seconds, True, {"train": seconds})

    def _trainer(self, run: Run) -> tuple[Trainer, float]:
        """Ready to go on, and the seconds spent before; a saved state that cannot be read is forgotten."""
        try:
            trainer = self._fresh(run)
            return trainer, PROGRESS.load_progress(run.digest, trainer)
        except ConfigError:
            PROGRESS.discard_progress(run.digest)
            return self._fresh(run), 0.0

    def _fresh(self, run: Run) -> Trainer:
        module = starting_module(run.start, Candidate(run.widths), run.recipe.seed, self._materials.origins)
        trainer = Trainer(module.requires_grad_(True), self._dataset, run.recipe)
        trainer.epoch = run.first_epoch
        return trainer

    def _scored(self, trainer: Trainer) -> dict[str, float]:
        data = self._dataset
        model = trainer.model.eval()
        values = {}
        for prefix, split in (("", data.search_val), ("test_", data.open_test())):
            found = score(model, split, mean=data.mean, std=data.std, batch_size=_BATCH)
            values.update({f"{prefix}{name}": value for name, value in found.items()})
        return values


def make_retrainer(materials: Materials) -> Retrainer:
    """For executors: a function that a worker process can import by name."""
    return Retrainer(materials)


def trained_state(retrainer: Retrainer) -> dict[str, np.ndarray] | None:
    """The weights of the last epoch, as plain arrays that cross process borders; None where training diverged."""
    if retrainer.trained is None:
        return None
    return {name: tensor.cpu().numpy() for name, tensor in retrainer.trained.state_dict().items()}


def images_per_epoch(images: int, recipe: Recipe) -> int:
    """Whole batches only, as the trainer counts."""
    batch = min(recipe.batch_size, images)
    return int(np.floor_divide(images, batch)) * batch
