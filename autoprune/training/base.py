"""The base model of a search: read from a checkpoint or the cache, or trained by the recipe."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from autoprune.config.schema import FileModel, SpaceConfig
from autoprune.data.dataset import Dataset
from autoprune.errors import ConfigError
from autoprune.models import registry
from autoprune.models.checkpoint import load_into, state_digest
from autoprune.training.cache import TrainedCache
from autoprune.training.cached import train_cached
from autoprune.training.loop import EpochReport, Trainer
from autoprune.training.pace import Standing

__all__ = ["BASE_CACHE", "BaseModel", "base_key", "base_model", "base_path", "fresh_model", "model_identity"]

_VERSION = 1
"""Raised whenever a change of the code would train other weights from the same configuration."""
BASE_CACHE = TrainedCache("base", "base model")


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
    space: SpaceConfig,
    dataset: Dataset,
    *,
    on_epoch: Callable[[EpochReport], None] | None = None,
    on_step: Callable[[Standing], None] | None = None,
) -> BaseModel:
    """Load ``base.checkpoint`` if it is set, else the cached model for this configuration, else train it.

    A training that was killed goes on from where it last was saved (every 20 seconds). Raises ConfigError when the
    checkpoint or the model does not fit the data, SearchAborted when training diverges. A damaged cache file is warned
    of and replaced.
    """
    started = time.perf_counter()
    model = fresh_model(space, dataset)
    _check_outputs(model, dataset)
    trained, spent = False, 0.0
    if space.base.checkpoint is not None:
        load_into(model, space.base.checkpoint)
    else:
        key = base_key(space, dataset)
        cached = BASE_CACHE.load(key)
        if cached is None:
            spent = _train(key, space, dataset, model, on_epoch, on_step)
            trained, cached = True, BASE_CACHE.load(key)
            # Loaded into a new module, so that a trained and a cached base model are the same thing in memory.
            model = fresh_model(space, dataset)
        if cached is None:
            raise ConfigError(f"the base model {key} was trained, but cannot be read back from the cache.")
        model.load_state_dict(cached[0])
    seconds = spent + time.perf_counter() - started
    return BaseModel(model.eval(), state_digest(model.state_dict()), trained, seconds)


def base_path(space: SpaceConfig, dataset: Dataset) -> Path:
    """The file that :func:`base_model` reads: the checkpoint, or the one in the cache."""
    checkpoint = space.base.checkpoint
    return Path(checkpoint).expanduser() if checkpoint else BASE_CACHE.path(base_key(space, dataset))


def base_key(space: SpaceConfig, dataset: Dataset) -> str:
    """Identity of a training: the model's and the recipe's configuration, the pixels, and this code's version."""
    content = {
        **model_identity(space, dataset),
        "version": _VERSION,
        "recipe": space.base.recipe.model_dump(mode="json"),
    }
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]


def model_identity(space: SpaceConfig, dataset: Dataset) -> dict[str, Any]:
    """What a training's key says of the architecture and the images."""
    content: dict[str, Any] = {
        "model": space.model.model_dump(mode="json"),
        "train": dataset.train.digest,
        "search_val": dataset.search_val.digest,
        "classes": dataset.num_classes,
    }
    if isinstance(space.model, FileModel):
        content["file"] = hashlib.sha256(Path(space.model.path).expanduser().read_bytes()).hexdigest()
        del content["model"]["path"]
    return content


def fresh_model(space: SpaceConfig, dataset: Dataset) -> nn.Module:
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


def _train(
    key: str,
    space: SpaceConfig,
    dataset: Dataset,
    model: nn.Module,
    on_epoch: Callable[[EpochReport], None] | None,
    on_step: Callable[[Standing], None] | None,
) -> float:
    """Train and cache; returns the seconds that earlier, cut attempts had spent."""
    recipe = space.base.recipe
    record = {
        "model": space.model.model_dump(mode="json"),
        "data": dataset.name,
        "recipe": recipe.model_dump(mode="json"),
    }
    return train_cached(
        BASE_CACHE,
        key,
        lambda on_pause: Trainer(model, dataset, recipe, on_pause=on_pause),
        record=record,
        on_epoch=on_epoch,
        on_step=on_step,
    )
