"""What an evaluator is built from, as plain data: it crosses process borders and is shared, never pickled modules."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from autoprune.config.schema import EvaluatorConfig, ModelConfig, Recipe
from autoprune.data.dataset import Split
from autoprune.data.shared import SharedSplit
from autoprune.models import registry
from autoprune.pruning.reconstruction import Material
from autoprune.types import ChannelGroup

__all__ = ["Assets", "Finetuning", "base_module", "shared_tensor"]


@dataclass(frozen=True)
class Finetuning:
    """What candidates are trained with where calibrating them is not all."""

    images: np.ndarray
    """All of the train split, as in :class:`Assets`."""
    labels: np.ndarray
    recipe: Recipe
    threads: int
    """Of torch while a candidate is trained: results are equal to the bit only at an equal number of them."""
    key: str
    """Digest of the evaluation: models that are trained again are kept under it and the candidate's digest."""
    shared: SharedSplit | None = None
    """Where ``images`` and ``labels`` are empty: how to get at them."""

    def split(self) -> Split:
        """What was sent, or what this machine reads itself."""
        return Split(self.images, self.labels) if self.shared is None else self.shared.read()


@dataclass(frozen=True)
class Assets:
    """The base model, where candidates get their weights from, and the images to measure on.

    Images are uint8 (N, C, H, W), labels int64 (N,), ``mean`` and ``std`` are per channel, for pixels in [0, 1].
    """

    model: ModelConfig
    num_classes: int
    in_channels: int
    state: Mapping[str, np.ndarray]
    groups: tuple[ChannelGroup, ...]
    ranking: Mapping[str, np.ndarray]
    """Units of each group, best first; empty where a hypernetwork makes the weights."""
    calibration_images: np.ndarray
    images: np.ndarray
    labels: np.ndarray
    mean: tuple[float, ...]
    std: tuple[float, ...]
    config: EvaluatorConfig
    hypernet: Mapping[str, np.ndarray] | None = None
    """``state_dict`` of the hypernetwork that makes the candidates' weights; None: they inherit the base model's."""
    reconstruction: Material | None = None
    """None: candidates keep the weights that they inherit."""
    finetuning: Finetuning | None = None
    """None: candidates are calibrated only."""


def base_module(assets: Assets) -> nn.Module:
    """The unpruned model with its trained weights, in eval mode, in memory of its own."""
    module = registry.build(assets.model, num_classes=assets.num_classes, in_channels=assets.in_channels)
    module.load_state_dict({name: torch.tensor(array) for name, array in assets.state.items()})
    return module.eval().requires_grad_(False)


def shared_tensor(array: np.ndarray) -> Tensor:
    """A tensor over the array's own memory, also where that is read-only (an object store's). Do not write to it."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The given NumPy array is not writable", category=UserWarning)
        return torch.from_numpy(array)
