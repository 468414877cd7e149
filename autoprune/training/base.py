"""The base model of a search: read from a checkpoint or the cache, or trained by the recipe."""

from __future__ import annotations

import hashlib
import json
import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from autoprune.config.schema import FileModel, Recipe, SpaceConfig
from autoprune.data.dataset import Dataset
from autoprune.errors import ConfigError
from autoprune.models import registry
from autoprune.models.checkpoint import load_into, state_digest
from autoprune.training.base_cache import discard_progress, load_base, load_progress, save_base, save_progress
from autoprune.training.loop import EpochReport, Trainer

__all__ = ["BaseModel", "base_key", "base_model"]

_VERSION = 1
"""Raised whenever a change of the code would train other weights from the same configuration."""
_SAVE_SECONDS = 20.0
_SMALL_BATCH = 1 << 16
"""Pixels times channels of a batch."""


@dataclass(frozen=True, eq=False)
class BaseModel:
    """The unpruned network, in evaluation mode, float32 on the CPU."""

    module: nn.Module
    digest: str
    """Of the weights themselves (``checkpoint.state_digest``)."""
    trained: bool
    """This call trained it; False: it came from a checkpoint or the cache."""
    seconds: float
    """What it took: the training, including earlier parts of one that was cut, or the loading."""


def base_model(
    space: SpaceConfig, dataset: Dataset, *, on_epoch: Callable[[EpochReport], None] | None = None
) -> BaseModel:
    """Load ``base.checkpoint`` if it is set, else the cached model for this configuration, else train it.

    A training that was killed goes on from where it last was saved (every 20 seconds). Raises ConfigError when the
    checkpoint or the model does not fit the data, SearchAborted when training diverges. A damaged cache file is warned
    of and replaced.
    """
    started = time.perf_counter()
    model = _fresh(space, dataset)
    _check_outputs(model, dataset)
    trained, spent = False, 0.0
    if space.base.checkpoint is not None:
        load_into(model, space.base.checkpoint)
    else:
        key = base_key(space, dataset)
        cached = load_base(key)
        if cached is None:
            spent = _train(key, space, dataset, model, on_epoch)
            trained, cached = True, load_base(key)
            # Loaded into a new module, so that a trained and a cached base model are the same thing in memory.
            model = _fresh(space, dataset)
        if cached is None:
            raise ConfigError(f"the base model {key} was trained, but cannot be read back from the cache.")
        model.load_state_dict(cached[0])
    seconds = spent + time.perf_counter() - started
    return BaseModel(model.eval(), state_digest(model.state_dict()), trained, seconds)


def base_key(space: SpaceConfig, dataset: Dataset) -> str:
    """Identity of a training: the model's and the recipe's configuration, the pixels, and this code's version."""
    content: dict[str, Any] = {
        "version": _VERSION,
        "model": space.model.model_dump(mode="json"),
        "recipe": space.base.recipe.model_dump(mode="json"),
        "train": dataset.train.digest,
        "search_val": dataset.search_val.digest,
        "classes": dataset.num_classes,
    }
    if isinstance(space.model, FileModel):
        content["file"] = hashlib.sha256(Path(space.model.path).expanduser().read_bytes()).hexdigest()
        del content["model"]["path"]
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]


def _fresh(space: SpaceConfig, dataset: Dataset) -> nn.Module:
    """The untrained network, whose weights depend on the recipe's seed alone."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(space.base.recipe.seed)
        return registry.build(space.model, num_classes=dataset.num_classes, in_channels=dataset.image_shape[0])


def _check_outputs(model: nn.Module, dataset: Dataset) -> None:
    shape = (2, *dataset.image_shape)
    try:
        with torch.inference_mode():
            outputs = model.eval()(torch.zeros(shape))
    except (RuntimeError, ValueError, IndexError, TypeError) as error:
        reason = str(error).splitlines()[0]
        raise ConfigError(
            f"the model cannot take the data set's images, a batch of shape {shape}: {reason}.",
            "Choose a model for this image size and number of channels, or set its args.",
        ) from None
    got = tuple(outputs.shape) if isinstance(outputs, torch.Tensor) else type(outputs).__name__
    if got != (2, dataset.num_classes):
        raise ConfigError(
            f"the model returns {got} for 2 images, expected logits of shape {(2, dataset.num_classes)}.",
            f"The data set has {dataset.num_classes} classes: give the last layer as many outputs.",
        )


@contextmanager
def _threads(dataset: Dataset, recipe: Recipe) -> Iterator[None]:
    """One thread where a batch is so small that threads wait for each other longer than they compute.

    On the digits two threads are no faster on an idle machine and many times slower on a busy one.
    """
    before = torch.get_num_threads()
    if recipe.batch_size * math.prod(dataset.image_shape) < _SMALL_BATCH:
        torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _train(
    key: str, space: SpaceConfig, dataset: Dataset, model: nn.Module, on_epoch: Callable[[EpochReport], None] | None
) -> float:
    """Train and cache; returns the seconds that earlier, cut attempts had spent."""
    started = saved = time.perf_counter()
    earlier = 0.0

    def save_now_and_then() -> None:
        nonlocal saved
        now = time.perf_counter()
        if now - saved > _SAVE_SECONDS:
            save_progress(key, trainer, earlier + now - started)
            saved = now

    trainer = Trainer(model, dataset, space.base.recipe, on_pause=save_now_and_then)
    earlier = load_progress(key, trainer)
    report = None
    with _threads(dataset, space.base.recipe):
        for report in trainer.run():
            if report.epoch < report.epochs:
                save_now_and_then()
            if on_epoch:
                on_epoch(report)
    record = {
        "model": space.model.model_dump(mode="json"),
        "data": dataset.name,
        "recipe": space.base.recipe.model_dump(mode="json"),
        "search_val_top1": report.val_top1 if report else None,
        "seconds": earlier + time.perf_counter() - started,
        "torch": torch.__version__,
    }
    save_base(key, trainer.model, record)
    discard_progress(key)
    return earlier
