"""Composition of what candidates are reconstructed from."""

from __future__ import annotations

import numpy as np
import torch

from autoprune.config.schema import SearchConfig
from autoprune.data.dataset import Dataset
from autoprune.pruning.reconstruction import Material, find_consumers, gather_moments
from autoprune.space.space import SearchSpace
from autoprune.training.base import BaseModel
from autoprune.training.scoring import normalise

__all__ = ["reconstruction_material", "unreconstructed"]

_BATCH = 250


def reconstruction_material(
    config: SearchConfig, dataset: Dataset, base: BaseModel, space: SearchSpace
) -> Material | None:
    """None where candidates keep their inherited weights. Moments of the base model are gathered here, once for all
    workers. Raises ConfigError when its activations are not finite."""
    chosen, evaluation = config.evaluator.reconstruction, config.evaluator
    if chosen.kind == "none":
        return None
    images = np.ascontiguousarray(dataset.train.take(chosen.images, config.seed).images)
    recalibrated = evaluation.calibration_images > 0
    if chosen.mode == "sequential":
        return Material(chosen.kind, chosen.ridge, chosen.positions, recalibrated, images=images)
    batches = (normalise(part, dataset.mean, dataset.std) for part in torch.tensor(images).split(_BATCH))
    moments = gather_moments(base.module, space.groups, batches, chosen.positions)
    return Material(chosen.kind, chosen.ridge, chosen.positions, recalibrated, moments=moments)


def unreconstructed(config: SearchConfig, base: BaseModel, space: SearchSpace) -> dict[str, str]:
    """Layers that keep their inherited weights although others are reconstructed and they read channels that may be cut
    -> why."""
    return {} if config.evaluator.reconstruction.kind == "none" else find_consumers(base.module, space.groups)[1]
