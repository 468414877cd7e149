"""The action wall: what a step may keep so that the rest of the episode can still meet the budget."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from autoprune.space import SearchSpace

__all__ = ["Wall"]


class Wall:
    """Upper bounds by metric, in its unit; the first of them is also the cost to come close to.

    The original's wall applies before rounding, which can break the budget by half a step and more; ``widths`` chooses
    among allowed widths, and knows that an episode must also be able to reach the budget.
    """

    def __init__(self, space: SearchSpace, bounds: Mapping[str, float], tolerance: float) -> None:
        self._cost, self._bounds, self._tolerance = space.cost, dict(bounds), tolerance
        self._allowed = [np.array(item.allowed) for item in space.dimensions]
        self._full, self._least = space.vector(space.full()), space.vector(space.minimum())

    def width(self, step: int, widths: np.ndarray, keep: float) -> int:
        """The allowed width nearest to ``keep`` (a share of the channels) between the lowest and highest sensible."""
        allowed = self._allowed[step]
        low, high = self._limits(step, widths)
        within = allowed[low : max(low, high) + 1] if low <= high else allowed[high : high + 1]
        return int(within[np.argmin(np.abs(within - keep * self._full[step]))])

    def _limits(self, step: int, widths: np.ndarray) -> tuple[int, int]:
        """Positions among the allowed widths: the lowest that leaves the budget within reach, the highest that fits."""
        metrics = self._metrics(step, widths, self._least)
        fits = np.logical_and.reduce([metrics[name] <= bound for name, bound in self._bounds.items()])
        high = int(np.flatnonzero(fits)[-1]) if fits.any() else 0
        name, bound = next(iter(self._bounds.items()))
        reaches = self._metrics(step, widths, self._full)[name] >= bound * (1 - self._tolerance)
        return (int(np.argmax(reaches)) if reaches.any() else len(fits) - 1), high

    def ratio(self, step: int, widths: np.ndarray, keep: float) -> float:
        """As in the released code: ``keep``, or what just fits before rounding while later groups are smallest."""
        ratios = self._allowed[step] / self._full[step]
        metrics = self._metrics(step, widths, self._least)
        most = min(float(np.interp(bound, metrics[name], ratios)) for name, bound in self._bounds.items())
        return max(min(keep, most), float(ratios[0]))

    def _metrics(self, step: int, widths: np.ndarray, rest: np.ndarray) -> dict[str, np.ndarray]:
        """Costs with this step at each of its allowed widths and later ones as in ``rest``."""
        rows = np.repeat(np.concatenate([widths[:step], rest[step:]])[None], len(self._allowed[step]), axis=0)
        rows[:, step] = self._allowed[step]
        return self._cost.metrics(rows)

    def rounded_up(self, step: int, ratio: float) -> int:
        """As in the released code: rounded to whole channels, then up to the next allowed width."""
        allowed = self._allowed[step]
        at = int(np.searchsorted(allowed, round(ratio * self._full[step])))
        return int(allowed[min(at, len(allowed) - 1)])
