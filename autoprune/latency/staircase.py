"""Times of a layer over neighbouring widths, and the multiple that they speak for."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

__all__ = ["MULTIPLES", "Staircase"]

MULTIPLES = (1, 2, 4, 8, 16, 32)
_WORTH = 0.02


@dataclass(frozen=True)
class Staircase:
    """One layer alone, with one of its widths varied and the other full."""

    kind: str
    """``conv 3x3``, ``depthwise 3x3``, ``linear``..."""
    layer: str
    side: str
    """``in``, ``out``, or ``in and out`` for a depthwise layer."""
    widths: tuple[int, ...]
    """Ascending."""
    times_ms: tuple[float, ...]

    def waste(self, multiple: int) -> float:
        """Mean time lost by widths that are multiples of ``multiple``: t(w) over the least t of any width from w on,
        minus 1. A width is wasteful when a wider layer is faster. NaN when no width is such a multiple.

        >>> steps = Staircase("conv 3x3", "conv", "out", (13, 14, 15, 16), (1.5, 1.5, 1.5, 1.0))
        >>> steps.waste(1), steps.waste(16), steps.multiple
        (0.375, 0.0, 4)
        """
        times = np.array(self.times_ms)
        least = np.minimum.accumulate(times[::-1])[::-1]
        chosen = np.array(self.widths) % multiple == 0
        return float((times / least - 1.0)[chosen].mean()) if chosen.any() else float("nan")

    @property
    def multiple(self) -> int:
        """The smallest multiple whose waste is within 2 points of the least."""
        wastes = {multiple: self.waste(multiple) for multiple in MULTIPLES}
        wastes = {multiple: waste for multiple, waste in wastes.items() if not np.isnan(waste)}
        least = min(wastes.values())
        return min(multiple for multiple, waste in wastes.items() if waste <= least + _WORTH)
