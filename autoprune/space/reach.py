"""Whether any candidate meets the bounds, and what to tell a person when none does."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from autoprune.errors import NothingFeasible
from autoprune.space import moves
from autoprune.space.lattice import Bounds, Lattice, Walk
from autoprune.types import Constraint

__all__ = ["feasible_point"]

_LINE = 257
_STARTS = 8
_EXHAUSTIVE = 200_000
_CHUNK = 20_000


def feasible_point(lattice: Lattice, bounds: Bounds, constraints: Sequence[Constraint]) -> np.ndarray:
    """An index vector that meets the bounds. Raises NothingFeasible when none is found.

    Exact where all bounds are upper or all are lower (the minimum or the full model then decides) and in spaces of at
    most 200,000 candidates; otherwise the local search starts from several points of the line between the two ends.
    """
    lowest, highest = np.zeros_like(lattice.top), lattice.top
    ends = lattice.costs(np.stack([lowest, highest]))
    _check_each(lattice, ends, constraints, bounds)
    for index, costs in ((lowest, ends[:, :1]), (highest, ends[:, 1:])):
        if bounds.met(costs)[0]:
            return np.asarray(index)
    t = np.linspace(0.0, 1.0, _LINE)[:, None]
    line = np.rint(t * highest).astype(np.int64)
    misses = bounds.miss(lattice.costs(line), lattice.scale)
    for start in line[np.argsort(misses, kind="stable")[:_STARTS]]:
        found = moves.mend(Walk(lattice, start), bounds)
        if found is not None:
            return found
    if lattice.space.size <= _EXHAUSTIVE:
        for first in range(0, lattice.space.size, _CHUNK):
            flat = np.arange(first, min(first + _CHUNK, lattice.space.size))
            indices = np.stack(np.unravel_index(flat, tuple(lattice.counts)), axis=1)
            good = np.flatnonzero(bounds.met(lattice.costs(indices)))
            if len(good):
                return np.asarray(indices[good[0]])
    raise _at_odds(lattice, line[int(np.argmin(misses))], constraints)


def _check_each(lattice: Lattice, ends: np.ndarray, constraints: Sequence[Constraint], bounds: Bounds) -> None:
    """Raises NothingFeasible naming every bound that no candidate meets even alone."""
    space = lattice.space
    full, least = space.cost.measure(space.full()), space.cost.measure(space.minimum())
    problems, upper = [], False
    for item in constraints:
        if item.op == "<=" and item.miss(least, space.cost.baseline) > 0:
            upper = True
            share = _number("keep_ratio", least["keep_ratio"])
            problems.append(
                f"{_spelled(item, space.cost.baseline)} cannot be met: the smallest reachable is "
                f"{_number(item.metric, least[item.metric])} (every group at its floor, {share} of the channels)"
            )
        elif item.op == ">=" and item.miss(full, space.cost.baseline) > 0:
            problems.append(
                f"{_spelled(item, space.cost.baseline)} cannot be met: the largest reachable is "
                f"{_number(item.metric, full[item.metric])} (the full model)"
            )
    if problems:
        hint = "Lower the floor in the space's rules, or raise the bound." if upper else "Lower the bound."
        raise NothingFeasible("; ".join(problems) + ".", hint)


def _at_odds(lattice: Lattice, near: np.ndarray, constraints: Sequence[Constraint]) -> NothingFeasible:
    space = lattice.space
    measured = space.cost.measure(lattice.candidate(near))
    least, full = space.cost.measure(space.minimum()), space.cost.measure(space.full())
    metrics = list(dict.fromkeys(item.metric for item in constraints))
    nearest = ", ".join(f"{name} {_number(name, measured[name])}" for name in metrics)
    ranges = ", ".join(f"{name} {_number(name, least[name])} to {_number(name, full[name])}" for name in metrics)
    listed = " and ".join(_spelled(item, space.cost.baseline) for item in constraints)
    return NothingFeasible(
        f"no candidate was found that meets {listed} together; the nearest has {nearest} "
        f"(reachable one by one: {ranges}).",
        "Widen one of the bounds, or allow finer widths (a smaller multiple in the space's rules).",
    )


def _spelled(item: Constraint, baseline: dict[str, float]) -> str:
    """``macs <= 0.1 * baseline (4.1M)``."""
    value = _number(item.metric, item.bound(baseline))
    return (
        f"{item.metric} {item.op} {item.value:g} * baseline ({value})"
        if item.relative
        else (f"{item.metric} {item.op} {value}")
    )


def _number(metric: str, value: float) -> str:
    """Four digits with k, M or G; shares as they are."""
    if metric == "keep_ratio":
        return f"{value:.4g}"
    for size, suffix in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= size:
            return f"{value / size:.4g}{suffix}"
    return f"{value:.4g}"
