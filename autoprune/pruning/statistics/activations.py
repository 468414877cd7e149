"""Statistics of the maps behind the activations: moments, zeros, and each example's own mean (``Responses``)."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from autoprune.pruning.statistics.base import Collector, Pass, Scene
from autoprune.pruning.statistics.sources import Kind, Source, visiting

__all__ = ["Activation", "Activations", "LabelledResponses", "Response", "Responses"]


@dataclass(frozen=True, eq=False)
class Activation:
    """What a group's units look like over all examples and positions, each (units,) float64.

    Where the group has several maps, the mean over the maps of what each gives.
    """

    mean: np.ndarray
    std: np.ndarray
    zeros: np.ndarray
    """Share of exact zeros, in [0, 1]."""
    kind: Kind
    """The least of the maps': ``rectified`` only if all of them come out of a ReLU."""
    reader: str
    """A module that reads a map of that kind."""


@dataclass(frozen=True)
class Activations:
    """Mean, standard deviation and share of zeros: group -> :class:`Activation`."""

    name: str = "activations"
    labels: bool = False

    def collector(self, scene: Scene) -> Collector:
        return _Moments(scene)


@dataclass(frozen=True, eq=False)
class Response:
    """The mean of each unit's map, example by example (over the maps too, where the group has several)."""

    values: np.ndarray
    """(examples, units) float32."""
    labels: np.ndarray
    """(examples,) int64; empty where the examples have none."""
    kind: Kind
    reader: str


@dataclass(frozen=True)
class Responses:
    """Each example's mean response, and the labels: group -> :class:`Response`."""

    name: str = "responses"
    labels: bool = False

    def collector(self, scene: Scene) -> Collector:
        return _Means(scene)


@dataclass(frozen=True)
class LabelledResponses(Responses):
    """The same, for examples that must have labels."""

    name: str = "labelled responses"
    labels: bool = True


class _Watcher:
    differentiates = False

    def __init__(self, scene: Scene) -> None:
        self._scene = scene

    def watching(self) -> AbstractContextManager[None]:
        return visiting(self._scene.model, self._scene.taps, self._scene.sources, self.see)

    def see(self, source: Source, value: Tensor) -> None:
        raise NotImplementedError

    def worst(self, group: str) -> tuple[Kind, str]:
        """The least kind among the group's maps, and a reader of it."""
        found = self._scene.sources.of(group)
        least = min(found, key=lambda source: ("linear", "smooth", "rectified").index(source.kind))
        return least.kind, least.reader


class _Moments(_Watcher):
    """Sums over the channels of each map of the mean, the squared mean, the variance and the zeros of each example."""

    def __init__(self, scene: Scene) -> None:
        super().__init__(scene)
        self._sums: dict[tuple[str, int], Tensor] = {}
        self._rows: dict[tuple[str, int], int] = {}

    def see(self, source: Source, value: Tensor) -> None:
        flat = value.movedim(source.dim, 1).flatten(2) if value.ndim > 2 else value.unsqueeze(2)
        variance, mean = torch.var_mean(flat, 2, correction=0)
        zeros = (flat == 0).sum(2)
        mean = mean.double()
        parts = torch.stack([mean.sum(0), mean.square().sum(0), variance.double().sum(0), zeros.sum(0).double()])
        parts[3] /= flat.shape[2]
        self._sums[source.place] = self._sums.get(source.place, 0) + parts.cpu()
        self._rows[source.place] = self._rows.get(source.place, 0) + len(flat)

    def add(self, batch: Pass) -> None:
        """Everything was seen on the way."""

    def result(self) -> Mapping[str, Any]:
        return {name: self._activation(name) for name in self._scene.taps.spans}

    def _activation(self, group: str) -> Activation:
        parts = []
        for source in self._scene.sources.of(group):
            sums = (self._sums[source.place] / self._rows[source.place]).numpy()
            mean, squared, variance, zeros = sums[:, source.index[group]].mean(2)
            parts.append((mean, np.sqrt(np.maximum(variance + squared - mean**2, 0)), zeros))
        mean, std, zeros = np.mean(parts, axis=0)
        kind, reader = self.worst(group)
        return Activation(mean, std, zeros, kind, reader)


class _Means(_Watcher):
    def __init__(self, scene: Scene) -> None:
        super().__init__(scene)
        self._batch: dict[str, list[np.ndarray]] = {}
        self._values: dict[str, list[np.ndarray]] = {}
        self._labels: list[np.ndarray] = []

    def see(self, source: Source, value: Tensor) -> None:
        flat = value.movedim(source.dim, 1).flatten(2) if value.ndim > 2 else value.unsqueeze(2)
        means = flat.mean(2).cpu().numpy()
        for group, index in source.index.items():
            self._batch.setdefault(group, []).append(means[:, index].mean(2))

    def add(self, batch: Pass) -> None:
        for group, found in self._batch.items():
            rows = len(found[0]) // batch.rows
            each = np.mean(found, axis=0, dtype=np.float64)
            self._values.setdefault(group, []).append(each.reshape(batch.rows, rows, -1).mean(1).astype(np.float32))
        self._batch.clear()
        if batch.labels is not None:
            self._labels.append(batch.labels.cpu().numpy())

    def result(self) -> Mapping[str, Any]:
        labels = np.concatenate(self._labels) if self._labels else np.zeros(0, dtype=np.int64)
        return {
            name: Response(np.concatenate(values), labels, *self.worst(name)) for name, values in self._values.items()
        }
