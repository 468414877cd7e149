"""Which of a search's candidates an audit trains: of every size, and from the whole ranking.

The front alone will not do: its members were chosen by the very accuracy that is to be judged, and among the best of a
ranking its errors are largest (the winner's curse), while candidates of every size on one heap agree with any ranking,
since larger networks are better in both.
"""

from __future__ import annotations

import math

import numpy as np

__all__ = ["stratified"]

_PER_STRATUM = 4
_MOST_STRATA = 6
_NARROW = 1.1
"""Sizes within this factor are one stratum."""
_CHOICE = 1.5
"""A stratum is drawn from at least so many times the candidates that it needs."""


def stratified(macs: np.ndarray, quality: np.ndarray, count: int, seed: int) -> np.ndarray:
    """The stratum of each trial, by size ascending from 0, and -1 where it is not drawn: (N,) int64.

    ``macs`` (N,) > 0 and ``quality`` (N,), larger = better, are finite. Trials are cut by MACs into parts of equally
    many; of each part those near its median size are ranked by quality, the ranking is cut into as many slices as
    candidates are wanted, and one is drawn from each; from the first slice always its best, which the search would
    choose. All trials are taken when there are not more than ``count``.
    """
    result = np.full(len(macs), -1, dtype=np.int64)
    wanted = min(count, len(macs))
    strata = _count(macs, wanted)
    shares = [len(part) for part in np.array_split(np.arange(wanted), strata)]
    for number, part in enumerate(np.array_split(np.argsort(macs, kind="stable"), strata)):
        rng = np.random.default_rng((seed, number))
        pool = _near(part, macs, shares[number])
        ranked = pool[np.argsort(-quality[pool], kind="stable")]
        slices = np.array_split(ranked, shares[number])
        drawn = [slices[0][0], *(rng.choice(one) for one in slices[1:])]
        result[drawn] = number
    return result


def _count(macs: np.ndarray, wanted: int) -> int:
    distinct = int(math.log(macs.max() / macs.min()) / math.log(_NARROW)) + 1
    return max(1, min(_MOST_STRATA, wanted // _PER_STRATUM, distinct))


def _near(part: np.ndarray, macs: np.ndarray, wanted: int) -> np.ndarray:
    """A stratum as narrow as there is choice: of ``part`` the half as many again as are wanted that are nearest to its
    median size, and all of equal size beside them."""
    distance = np.abs(np.log(macs[part] / np.median(macs[part])))
    close = int((distance <= math.log(_NARROW)).sum())
    return part[np.argsort(distance, kind="stable")[: max(math.ceil(_CHOICE * wanted), close)]]
