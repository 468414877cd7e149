"""Times of a layer over neighbouring widths, and the multiple that they speak for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

__all__ = ["MULTIPLES", "Staircase", "smallest_good", "waste_over"]

MULTIPLES = (1, 2, 4, 8, 16, 32)
_LEAST_CHOICES = 4
"""A multiple must leave a layer so many widths to choose from."""
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
        """See :func:`waste_over`.

        >>> steps = Staircase("conv 3x3", "conv", "out", tuple(range(8, 41)), tuple(-(-w // 8) for w in range(8, 41)))
        >>> round(steps.waste(1), 2), round(steps.waste(4), 2), steps.waste(8), steps.multiple
        (0.19, 0.11, 0.0, 8)
        """
        return waste_over(self.widths, self.times_ms, multiple)

    @property
    def wastes(self) -> dict[int, float]:
        """Of every multiple that leaves four widths."""
        return {multiple: waste for multiple in MULTIPLES if not np.isnan(waste := self.waste(multiple))}

    @property
    def multiple(self) -> int:
        """1 where the times have no steps."""
        return smallest_good(self.wastes)


def waste_over(widths: tuple[int, ...], times: tuple[float, ...], multiple: int) -> float:
    """Mean share of time above the lower envelope, over the widths that are multiples of ``multiple``, from the widest
    down to where one was not measured (so that none stands for more than another).

    The envelope is the greatest convex, growing function that is nowhere above the times: a width is above it where a
    wider layer is faster, or as fast. Its first and last point are the ends of the measured range whatever the times,
    so these do not count. NaN for a multiple of more than a quarter of the widest, or one that no width is left of.
    """
    lowest = widths[-1] - widths[-1] % multiple
    while lowest - multiple in widths:
        lowest -= multiple
    chosen = (np.array(widths) % multiple == 0) & (np.array(widths) >= lowest)
    chosen[[0, -1]] = False
    if multiple * _LEAST_CHOICES > widths[-1] or not chosen.any():
        return float("nan")
    lost = np.array(times) / _envelope(np.array(widths, dtype=float), np.array(times)) - 1.0
    return float(np.maximum(lost[chosen], 0.0).mean())


def smallest_good(wastes: Mapping[int, float]) -> int:
    """The smallest multiple whose waste is within 2 points of the least; noise is in all of them alike.

    >>> smallest_good({1: 0.20, 2: 0.11, 4: 0.031, 8: 0.015, 16: 0.012})
    4
    """
    least = min(wastes.values(), default=0.0)
    return min((multiple for multiple, waste in wastes.items() if waste <= least + _WORTH), default=1)


def _envelope(widths: np.ndarray, times: np.ndarray) -> np.ndarray:
    """Lower convex hull (Andrew 1979) of the least time from each width on."""
    least = np.minimum.accumulate(times[::-1])[::-1]
    hull: list[int] = []
    for at in range(len(widths)):
        while len(hull) > 1 and _above(hull[-2], hull[-1], at, widths, least):
            hull.pop()
        hull.append(at)
    return np.interp(widths, widths[hull], least[hull])


def _above(one: int, middle: int, other: int, x: np.ndarray, y: np.ndarray) -> bool:
    """The middle point is on or above the line between the others."""
    return bool((y[middle] - y[one]) * (x[other] - x[one]) >= (y[other] - y[one]) * (x[middle] - x[one]))
