"""Second derivatives of the loss by the gates of units: their diagonal, averaged over the examples.

The gate form of Optimal Brain Damage: deleting unit k moves its gate from 1 to 0, which at a minimum costs h_kk / 2.
It holds the products of positions of one map, which a sum of h_zz z^2 over the positions leaves out.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from autoprune.pruning.statistics.base import Collector, Pass, Scene, by_group, cross_entropy
from autoprune.pruning.statistics.gradients import overwrites
from autoprune.pruning.taps import arguments, gated

__all__ = ["GaussNewton", "Hutchinson"]


@dataclass(frozen=True)
class GaussNewton:
    """Diagonal of the Gauss-Newton matrix J' H J of the cross-entropy by the gates: group -> (units,) float64, >= 0.

    J: derivatives of the logits; H = diag(p) - p p', the Hessian of the loss by the logits. It equals the mean of t^2
    over labels drawn from the model's own distribution p (Martens, "New insights and perspectives on the natural
    gradient method", JMLR 2020), which is how it is estimated: ``draws`` labels an example, 0: every class,
    weighted by p, which is exact. Labels of the data are not read.
    """

    draws: int = 1
    name: str = "gauss_newton"
    labels: bool = False

    def collector(self, scene: Scene) -> Collector:
        return _GaussNewton(scene, self.draws)


@dataclass(frozen=True)
class Hutchinson:
    """Diagonal of the Hessian by the gates: group -> (units,) float64, of either sign.

    Hutchinson's estimator (1989): the mean over random v = +-1 of v * Hv; ``draws`` of them for each example, each with
    two more passes back. Examples have gates of their own, so entries of different examples do not disturb each other.
    """

    draws: int = 1
    name: str = "hutchinson"
    labels: bool = True

    def collector(self, scene: Scene) -> Collector:
        return _Hutchinson(scene, self.draws)


class _Diagonal:
    differentiates = False

    def __init__(self, scene: Scene, draws: int) -> None:
        self._scene, self._draws = scene, draws
        self._sum = np.zeros(scene.taps.units)
        self._rows = 0

    def watching(self) -> AbstractContextManager[None]:
        return nullcontext()

    def add(self, batch: Pass) -> None:
        self._sum += self.diagonals(batch).sum(0).numpy()
        self._rows += batch.rows

    def diagonals(self, batch: Pass) -> Tensor:
        """Of each example, (rows, units) float64."""
        raise NotImplementedError

    def result(self) -> Mapping[str, Any]:
        return by_group(self._scene.taps, self._sum / self._rows)

    def random(self, batch: Pass) -> list[np.random.Generator]:
        """One for each example, whatever batch it comes in."""
        return [np.random.default_rng((self._scene.seed, batch.first + row)) for row in range(batch.rows)]


class _GaussNewton(_Diagonal):
    differentiates = True

    def diagonals(self, batch: Pass) -> Tensor:
        outputs = batch.outputs
        shares = outputs.detach().double().softmax(1).cpu()
        found = torch.zeros((batch.rows, self._scene.taps.units), dtype=torch.float64)
        if self._draws == 0:
            for label in range(outputs.shape[1]):
                same = torch.full((batch.rows,), label, device=outputs.device)
                found += shares[:, label : label + 1] * batch.gate_gradients(cross_entropy(outputs, same)).square()
            return found
        bounds = shares.cumsum(1).numpy()
        drawn = np.stack([random.random(self._draws) for random in self.random(batch)])
        for points in drawn.T:
            labels = np.minimum((bounds < points[:, None]).sum(1), outputs.shape[1] - 1)
            losses = cross_entropy(outputs, torch.from_numpy(labels).to(outputs.device))
            found += batch.gate_gradients(losses).square() / self._draws
        return found


class _Hutchinson(_Diagonal):
    def __init__(self, scene: Scene, draws: int) -> None:
        super().__init__(scene, draws)
        self._copies = overwrites(scene)

    def diagonals(self, batch: Pass) -> Tensor:
        scene = self._scene
        assert batch.labels is not None
        found = torch.zeros((batch.rows, scene.taps.units), dtype=torch.float64)
        gates = torch.ones_like(found, dtype=batch.outputs.dtype, device=batch.outputs.device).requires_grad_()
        with torch.enable_grad(), gated(scene.model, scene.taps, gates, copies=self._copies):
            losses = scene.loss(scene.model(*arguments(batch.inputs)), batch.labels)
            (slope,) = torch.autograd.grad(losses.sum(), gates, create_graph=True)
        if not slope.requires_grad:  # the loss is linear in all gates
            return found
        signs = np.stack([random.choice((-1.0, 1.0), (self._draws, gates.shape[1])) for random in self.random(batch)])
        for number in range(self._draws):
            v = torch.from_numpy(signs[:, number]).to(gates)
            (product,) = torch.autograd.grad((slope * v).sum(), gates, retain_graph=True)
            found += (v * product).cpu().double() / self._draws
        return found
