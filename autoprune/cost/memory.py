"""Weight bytes and peak activation bytes of any candidate. numpy only; ``cost.memory_trace`` reads them off a module.

``weight_bytes`` is what parameters and buffers take in their own dtypes: a quadratic form of the widths.

``peak_activation_bytes`` is the most that activations take at any moment of one forward pass at batch 1 in evaluation
mode, as the module stands (nothing fused):

- the moments are the operations that PyTorch executes, in their order;
- alive at an operation is every buffer made at or before it and read at or after it, so what the operation reads and
  what it writes are both; the model's output lives to the end, the input from the start to its last reader;
- views and results in place are the buffer that they look at: ``ReLU(inplace=True)`` takes nothing, ``ReLU()`` takes
  its output;
- parameters and buffers of the module and an operation's private scratch memory do not count.

A buffer's size is linear in the widths, hence the peak is a maximum of linear functions: it never falls when a width
grows.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from autoprune.cost.table import CostTable

__all__ = ["MEMORY_METRICS", "MemoryModel", "Peaks"]

MEMORY_METRICS = ("weight_bytes", "peak_activation_bytes")
_CHUNK_ELEMENTS = 1 << 18


@dataclass(frozen=True, eq=False)
class Peaks:
    """Bytes alive at each moment: ``constant + linear @ units``."""

    constant: np.ndarray
    """(P,) float64."""
    linear: np.ndarray
    """(P, G) float64, nothing negative: bytes a unit of each group."""

    def most(self, units: np.ndarray) -> np.ndarray:
        """Units kept (N, G) -> bytes at the worst moment (N,) float64."""
        result = np.empty(len(units))
        step = max(1, _CHUNK_ELEMENTS // max(1, len(self.constant)))
        for start in range(0, len(units), step):
            alive = units[start : start + step].astype(float) @ self.linear.T
            alive += self.constant
            result[start : start + step] = alive.max(axis=1)
        return result

    def worst(self, units: np.ndarray) -> Peaks:
        """Without the moments that another one is at least as bad as, for 0 to ``units`` (G,) of each group."""
        order = np.argsort(-(self.constant + self.linear @ units), kind="stable")
        kept: list[int] = []
        for row in order.tolist():
            constant, linear = self.constant[kept], self.linear[kept]
            # at worst for the other: it has its advantage at no units and every disadvantage at full width
            behind = constant - self.constant[row] + np.minimum(linear - self.linear[row], 0.0) @ units
            if not (behind >= 0).any():
                kept.append(row)
        return Peaks(self.constant[kept], self.linear[kept])


@dataclass(frozen=True, eq=False)
class MemoryModel:
    """A cost model for ``CostTable.extras``: ``weight_bytes`` and ``peak_activation_bytes``, as the module says."""

    weights: CostTable
    """Over the searched groups; its terms are all tensors of the state, applied as often as an element has bytes, so
    that its macs are bytes."""
    peaks: Peaks

    @property
    def names(self) -> tuple[str, ...]:
        return MEMORY_METRICS

    def metrics(self, widths: np.ndarray) -> dict[str, np.ndarray]:
        """Widths (N, G) of int, in channels -> name -> (N,) float64, bytes."""
        units = np.asarray(widths) // self.weights.unit
        return dict(zip(MEMORY_METRICS, (self.weights.macs(widths), self.peaks.most(units)), strict=True))

    def ceilings(self, widths: np.ndarray) -> dict[str, np.ndarray]:
        """The metrics themselves, which grow with every width."""
        return self.metrics(widths)
