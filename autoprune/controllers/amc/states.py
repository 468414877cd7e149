"""What the agent sees before it decides about a group: the layers that read the group's channels, and the budget.

All of it is read from the cost table, so any network with groups has states: coupled groups are one step, whose layers
are taken together; depthwise layers ride along with theirs.
"""

from __future__ import annotations

import math

import numpy as np

from autoprune.cost.table import CostTable, Term
from autoprune.space import SearchSpace

__all__ = ["States", "layers", "scaled_layers"]


def layers(cost: CostTable) -> np.ndarray:
    """(G, 7) float64: ordinal, type (0 convolution, 1 linear), channels in, channels out, stride, kernel, weights.

    Of the layers that read the group's channels: the largest kernel and stride, the sum of outputs and weights.
    """
    table = np.zeros((len(cost.groups), 7))
    for at in range(len(cost.groups)):
        readers = [term for term in cost.terms if term.applications and _cut(term, at, 1)]
        linear = bool(readers) and all(len(term.shape) == 2 for term in readers)
        table[at] = (
            at,
            float(linear),
            float(cost.channels[at]),
            float(sum(term.shape[0] for term in readers)),
            0.0 if linear else _stride(cost, at, readers),
            float(max((max(term.shape[2:], default=1) for term in readers), default=1)),
            float(sum(term.numel for term in readers)),
        )
    return table


def _cut(term: Term, group: int, dim: int) -> bool:
    return any(cut.group == group and cut.dim == dim for cut in term.cuts)


def _stride(cost: CostTable, group: int, readers: list[Term]) -> float:
    """From the pixels of the smallest map the group has to those that its readers write."""
    written = [term.applications for term in cost.terms if term.applications and _cut(term, group, 0)]
    read = [term.applications for term in readers if len(term.shape) > 2]
    return float(max(1, round(math.sqrt(min(written) / min(read))))) if written and read else 1.0


def scaled_layers(cost: CostTable) -> np.ndarray:
    """:func:`layers` with each column scaled to [0, 1] over the groups; 0 where all are equal."""
    table = layers(cost)
    spread = np.ptp(table, axis=0)
    return np.where(spread > 0, (table - table.min(axis=0)) / np.where(spread > 0, spread, 1.0), 0.0)


class States:
    """The ten features of the released code: those of the layers, and ``reduced``, ``rest`` and the action before.

    Its ``rest`` always counts the depthwise layers, and its ``reduced`` takes undecided groups to be at their smallest.
    """

    def __init__(self, space: SearchSpace, metric: str) -> None:
        self._cost, self._metric = space.cost, metric
        self._full, self._least = space.vector(space.full()), space.vector(space.minimum())
        self._baseline = space.cost.baseline[metric]
        self._static = scaled_layers(space.cost)
        self._later = _later(space.cost)
        self.features = self._static.shape[1] + 3

    def along(self, widths: np.ndarray) -> np.ndarray:
        """The states of a whole episode that ends in ``widths`` (G,): (G, S) float32."""
        return self.at(np.arange(len(widths)), widths)

    def at(self, steps: np.ndarray, widths: np.ndarray) -> np.ndarray:
        """The states before the given steps, (N,); of ``widths`` only what was decided earlier is read: (N, S)."""
        decided = np.arange(len(widths))[None] < steps[:, None]
        least = self._cost.metrics(np.where(decided, widths, self._least))[self._metric] / self._baseline
        before = np.where(steps > 0, widths[steps - 1] / self._full[steps - 1], 1.0)
        dynamic = np.stack([1.0 - least, self._later[steps], before], axis=1)
        return np.hstack([self._static[steps], dynamic]).astype(np.float32)


def _later(cost: CostTable) -> np.ndarray:
    """(G,): share of the MACs in layers that read later groups, and in all depthwise layers."""
    total = cost.baseline["macs"]
    macs = [term.numel * term.applications / total for term in cost.terms]
    alone = [not any(cut.dim == 1 for cut in term.cuts) and term.shape[1:2] == (1,) for term in cost.terms]
    depthwise = sum(part for part, single in zip(macs, alone, strict=True) if single)
    last = [max((cut.group for cut in term.cuts if cut.dim == 1), default=-1) for term in cost.terms]
    return np.array(
        [depthwise + sum(part for part, at in zip(macs, last, strict=True) if at > step)
         for step in range(len(cost.groups))]
    )  # fmt: skip
