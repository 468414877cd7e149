"""Derivatives of the loss by the gates of units, example by example, from one backward pass.

The gate of a unit multiplies its map z wherever it is read, so the derivative at 1 is t = sum over positions of
z * dC/dz, the first-order change of the loss when the unit is scaled. Examples do not mix in evaluation mode: the
backward pass of the summed losses gives every example its own t, without a loop over the examples.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from autoprune.pruning.statistics.base import Collector, Pass, Scene, by_group
from autoprune.pruning.taps import Reading, Taps, head, on_readings

__all__ = ["GateGradient", "GateGradients", "overwrites", "recording"]


@dataclass(frozen=True, eq=False)
class GateGradient:
    """Moments over the examples of t, each (units,) float64."""

    mean: np.ndarray
    mean_abs: np.ndarray
    mean_square: np.ndarray
    size: int
    """Elements of a unit's map behind its activation, for one example; of the largest, where there are several."""


@dataclass(frozen=True)
class GateGradients:
    """Moments of the loss's derivative by each unit's gate: group -> :class:`GateGradient`."""

    name: str = "gradients"
    labels: bool = True

    def collector(self, scene: Scene) -> Collector:
        return _Collector(scene)


class _Collector:
    differentiates = True

    def __init__(self, scene: Scene) -> None:
        self._scene = scene
        self._sums = np.zeros((3, scene.taps.units))
        self._rows = 0

    def watching(self) -> AbstractContextManager[None]:
        return nullcontext()

    def add(self, batch: Pass) -> None:
        assert batch.labels is not None
        each = batch.gate_gradients(self._scene.loss(batch.outputs, batch.labels)).numpy()
        self._sums += np.stack([each, np.abs(each), each**2]).sum(axis=1)
        self._rows += len(each)

    def result(self) -> Mapping[str, Any]:
        parts = by_group(self._scene.taps, self._sums / self._rows)
        size = self._scene.sources.size
        return {name: GateGradient(each[0], each[1], each[2], size(name)) for name, each in parts.items()}


@contextmanager
def recording(model: nn.Module, taps: Taps, *, copies: bool) -> Iterator[Callable[[Tensor], Tensor]]:
    """Forward passes inside keep what the derivatives need; yields: losses (rows,) -> (rows, units) float64.

    ``copies``: for a model that writes into what its modules have read before.
    """
    recorder = _Recorder(taps, copies)
    with on_readings(model, taps, recorder.watch), torch.enable_grad():
        yield recorder


def overwrites(scene: Scene) -> bool:
    """Whether the model writes into what its modules have read before it can be differentiated."""
    with recording(scene.model, scene.taps, copies=False) as gradients:
        outputs = scene.model(*head(scene.example))
        try:
            gradients(outputs.flatten(1).sum(1) if isinstance(outputs, Tensor) else torch.zeros(1))
        except RuntimeError as error:
            if "inplace" in str(error):
                return True
            raise
    return False


class _Recorder:
    def __init__(self, taps: Taps, copies: bool) -> None:
        self._units = taps.units
        self._copies = copies
        self._anchor = torch.zeros((), requires_grad=True)  # makes a graph where no parameter asks for gradients
        self._sums = torch.zeros(0)

    def watch(self, reading: Reading) -> Tensor:
        value = reading.value.clone() if self._copies else reading.value
        watched: Tensor = _Watch.apply(value, self._anchor.to(value.device), self, reading)
        return watched

    def __call__(self, losses: Tensor) -> Tensor:
        self._sums = torch.zeros((len(losses), self._units + 1), dtype=torch.float64)
        if losses.requires_grad:
            torch.autograd.grad(losses.sum(), self._anchor, retain_graph=True)
        return self._sums[:, :-1]

    def add(self, reading: Reading, value: Tensor, gradient: Tensor) -> None:
        """z * dC/dz of one call."""
        each = reading.by_channel(value * gradient).to("cpu", torch.float64)
        each = each.view(len(self._sums), -1, each.shape[1]).sum(1)
        self._sums.index_add_(1, torch.from_numpy(reading.tap.lookup), each)


class _Watch(torch.autograd.Function):
    """The value itself; on the way back the recorder is shown the gradient."""

    @staticmethod
    def forward(ctx: Any, value: Tensor, anchor: Tensor, recorder: _Recorder, reading: Reading) -> Tensor:
        ctx.save_for_backward(value)
        ctx.recorder, ctx.reading = recorder, reading
        return value.view_as(value)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, None, None]:
        (value,) = ctx.saved_tensors
        ctx.recorder.add(ctx.reading, value, gradient)
        return gradient, gradient.new_zeros(()), None, None
