"""Which trials a controller goes on learning from when there are more than it can look at for every proposal."""

from __future__ import annotations

import moocore
import numpy as np

from autoprune.controllers.evolution_survival import crowding

__all__ = ["best_first", "is_full", "kept"]

_SLACK = 8


def is_full(count: int, history: int) -> bool:
    """Whether it is time to cut: an eighth more than the history, so that few tells do."""
    return count >= history + max(1, history // _SLACK)


def kept(losses: np.ndarray, history: int) -> np.ndarray:
    """Positions of those that stay, ascending: the best half of ``history``, and the latest of the others.

    Losses (N, M), in the order of the trials; infinite for what is known to be bad, which comes last among the best.

    >>> kept(np.array([[0.0], [9.0], [8.0], [7.0], [6.0]]), 4).tolist()
    [0, 2, 3, 4]
    """
    best = best_first(losses)[: history // 2]
    others = np.setdiff1d(np.arange(len(losses)), best)
    return np.sort(np.concatenate([best, others[max(0, len(others) + len(best) - history) :]]))


def best_first(losses: np.ndarray) -> np.ndarray:
    """Positions from the best to the worst, (N,): front by front, of each the loneliest first."""
    bad = ~np.isfinite(losses).all(axis=1)
    if losses.shape[1] == 1:
        return np.argsort(losses[:, 0], kind="stable")
    rank = np.full(len(losses), len(losses))
    room = np.zeros(len(losses))
    good = np.flatnonzero(~bad)
    if len(good):
        rank[good] = moocore.pareto_rank(losses[good])
    for level in np.unique(rank[good]):
        members = rank == level
        room[members] = crowding(losses[members])
    return np.lexsort((-room, rank))
