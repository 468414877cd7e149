"""Second moments of what the base model's layers read: all that fitting any candidate needs, gathered once."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from autoprune.pruning.calibration import Batch
from autoprune.pruning.reconstruction.consumers import Consumer, find_consumers
from autoprune.pruning.reconstruction.observing import observe, require_finite, run, watched
from autoprune.pruning.reconstruction.patches import map_sizes, patches_at, sample_places
from autoprune.types import ChannelGroup

__all__ = ["LayerMoments", "MomentSums", "gather_moments"]


@dataclass(frozen=True, eq=False)
class LayerMoments:
    """Mean and covariance of a layer's patches (g groups, p weights of a filter), in the model's dtype."""

    mean: np.ndarray
    """(g, p)."""
    covariance: np.ndarray
    """(g, p, p)."""
    norm: str = ""
    """The BatchNorm that reads the layer's output."""


class MomentSums:
    """Adds up rows (rows, g, p), shifted by the first ones' mean so that nothing cancels; sums are float64."""

    def __init__(self) -> None:
        self.rows = 0
        self._shift = self._first = self._second = torch.zeros(())

    def add(self, rows: Tensor) -> None:
        if not self.rows:
            self._shift = rows.mean(0)
            self._first = torch.zeros_like(self._shift, dtype=torch.float64)
            self._second = torch.zeros((*self._shift.shape, self._shift.shape[1]), dtype=torch.float64)
        shifted = (rows - self._shift).transpose(0, 1)
        self._first += shifted.sum(1, dtype=torch.float64)
        self._second += shifted.mT @ shifted
        self.rows += len(rows)

    def result(self) -> tuple[Tensor, Tensor]:
        """Mean (g, p) and covariance (g, p, p), divided by the number of rows, float64."""
        offset = self._first / self.rows
        covariance = self._second / self.rows - offset[:, :, None] * offset[:, None, :]
        return self._shift.double() + offset, covariance


@torch.no_grad()
def gather_moments(
    model: nn.Module, groups: Sequence[ChannelGroup], batches: Iterable[Batch], positions: int
) -> dict[str, LayerMoments]:
    """Moments of each layer that can be fitted, at ``positions`` places of each image: name -> moments.

    ``model`` is in eval mode and is not changed. Raises ConfigError when activations are not finite.
    """
    consumers, _ = find_consumers(model, groups)
    norms: dict[str, str] = {}
    sums: dict[str, MomentSums] = {}
    seen = 0
    for batch in batches:
        if not seen:
            structure = observe(model, consumers, batch)
            consumers, norms = structure.once, structure.norms
            sums = {consumer.name: MomentSums() for consumer in consumers}
        with watched(_hook(model, consumer, sums[consumer.name], seen, positions) for consumer in consumers):
            run(model, batch)
        seen += len(batch[0]) if isinstance(batch, tuple) else len(batch)
    dtype = next(model.parameters()).dtype
    found = {}
    for name, item in sums.items():
        mean, covariance = (tensor.to(dtype).numpy() for tensor in item.result())
        found[name] = LayerMoments(mean, covariance, norms.get(name, ""))
    return found


def _hook(model: nn.Module, consumer: Consumer, sums: MomentSums, seen: int, positions: int) -> RemovableHandle:
    layer = model.get_submodule(consumer.name)

    def hook(_: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        places = sample_places(seen, len(output), map_sizes(layer, output), positions)
        rows = patches_at(layer, inputs[0], places)
        require_finite(rows, consumer.name)
        sums.add(rows.cpu())

    return layer.register_forward_hook(hook)
