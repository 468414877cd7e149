"""Who survives: order and truncation of a population by its losses (N, M), smaller is better in each of M objectives.

Non-dominated sorting and crowding distance: Deb et al. 2002 (NSGA-II); hypervolume contribution: Beume et al. 2007
(SMS-EMOA). With one objective both are the order of the losses.
"""

from __future__ import annotations

import numpy as np

__all__ = ["contributions", "crowding", "fronts", "order"]


def fronts(losses: np.ndarray) -> np.ndarray:
    """(N,) int64: 0 for points that none dominates, 1 for those that only points of 0 dominate, and so on.

    >>> fronts(np.array([[0.0, 1.0], [1.0, 0.0], [1.0, 1.0], [2.0, 2.0]]))
    array([0, 0, 1, 2])
    """
    no_worse = np.asarray((losses[:, None] <= losses[None]).all(axis=2))
    beats = no_worse & ~no_worse.T
    rank = np.full(len(losses), -1, dtype=np.int64)
    level = 0
    while (rank < 0).any():
        open_ = rank < 0
        rank[open_ & ~beats[open_].any(axis=0)] = level
        level += 1
    return rank


def crowding(losses: np.ndarray) -> np.ndarray:
    """(N,) float64: summed distance between the neighbours on each axis, in units of its range; infinite at the ends.

    >>> crowding(np.array([[0.0, 4.0], [1.0, 3.0], [4.0, 0.0]]))
    array([inf,  2., inf])
    """
    distance = np.zeros(len(losses))
    for column in losses.T:
        by = np.argsort(column, kind="stable")
        spread = column[by[-1]] - column[by[0]]
        gaps = np.full(len(by), np.inf)
        if spread > 0:
            gaps[1:-1] = (column[by[2:]] - column[by[:-2]]) / spread
            distance[by] += gaps
        else:
            distance[by[[0, -1]]] += np.inf
    return distance


def contributions(losses: np.ndarray) -> np.ndarray:
    """(N,) float64: area that only this point of a front dominates, (N, 2); infinite at the ends.

    >>> contributions(np.array([[0.0, 4.0], [1.0, 2.0], [4.0, 0.0]]))
    array([inf,  6., inf])
    """
    by = np.lexsort((losses[:, 1], losses[:, 0]))
    sorted_ = losses[by]
    area = np.full(len(by), np.inf)
    area[1:-1] = (sorted_[2:, 0] - sorted_[1:-1, 0]) * (sorted_[:-2, 1] - sorted_[1:-1, 1])
    result = np.empty(len(by))
    result[by] = area
    return result


def order(losses: np.ndarray, *, hypervolume: bool = False) -> np.ndarray:
    """Positions from the best to the worst, (N,): by front, then the loneliest first; the older of two equal ones.

    ``hypervolume`` applies to two objectives; with three, crowding distances are taken.
    """
    if losses.shape[1] == 1:
        return np.argsort(losses[:, 0], kind="stable")
    rank = fronts(losses)
    room = np.empty(len(losses))
    measure = contributions if hypervolume and losses.shape[1] == 2 else crowding
    for level in range(int(rank.max()) + 1):
        room[rank == level] = measure(losses[rank == level])
    return np.lexsort((-room, rank))
