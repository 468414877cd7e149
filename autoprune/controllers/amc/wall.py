"""The released code's action wall: what a step may keep so that the rest of the episode can still meet the budget."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from autoprune.space import SearchSpace

__all__ = ["Wall"]


class Wall:
    """Upper bounds by metric, in its unit. It applies before rounding, which can break a budget by half a step and more
    (decoding mends that afterwards).
    """

    def __init__(self, space: SearchSpace, bounds: Mapping[str, float]) -> None:
        self._cost, self._bounds = space.cost, dict(bounds)
        self._allowed = [np.array(item.allowed) for item in space.dimensions]
        self._full, self._least = space.vector(space.full()), space.vector(space.minimum())

    def width(self, step: int, widths: np.ndarray, keep: float) -> int:
        """The width that ``keep``, a share of the channels, becomes; of ``widths`` (G,) earlier steps' are read."""
        return self.rounded_up(step, self.ratio(step, widths, keep))

    def ratio(self, step: int, widths: np.ndarray, keep: float) -> float:
        """``keep``, or what just fits before rounding while later groups are smallest."""
        ratios = self._allowed[step] / self._full[step]
        rows = np.repeat(np.concatenate([widths[:step], self._least[step:]])[None], len(ratios), axis=0)
        rows[:, step] = self._allowed[step]
        metrics = self._cost.metrics(rows)
        most = min(float(np.interp(bound, metrics[name], ratios)) for name, bound in self._bounds.items())
        return max(min(keep, most), float(ratios[0]))

    def rounded_up(self, step: int, ratio: float) -> int:
        """Rounded to whole channels, then up to the next allowed width."""
        allowed = self._allowed[step]
        at = int(np.searchsorted(allowed, round(ratio * self._full[step])))
        return int(allowed[min(at, len(allowed) - 1)])
