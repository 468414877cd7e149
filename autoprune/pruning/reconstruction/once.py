"""Reconstruction from the base model's moments: no image goes through a candidate for it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import nn

from autoprune.pruning.reconstruction.constants import add_constant, place_of_constant
from autoprune.pruning.reconstruction.consumers import Consumer, find_consumers, kernel_size
from autoprune.pruning.reconstruction.moments import LayerMoments
from autoprune.pruning.reconstruction.solving import fit
from autoprune.types import ChannelGroup

__all__ = ["OnceReconstructor"]


class OnceReconstructor:
    """Fits the readers of cut channels so that they give what the base model's gave, each layer apart from the others.

    Inputs are those of the base model (the symmetric problem): what the fit of an earlier layer leaves over is not seen
    by a later one. ``level`` is ``bias``, ``channel`` or ``full``. ``recalibrated``: BatchNorm statistics are
    re-estimated afterwards. A layer that is not among ``moments`` keeps its inherited weights.
    """

    def __init__(
        self,
        model: nn.Module,
        groups: Sequence[ChannelGroup],
        moments: Mapping[str, LayerMoments],
        *,
        level: str,
        ridge: float,
        recalibrated: bool,
    ) -> None:
        self._model = model
        self._consumers = [item for item in find_consumers(model, groups)[0] if item.name in moments]
        self._moments = moments
        self._level, self._ridge, self._recalibrated = level, ridge, recalibrated

    @torch.no_grad()
    def __call__(self, sliced: nn.Module, keep: Mapping[str, np.ndarray]) -> None:
        """Change weights of ``sliced``, which was cut by ``keep``, in place. Layers that lost no input stay."""
        for consumer in self._consumers:
            filters, inputs = consumer.kept(keep)
            if len(inputs) < consumer.inputs:
                self._fit(consumer, sliced, torch.from_numpy(filters), inputs)

    def _fit(self, consumer: Consumer, sliced: nn.Module, filters: torch.Tensor, inputs: np.ndarray) -> None:
        moments = self._moments[consumer.name]
        place = place_of_constant(sliced, consumer.name, moments.norm, self._recalibrated)
        if self._level == "bias" and place in ("absorbed", "nowhere"):
            return
        layer: Any = self._model.get_submodule(consumer.name)
        weight = layer.weight[filters].double().reshape(consumer.groups, len(filters) // consumer.groups, -1)
        taps = math.prod(kernel_size(layer))
        kept, cut = _taps(inputs, taps), _taps(np.setdiff1d(np.arange(consumer.inputs), inputs), taps)
        mean = torch.tensor(moments.mean, dtype=torch.float64)
        fitted = weight[:, :, kept]
        if self._level != "bias":
            gram = torch.tensor(moments.covariance[:, kept.numpy()], dtype=torch.float64)
            if place == "nowhere":
                gram += mean[:, kept, None] * mean[:, None, :]
            cross = weight[:, :, cut] @ gram[:, :, cut].mT
            centre = None if place == "nowhere" else mean[:, kept]
            fitted = fit(self._level, fitted, gram[:, :, kept], cross, taps, self._ridge, centre)
            target: Any = sliced.get_submodule(consumer.name).weight
            target.copy_(fitted.reshape(target.shape))
        constant = (weight @ mean[:, :, None] - fitted @ mean[:, kept, None]).flatten()
        add_constant(sliced, consumer.name, moments.norm, place, constant)


def _taps(channels: np.ndarray, taps: int) -> torch.Tensor:
    """Positions of the channels' weights in a flattened filter."""
    return torch.from_numpy((channels[:, None] * taps + np.arange(taps)).ravel())
