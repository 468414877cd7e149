"""From any proposal to a candidate within the budgets, by construction: nothing is found by rejection.

Costs grow with every width, so a proposal above an upper bound is shrunk along the straight line to the minimum (a
common factor), which always ends at a feasible point, and single steps then take back what rounding lost. Lower bounds
are met the same way towards the full model. Only upper and lower bounds at odds with each other need a local search,
which falls back on the line to a point found feasible once, in the constructor.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

import numpy as np

from autoprune.cost import composite
from autoprune.errors import ConfigError, did_you_mean
from autoprune.space import moves
from autoprune.space.lattice import COUNTED, Bounds, Lattice, Walk, counted
from autoprune.space.reach import feasible_point
from autoprune.space.space import SearchSpace
from autoprune.types import Candidate, Constraint, Objective

__all__ = ["METRICS", "Decoder"]

METRICS = tuple(COUNTED)
"""Metrics that are functions of the widths; bounds on others are the session's business."""
_COST_UNITS = ("_ms", "_bytes", "_seconds")


class Decoder:
    """Maps every candidate of a space to one that meets all bounds on macs, flops, params and keep_ratio.

    Deterministic and idempotent. Upper bounds on metrics of the cost table's extras (latency_ms of a latency table) are
    met through their ceilings, which grow with every width: what meets those meets the bound, but a network that is
    faster than a narrower one may be shrunk in vain. Bounds on other metrics (top1) are ignored: they are known only
    after a measurement.

    When the search minimises no cost of the model, only the best model at the budget matters, and proposals are also
    filled up to [bound * (1 - tolerance), bound] of some upper bound; where rounding leaves no candidate in that band,
    no width can grow by one step without breaking a bound.

    Raises NothingFeasible, with the smallest (largest) reachable cost, when no candidate meets the bounds.
    """

    def __init__(
        self,
        space: SearchSpace,
        constraints: Sequence[Constraint],
        *,
        objectives: Sequence[Objective] = (),
        tolerance: float = 0.02,
    ) -> None:
        self.space = space
        extras = composite.extra_names(space.cost.extras)
        known = [item for item in constraints if item.metric in COUNTED or (item.metric in extras and item.op == "<=")]
        self.constraints = tuple(known)
        self.tolerance = tolerance
        self.lattice = Lattice(space, tuple(name for name in extras if name in {item.metric for item in known}))
        self._bounds = self._combined(self.constraints)
        self._witness = feasible_point(self.lattice, self._bounds, self.constraints)
        costly = any(item.metric in COUNTED or item.metric.endswith(_COST_UNITS) for item in objectives)
        self.fills = self._bounds.any_high and not costly
        """Whether proposals are filled up to the bound."""

    def _combined(self, constraints: Sequence[Constraint]) -> Bounds:
        bounds = Bounds.free(len(self.lattice.bases))
        for item in constraints:
            base, value = counted(self.lattice, item.metric, item.bound(self.space.cost.baseline), item.op)
            if item.op == "<=":
                bounds.high[base] = min(bounds.high[base], value)
            else:
                bounds.low[base] = max(bounds.low[base], value)
        return bounds

    def feasible(self, widths: np.ndarray) -> np.ndarray:
        """Whether candidates meet all bounds, filling apart: widths (N, G) in channels -> (N,) bool."""
        metrics = self.space.cost.metrics(widths)
        result = np.ones(len(widths), dtype=bool)
        for item in self.constraints:
            bound = item.bound(self.space.cost.baseline)
            result &= metrics[item.metric] <= bound if item.op == "<=" else metrics[item.metric] >= bound
        return result

    def decode(self, candidate: Candidate) -> Candidate:
        """The candidate itself if it is feasible (and need not be filled), else a near feasible one.

        Raises ConfigError for widths that the space does not allow.
        """
        index = self.lattice.index(candidate)
        decoded = self._decoded(index)
        return candidate if np.array_equal(index, decoded) else self.lattice.candidate(decoded)

    def decode_to(self, candidate: Candidate, metric: str, target: float) -> Candidate:
        """A feasible candidate of about the proportions of ``candidate`` with ``metric`` at or just below ``target``.

        A target outside :meth:`cost_range` gives its nearer end. Raises ConfigError for a metric not in ``METRICS``.
        """
        self._check_metric(metric)
        base, value = counted(self.lattice, metric, target, "<=")
        lowest = self._cost(self._ends[0])[base]
        aimed = Bounds(self._bounds.low, self._bounds.high.copy())
        aimed.high[base] = min(aimed.high[base], max(value, lowest))
        index = self._repaired(self.lattice.index(candidate), aimed)
        only = Bounds.free(len(self.lattice.bases))
        only.high[base] = aimed.high[base]
        return self.lattice.candidate(self._filled(index, aimed, only))

    def cost_range(self, metric: str) -> tuple[float, float]:
        """The lowest and highest cost, in the metric's unit, that decoding reaches under the bounds (filling apart).

        Raises ConfigError for a metric not in ``METRICS``.
        """
        self._check_metric(metric)
        low, high = sorted(self.space.cost.measure(self.lattice.candidate(index))[metric] for index in self._ends)
        return low, high

    # --- inside, on index vectors ------------------------------------------------------------------------------------

    @cached_property
    def _ends(self) -> tuple[np.ndarray, np.ndarray]:
        """The minimum and the full model, brought within the bounds."""
        return self._repaired(np.zeros_like(self.lattice.top), self._bounds), self._repaired(
            self.lattice.top, self._bounds
        )

    def _decoded(self, index: np.ndarray) -> np.ndarray:
        index = self._repaired(index, self._bounds)
        return self._filled(index, self._bounds, self._bounds) if self.fills else index

    def _repaired(self, index: np.ndarray, bounds: Bounds) -> np.ndarray:
        """Within ``bounds``, or within the decoder's own where the local search fails; unchanged if it is already."""
        costs = self.lattice.costs(index[None])
        if bounds.met(costs)[0]:
            return index
        moved = index
        if not bounds.below_high(costs)[0]:
            moved = moves.climb(Walk(self.lattice, moves.shrink(self.lattice, index, bounds)), bounds, index)
        if not bounds.above_low(self.lattice.costs(moved[None]))[0]:
            lifted = moves.lift(self.lattice, moved, bounds)
            mended = lifted if bounds.met(self.lattice.costs(lifted[None]))[0] else None
            if mended is None:
                mended = moves.mend(Walk(self.lattice, moved), bounds)
            moved = moves.towards(self.lattice, self._witness, index, self._bounds) if mended is None else mended
        return moved

    def _filled(self, index: np.ndarray, bounds: Bounds, band: Bounds) -> np.ndarray:
        """Grown within ``bounds`` until some cost is within the tolerance of an upper bound of ``band``."""
        enough = np.full(len(band.high), np.inf)
        bounded = np.isfinite(band.high)
        enough[bounded] = band.high[bounded] * (1.0 - self.tolerance)
        if (self._cost(index) >= enough).any() or not bounds.below_high(self.lattice.costs(index[None]))[0]:
            return index
        walk = Walk(self.lattice, moves.grow(self.lattice, index, bounds))
        return moves.climb(walk, bounds, self.lattice.top, enough)

    def _cost(self, index: np.ndarray) -> np.ndarray:
        return np.asarray(self.lattice.costs(index[None])[:, 0])

    def _check_metric(self, metric: str) -> None:
        if metric not in COUNTED:
            raise ConfigError(f"{metric!r} is no function of the widths.", did_you_mean(metric, METRICS))
