"""Which networks to time, so that every layer is seen at all combinations of its own widths in few networks.

Each group's allowed widths are split into L levels (L prime). Run (i, j) of L * L puts a group of colour c at level
``i + c * j`` modulo L (the last colour: at level j): two groups of different colours meet at each pair of levels
exactly once, an orthogonal array of strength two (Bush 1952). Groups that meet in a layer get different colours.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

__all__ = ["colours", "designed_widths"]

_PRIMES = (2, 3, 5, 7, 11, 13)


def designed_widths(
    allowed: Sequence[Sequence[int]], pairs: Iterable[tuple[int, int]], *, levels: int, seed: int = 0
) -> np.ndarray:
    """Widths of the networks to time: (N, G) int64, the full and the smallest network first.

    ``allowed`` has each group's widths, ascending; ``pairs`` the groups that meet in a layer. ``levels`` (2 to 13) is
    rounded down to a prime, and no more than the most widths that a group has.
    """
    most = max(len(widths) for widths in allowed)
    count = max(prime for prime in _PRIMES if prime <= max(2, min(levels, most)))
    rng = np.random.default_rng(seed)
    colour = colours(len(allowed), pairs, count + 1)
    i, j = (grid.ravel() for grid in np.meshgrid(np.arange(count), np.arange(count), indexing="ij"))
    columns = []
    for group, widths in enumerate(allowed):
        level = j if colour[group] == count else (i + colour[group] * j) % count
        columns.append(_drawn(np.asarray(widths), rng.permutation(count)[level], count, rng))
    ends = [[widths[-1] for widths in allowed], [widths[0] for widths in allowed]]
    return np.concatenate([np.array(ends, dtype=np.int64), np.stack(columns, axis=1)])


def colours(count: int, pairs: Iterable[tuple[int, int]], limit: int) -> list[int]:
    """Colours below ``limit`` for groups 0..count-1, different within each pair where that many colours suffice.

    Greedy, the group with most neighbours first; where all colours are taken, the one that fewest neighbours have.

    >>> colours(3, [(0, 1), (1, 2)], 3)
    [1, 0, 1]
    """
    neighbours: list[set[int]] = [set() for _ in range(count)]
    for one, other in pairs:
        if one != other:
            neighbours[one].add(other)
            neighbours[other].add(one)
    chosen = [-1] * count
    for group in sorted(range(count), key=lambda group: -len(neighbours[group])):
        taken = [chosen[other] for other in neighbours[group]]
        chosen[group] = min(range(limit), key=lambda colour: (taken.count(colour), colour))
    return chosen


def _drawn(widths: np.ndarray, level: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
    """A width from the stratum of each level; the two ends are drawn at least every other time."""
    first = level * len(widths) // count
    after = np.maximum((level + 1) * len(widths) // count, first + 1)
    index = rng.integers(first, after)
    at_end = rng.random(len(level)) < 0.5
    index = np.where(at_end & (level == 0), 0, index)
    index = np.where(at_end & (level == count - 1), len(widths) - 1, index)
    return np.asarray(widths[index])
