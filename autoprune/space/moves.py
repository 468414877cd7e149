"""Moves on index vectors that keep or reach bounds; each is deterministic and ends after a bounded number of steps."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from autoprune.space.lattice import BASES, Bounds, Lattice, Walk

__all__ = ["climb", "grow", "lift", "mend", "shrink", "towards"]

_GRID = 64
_ROUNDS = 2  # 64 * 64 points along a line: finer than the widest groups have widths


def shrink(lattice: Lattice, index: np.ndarray, bounds: Bounds) -> np.ndarray:
    """Towards the minimum by the least common factor that meets the upper bounds (the minimum meets them)."""
    return _last(lattice, lambda t: np.floor(index * t + 1e-9), bounds.below_high)


def grow(lattice: Lattice, index: np.ndarray, bounds: Bounds) -> np.ndarray:
    """Towards full width as far as the upper bounds allow (``index`` meets them)."""
    return _last(lattice, lambda t: np.floor(index + (lattice.top - index) * t + 1e-9), bounds.below_high)


def lift(lattice: Lattice, index: np.ndarray, bounds: Bounds) -> np.ndarray:
    """Towards full width just as far as the lower bounds demand (the full model meets them)."""
    # read from the full model backwards: the last point that still meets the lower bounds
    return _last(lattice, lambda t: np.ceil(lattice.top - (lattice.top - index) * t - 1e-9), bounds.above_low)


def towards(lattice: Lattice, start: np.ndarray, goal: np.ndarray, bounds: Bounds) -> np.ndarray:
    """The last point on the line from ``start``, which is feasible, to ``goal`` before the first infeasible one."""
    return _last(lattice, lambda t: np.rint(start + (goal - start) * t), bounds.met)


def _last(
    lattice: Lattice, line: Callable[[np.ndarray], np.ndarray], good: Callable[[np.ndarray], np.ndarray]
) -> np.ndarray:
    """The point of the line (t in [0, 1], t = 0 being good) at the end of the first unbroken run of good ones."""
    low, high = 0.0, 1.0
    best = line(np.zeros((1, 1)))[0].astype(np.int64)
    for _ in range(_ROUNDS):
        t = np.linspace(low, high, _GRID + 1)
        points = line(t[:, None]).astype(np.int64)
        fine = good(lattice.costs(points))
        fine[0] = True
        bad = np.flatnonzero(~fine)
        last = int(bad[0]) - 1 if len(bad) else _GRID
        best = points[last]
        if last == _GRID:
            break
        low, high = float(t[last]), float(t[last + 1])
    return np.asarray(best)


def climb(walk: Walk, bounds: Bounds, ceiling: np.ndarray, enough: np.ndarray | None = None) -> np.ndarray:
    """Single steps up, the largest affordable first, never above ``ceiling``.

    Ends when no step is affordable or when some cost has reached ``enough`` (B,). Without ``enough`` it merely takes
    back what rounding lost and ends after two steps a dimension.
    """
    rows = np.flatnonzero(np.isfinite(bounds.high))
    limit = 2 * len(ceiling) if enough is None else int((ceiling - walk.index).sum())
    for _ in range(limit):
        if enough is not None and (walk.costs >= enough).any():
            break
        changes = walk.changes(walk.up, rows)
        slack = (bounds.high - walk.costs)[rows, None]
        # the share of what is left in the tightest bound; a step is affordable up to all of it
        share = (changes / np.maximum(slack, 0.5)).max(axis=0)
        share[((changes > slack).any(axis=0)) | (walk.index >= ceiling)] = -1.0
        best = int(np.argmax(share))
        if share[best] < 0:
            break
        walk.step(best, +1)
    return walk.index


def mend(walk: Walk, bounds: Bounds) -> np.ndarray | None:
    """Steepest descent on what is beyond the bounds, by steps and then by swaps, long ones first; None if stuck."""
    scale = walk.lattice.scale
    walk.stride_by(1 << max(0, int(walk.lattice.top.max()).bit_length() - 2))
    for _ in range(50 + 4 * len(walk.index)):
        miss = float(bounds.miss(walk.costs, scale))
        if miss == 0.0:
            return walk.index
        sizes = np.concatenate([walk.up, walk.down])
        changes = np.concatenate([walk.changes(walk.up), walk.changes(walk.down)], axis=1)
        after = np.where(sizes != 0, bounds.miss(walk.costs[:, None] + changes, scale), np.inf)
        best = int(np.argmin(after))
        if after[best] < miss:
            walk.step(best % len(walk.index), +1 if best < len(walk.index) else -1)
        elif not _swap(walk, bounds, miss):
            if walk.stride == 1:
                return None
            walk.stride_by(walk.stride // 2)
    return None


def _swap(walk: Walk, bounds: Bounds, miss: float) -> bool:
    """The best step up in one dimension and down in another, if it helps."""
    up, down = walk.up, walk.down
    both = walk.changes(up)[:, :, None] + walk.changes(down)[:, None, :]
    both[: len(BASES)] += 2.0 * walk.lattice.matrix * up[:, None] * down  # ceilings are taken to add up
    after = bounds.miss(walk.costs[:, None, None] + both, walk.lattice.scale)
    after[(up == 0)[:, None] | (down == 0)[None, :]] = np.inf
    np.fill_diagonal(after, np.inf)
    best = int(np.argmin(after))
    if not after.flat[best] < miss:
        return False
    walk.step(best // len(up), +1)
    walk.step(best % len(up), -1)
    return True
