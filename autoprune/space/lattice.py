"""Candidates as index vectors, with exact costs: the arithmetic under the decoder.

An index vector (G,) int64 holds, for each dimension, the position of its width among the allowed ones; 0 everywhere is
the minimum, ``top`` the full model. Costs grow with every index, which the decoder relies on; for metrics of the cost
table's extras, such as latency, it is their ceilings that do.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from autoprune.cost import composite
from autoprune.space.space import SearchSpace
from autoprune.types import Candidate

__all__ = ["BASES", "COUNTED", "Bounds", "Lattice", "Walk", "counted"]

BASES = ("macs", "params", "channels")
"""What costs are computed in: whole numbers, so that a comparison with a bound is exact."""
COUNTED = {"macs": "macs", "flops": "macs", "params": "params", "keep_ratio": "channels"}
"""Metric -> the base it is a multiple of."""
_PER_UNIT = 1e6
"""Ceilings count in millionths of the metric's unit, so that, as for the bases, half of one is nothing."""


@dataclass(frozen=True, eq=False)
class Bounds:
    """Lowest and highest allowed cost in each of ``Lattice.bases``: two arrays (B,) float64, infinite where free."""

    low: np.ndarray
    high: np.ndarray

    @classmethod
    def free(cls, count: int = len(BASES)) -> Bounds:
        return cls(np.full(count, -np.inf), np.full(count, np.inf))

    @property
    def any_high(self) -> bool:
        return bool(np.isfinite(self.high).any())

    def below_high(self, costs: np.ndarray) -> np.ndarray:
        """Costs (B, N) -> (N,) bool."""
        return np.asarray((costs <= self.high[:, None]).all(axis=0))

    def above_low(self, costs: np.ndarray) -> np.ndarray:
        """Costs (B, N) -> (N,) bool."""
        return np.asarray((costs >= self.low[:, None]).all(axis=0))

    def met(self, costs: np.ndarray) -> np.ndarray:
        """Costs (B, N) -> (N,) bool."""
        return self.below_high(costs) & self.above_low(costs)

    def miss(self, costs: np.ndarray, scale: np.ndarray) -> np.ndarray:
        """Sum of what is beyond the bounds, each in units of ``scale`` (B,): costs (B, ...) -> (...)."""
        shape = (-1,) + (1,) * (costs.ndim - 1)
        over = np.maximum(costs - self.high.reshape(shape), 0.0)
        under = np.maximum(self.low.reshape(shape) - costs, 0.0)
        return np.asarray(((over + under) / scale.reshape(shape)).sum(axis=0))


class Lattice:
    """The candidates of a space as index vectors. ``extras`` names metrics of the cost table's extras to count too."""

    def __init__(self, space: SearchSpace, extras: Sequence[str] = ()) -> None:
        self.space = space
        self.extras = tuple(extras)
        self.bases = (*BASES, *self.extras)
        self._models = tuple(item for item in space.cost.extras if set(item.names) & set(self.extras))
        self.dims = np.arange(len(space.dimensions))
        self.counts = np.array([len(item.allowed) for item in space.dimensions])
        self.top = self.counts - 1
        self._position = [{width: at for at, width in enumerate(item.allowed)} for item in space.dimensions]
        self.units = np.zeros((len(self.dims), int(self.counts.max())))
        """(G, K) float64: widths in units of each group, by index; the full width beyond a dimension's last."""
        for row, item in enumerate(space.dimensions):
            unit = int(space.cost.unit[row])
            self.units[row] = item.channels // unit
            self.units[row, : len(item.allowed)] = np.array(item.allowed) // unit
        self.constant, self.linear, self.matrix = self._forms()
        self.scale = np.maximum(self.costs(self.top[None])[:, 0], 1.0)

    def _forms(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Coefficients of ``BASES`` in units: (3,), (3, G), (3, G, G); whole numbers, the half of a product apart."""
        unit = self.space.cost.unit.astype(float)
        macs, params = self.space.cost.form("macs"), self.space.cost.form("params")
        pair = np.outer(unit, unit)
        zeros = np.zeros_like(pair)
        constant = np.array([macs.constant, params.constant, 0.0])
        # a table stores coefficients per channel: undoing its division must give whole numbers again
        linear = np.rint(np.stack([macs.linear * unit, params.linear * unit, unit]))
        matrix = np.rint(2.0 * np.stack([macs.matrix * pair, params.matrix * pair, zeros])) / 2.0
        return constant, linear, matrix

    def index(self, candidate: Candidate) -> np.ndarray:
        """Index vector of a candidate with allowed widths. Raises ConfigError for any other."""
        try:
            pairs = zip(self.space.dimensions, self._position, strict=True)
            at = [position[candidate.widths[item.name]] for item, position in pairs]
        except KeyError:
            self.space.validate(candidate)
            raise
        if len(candidate.widths) != len(at):
            self.space.validate(candidate)
        return np.array(at, dtype=np.int64)

    def candidate(self, index: np.ndarray) -> Candidate:
        return Candidate({item.name: item.allowed[at] for item, at in zip(self.space.dimensions, index, strict=True)})

    def costs(self, indices: np.ndarray) -> np.ndarray:
        """Indices (N, G) -> (B, N) float64, exact; ceilings of the extras in millionths."""
        units = self.units[self.dims, indices]
        product = units @ self.matrix
        product += self.linear[:, None, :]
        product *= units
        counted = np.asarray(product.sum(axis=2) + self.constant[:, None])
        return np.concatenate([counted, self.ceilings(indices)]) if self.extras else counted

    def ceilings(self, indices: np.ndarray) -> np.ndarray:
        """Indices (N, G) -> (extras, N) float64, in millionths of each metric's unit."""
        widths = (self.units[self.dims, indices] * self.space.cost.unit).astype(np.int64)
        found = composite.ceilings(self._models, widths)
        return np.stack([_PER_UNIT * found[name] for name in self.extras])


class Walk:
    """A position in the lattice with its costs, kept up to date over steps of ``stride`` indices."""

    def __init__(self, lattice: Lattice, index: np.ndarray, stride: int = 1) -> None:
        self.lattice = lattice
        self.index = index.copy()
        self.costs = lattice.costs(index[None])[:, 0]
        self._slope = lattice.linear + 2.0 * lattice.matrix @ lattice.units[lattice.dims, index]
        self._curve = np.diagonal(lattice.matrix, axis1=1, axis2=2)
        self.stride_by(stride)

    def stride_by(self, stride: int) -> None:
        """From now on a step moves by so many indices, or as far as the dimension goes."""
        self.stride = stride
        self.up, self.down = self._sizes(+1), self._sizes(-1)

    def _sizes(self, direction: int, dim: int | slice = slice(None)) -> np.ndarray:
        """Units that one step in each dimension adds: (G,); 0 where there is no step."""
        units, dims = self.lattice.units, self.lattice.dims[dim]
        target = np.clip(self.index[dim] + direction * self.stride, 0, self.lattice.top[dim])
        return np.asarray(units[dims, target] - units[dims, self.index[dim]])

    def changes(self, sizes: np.ndarray, rows: np.ndarray | slice = slice(None)) -> np.ndarray:
        """What each step of ``sizes`` (G,), all up or all down, alone adds to the costs of ``rows``: (rows, G)."""
        changes = sizes * (self._slope + sizes * self._curve)
        if self.lattice.extras:
            changes = np.concatenate([changes, self._extra_changes(np.sign(sizes).astype(np.int64))])
        return np.asarray(changes[rows])

    def _extra_changes(self, direction: np.ndarray) -> np.ndarray:
        dims = self.lattice.dims
        moved = np.tile(self.index, (len(dims), 1))
        moved[dims, dims] = np.clip(self.index + direction * self.stride, 0, self.lattice.top)
        return self.lattice.ceilings(moved) - self.costs[len(BASES) :, None]

    def step(self, dim: int, direction: int) -> None:
        size = (self.up if direction > 0 else self.down)[dim]
        counted = self.costs[: len(BASES)] + size * (self._slope[:, dim] + size * self._curve[:, dim])
        self._slope = self._slope + 2.0 * size * self.lattice.matrix[:, :, dim]
        self.index[dim] = np.clip(self.index[dim] + direction * self.stride, 0, self.lattice.top[dim])
        self.up[dim], self.down[dim] = self._sizes(+1, dim), self._sizes(-1, dim)
        extras = [self.lattice.ceilings(self.index[None])[:, 0]] if self.lattice.extras else []
        self.costs = np.concatenate([counted, *extras])


def counted(lattice: Lattice, metric: str, value: float, op: str) -> tuple[int, float]:
    """A bound on a metric as (position in ``lattice.bases``, bound in it), which decides as the metric's float does."""
    if metric in lattice.extras:
        return lattice.bases.index(metric), value * _PER_UNIT
    base = COUNTED[metric]
    if metric == "flops":
        value = value / 2.0
    elif metric == "keep_ratio":
        value = _channels(value, int(lattice.space.cost.channels.sum()), op)
    return BASES.index(base), value


def _channels(ratio: float, total: int, op: str) -> float:
    """The extreme number of channels whose share, computed in floats, still meets the bound."""
    if not math.isfinite(ratio * total):
        return ratio
    near = math.floor(ratio * total)
    if op == "<=":
        return float(max(k for k in range(near - 2, near + 3) if k / total <= ratio))
    return float(min(k for k in range(near - 2, near + 4) if k / total >= ratio))
