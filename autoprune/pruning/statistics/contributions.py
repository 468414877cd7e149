"""What each channel contributes to the outputs of the layers that read it, and how closely it follows them.

Both look at readers at sampled places only, the same ones however the examples are split into batches.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from autoprune.pruning.reconstruction.consumers import Consumer, find_consumers
from autoprune.pruning.reconstruction.moments import MomentSums
from autoprune.pruning.reconstruction.observing import watched
from autoprune.pruning.reconstruction.patches import map_sizes, outputs_at, patches_at, sample_places
from autoprune.pruning.statistics.base import Collector, Pass, Scene

__all__ = ["Contribution", "Contributions", "Correlations"]

_MOST_SUMS = 1 << 23
"""Float64 sums of a layer's correlations: fewer places are looked at where they would be more (64 MiB)."""
_CONSTANT = 1e-10
"""Of the mean square: a smaller variance is rounding."""


@dataclass(frozen=True, eq=False)
class Contribution:
    """Of a group's units to the outputs of one reader: x_u, its inputs of unit u times its filters, without its bias.

    Averages over examples and places, sums over the reader's filters.
    """

    second: np.ndarray
    """E[x_u x_v], (units, units) float64."""
    covariance: np.ndarray
    """The same of the deviations from the mean."""
    norms: np.ndarray
    """Euclidean norm of the weights that read each unit, (units,)."""


@dataclass(frozen=True)
class Contributions:
    """Group -> a :class:`Contribution` for each of its readers."""

    name: str = "contributions"
    labels: bool = False
    positions: int = 10
    """Places of each image."""

    def collector(self, scene: Scene) -> Collector:
        return _Contributions(scene, self.positions)


@dataclass(frozen=True)
class Correlations:
    """Group -> mean |correlation| of each unit with the outputs that it is connected to, (units,) float64.

    A correlation is taken over the examples, place by place; the mean goes over places, filters, kernel positions and
    readers. Connections to padding do not count; a constant neuron correlates with nothing.
    """

    name: str = "correlations"
    labels: bool = False
    positions: int = 16
    """Places of a map, the same ones in each image."""

    def collector(self, scene: Scene) -> Collector:
        return _Correlations(scene, self.positions)


class _Readers:
    differentiates = False

    def __init__(self, scene: Scene, positions: int) -> None:
        self._model, self._groups, self._positions = scene.model, scene.groups, positions
        self._readers, self._skipped = find_consumers(scene.model, scene.groups)
        self._seen = 0

    @contextmanager
    def watching(self) -> Iterator[None]:
        with watched(self._hook(reader) for reader in self._readers):
            yield

    def _hook(self, reader: Consumer) -> RemovableHandle:
        def hook(layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
            self.see(reader, layer, inputs[0].detach(), output.detach())

        return self._model.get_submodule(reader.name).register_forward_hook(hook)

    def add(self, batch: Pass) -> None:
        """Everything else was seen on the way."""
        self._seen += batch.rows

    def see(self, reader: Consumer, layer: nn.Module, inputs: Tensor, output: Tensor) -> None:
        raise NotImplementedError

    def of_reader(self, reader: Consumer, index: np.ndarray) -> Any:
        """What is known of the units whose input positions are ``index`` (units, positions per unit)."""
        raise NotImplementedError

    def combined(self, found: Sequence[Any]) -> Any:
        raise NotImplementedError

    def result(self) -> Mapping[str, Any]:
        parts: dict[str, list[Any]] = {}
        for reader in self._readers:
            for group, index in reader.cuts.get(1, ()):
                parts.setdefault(group, []).append(self.of_reader(reader, index))
        return {
            group.name: self.combined(parts[group.name]) if group.name in parts else self._why_not(group.name)
            for group in self._groups
        }

    def _why_not(self, group: str) -> str:
        reasons = [f"{name}: {reason}" for name, reason in self._skipped.items()]
        return f"no layer that reads {group!r} can be looked into ({'; '.join(reasons) or 'it has none'})"


class _Contributions(_Readers):
    def __init__(self, scene: Scene, positions: int) -> None:
        super().__init__(scene, positions)
        self._sums = {reader.name: MomentSums() for reader in self._readers}
        self._known: dict[str, tuple[np.ndarray, np.ndarray, np.ndarray]] = {}

    def see(self, reader: Consumer, layer: nn.Module, inputs: Tensor, output: Tensor) -> None:
        places = sample_places(self._seen, len(output), map_sizes(layer, output), self._positions)
        self._sums[reader.name].add(patches_at(layer, inputs, places).cpu())

    def of_reader(self, reader: Consumer, index: np.ndarray) -> Contribution:
        if reader.name not in self._known:
            self._known[reader.name] = self._between_channels(reader)
        second, covariance, squares = self._known[reader.name]
        units, count = index.shape

        def between_units(values: np.ndarray) -> np.ndarray:
            chosen = values[np.ix_(index.ravel(), index.ravel())]
            total: np.ndarray = chosen.reshape(units, count, units, count).sum((1, 3))
            return total

        return Contribution(between_units(second), between_units(covariance), np.sqrt(squares[index].sum(1)))

    def _between_channels(self, reader: Consumer) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        mean, covariance = self._sums[reader.name].result()
        layer: Any = self._model.get_submodule(reader.name)
        weight = layer.weight.detach().cpu().double().reshape(reader.groups, reader.outputs // reader.groups, -1)
        taps = weight.shape[2] // reader.inputs
        products = weight.mT @ weight

        def by_channel(values: Tensor) -> np.ndarray:
            blocks = values.view(reader.groups, reader.inputs, taps, reader.inputs, taps)
            summed: np.ndarray = blocks.sum((0, 2, 4)).numpy()
            return summed

        second = by_channel(products * (covariance + mean[:, :, None] * mean[:, None, :]))
        squares = weight.square().sum((0, 1)).view(reader.inputs, taps).sum(1).numpy()
        return second, by_channel(products * covariance), squares

    def combined(self, found: Sequence[Contribution]) -> tuple[Contribution, ...]:
        return tuple(found)


class _Correlations(_Readers):
    def __init__(self, scene: Scene, positions: int) -> None:
        super().__init__(scene, positions)
        self._sums: dict[str, _Pairs] = {}

    def see(self, reader: Consumer, layer: nn.Module, inputs: Tensor, output: Tensor) -> None:
        rows, groups, filters = len(output), reader.groups, reader.outputs // reader.groups
        weight: Any = layer.weight
        sums = reader.outputs * reader.inputs * weight[0, 0].numel()
        few = max(1, min(self._positions, _MOST_SUMS // sums))
        places = sample_places(0, 1, map_sizes(layer, output), few)
        everywhere = places.repeat(rows, 1)
        everywhere[:, 0] = torch.arange(rows).repeat_interleave(len(places))
        read = patches_at(layer, inputs, everywhere).double().view(rows, len(places), groups, -1)
        given = outputs_at(layer, output, everywhere).double().view(rows, len(places), groups, filters)
        if reader.name not in self._sums:
            real = patches_at(layer, torch.ones_like(inputs[:1]), places) != 0
            self._sums[reader.name] = _Pairs(real.cpu(), read.mean(0).cpu(), given.mean(0).cpu())
        self._sums[reader.name].add(read.cpu(), given.cpu())

    def of_reader(self, reader: Consumer, index: np.ndarray) -> np.ndarray:
        total, count = self._sums[reader.name].strengths()
        per_channel = [values.view(reader.groups, reader.inputs, -1).sum((0, 2)).numpy() for values in (total, count)]
        sums, connections = (values[index].sum(1) for values in per_channel)
        strengths: np.ndarray = sums / np.maximum(connections, 1)
        return strengths

    def combined(self, found: Sequence[np.ndarray]) -> np.ndarray:
        mean: np.ndarray = np.mean(found, axis=0)
        return mean


class _Pairs:
    """Sums of inputs (rows, places, g, p) and outputs (rows, places, g, n), shifted so that nothing cancels."""

    def __init__(self, real: Tensor, read: Tensor, given: Tensor) -> None:
        self._real, self._shifts, self._rows = real, (read, given), 0
        self._first = [torch.zeros_like(read), torch.zeros_like(given)]
        self._squares = [torch.zeros_like(read), torch.zeros_like(given)]
        self._cross = torch.zeros((*given.shape, read.shape[-1]), dtype=torch.float64)

    def add(self, read: Tensor, given: Tensor) -> None:
        shifted = [values - shift for values, shift in zip((read, given), self._shifts, strict=True)]
        for first, squares, values in zip(self._first, self._squares, shifted, strict=True):
            first += values.sum(0)
            squares += values.square().sum(0)
        self._cross += torch.einsum("rsgp,rsgn->sgnp", *shifted)
        self._rows += len(read)

    def strengths(self) -> tuple[Tensor, Tensor]:
        """Sum of |correlation| over places and filters, and the number of connections: both (g, p)."""
        inverse = []
        for first, squares, shift in zip(self._first, self._squares, self._shifts, strict=True):
            mean = first / self._rows
            variance = squares / self._rows - mean.square()
            size = variance + (mean + shift).square()
            deviating = variance > _CONSTANT * size
            inverse.append(torch.where(deviating, variance.clamp(min=1e-300).rsqrt(), 0.0))
        means = [first / self._rows for first in self._first]
        covariance = self._cross / self._rows - means[1][..., :, None] * means[0][..., None, :]
        found = (covariance * inverse[1][..., :, None] * inverse[0][..., None, :]).abs() * self._real[:, :, None, :]
        return found.sum((0, 2)), self._real.double().sum(0) * found.shape[2]
