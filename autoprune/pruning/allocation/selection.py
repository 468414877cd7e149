"""How many units each group keeps, and which: equal shares, a threshold, or one ranking over all groups.

Rounding is here and nowhere else. Of a group that loses a share, what stays is rounded down, which gives the published
networks of Li et al. to the unit; the floor of a group (at least one unit) is never gone below; a budget is met by the
first choice, in the order of removal, that is not above it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

__all__ = ["Choices", "Removal", "best_units", "beyond", "global_removal", "removed_units"]


def removed_units(units: int, share: float, floor: int = 1) -> int:
    """How many leave when ``share`` of the units is to go: rounded up, but leaving ``floor`` of them.

    >>> removed_units(10, 0.1), removed_units(15, 0.5), removed_units(4, 1.0)
    (1, 8, 3)
    """
    return max(0, min(units - floor, math.ceil(share * units - 1e-9)))


def best_units(scores: np.ndarray, count: int) -> np.ndarray:
    """The ``count`` units of the highest scores, ascending; the first of equal ones, NaN last: (count,) int64."""
    return np.sort(np.argsort(-np.asarray(scores, dtype=np.float64), kind="stable")[:count])


def beyond(standardised: Mapping[str, np.ndarray], deviations: float = 1.0) -> int:
    """How many units lie more than so many standard deviations below the mean of their group.

    For scores from ``normalise("standard", ...)``; with ``1 - APoZ`` as score these are the units whose share of zeros
    exceeds the mean by one standard deviation, which Hu et al. 2016 trim.
    """
    return int(sum((each < -deviations).sum() for each in standardised.values()))


@dataclass(frozen=True)
class Removal:
    """What one round leaves."""

    counts: Mapping[str, int]
    """Units that each group keeps."""
    last: bool
    """The budget is met; the counts are then allowed ones."""


@dataclass(frozen=True, eq=False)
class Choices:
    """The counts that each group may end with, and which of them a budget allows."""

    allowed: Mapping[str, Sequence[int]]
    """Units, ascending; the first is the floor, the last the full group."""
    fits: Callable[[Sequence[int]], bool]
    """Whether counts, one a group in the order of ``allowed``, are within the budget. Must not turn false when a count
    shrinks, and the floors must fit."""

    def snapped(self, counts: Sequence[int]) -> list[int]:
        """The largest allowed counts that are not above ``counts``."""
        pairs = zip(self.allowed.values(), counts, strict=True)
        return [max((each for each in allowed if each <= count), default=allowed[0]) for allowed, count in pairs]

    def uniform(self) -> dict[str, int]:
        """The same share taken from every group: the smallest that the budget allows.

        Rounding makes several groups step down at once; of those, only as many do as it takes, the first ones.
        """
        full = [each[-1] for each in self.allowed.values()]
        # up to each of these no group loses one more unit; the last one takes every group to its floor
        shares = sorted({k / units for units in full for k in range(units + 1)})

        def at(position: int) -> list[int]:
            return self.snapped([units - removed_units(units, shares[position]) for units in full])

        low, high = 0, len(shares) - 1
        while low < high:
            middle = (low + high) // 2
            low, high = (low, middle) if self.fits(at(middle)) else (middle + 1, high)
        counts, wanted = at(max(low - 1, 0)), at(low)
        for position, count in enumerate(wanted):
            if self.fits(counts):
                break
            counts[position] = count
        return dict(zip(self.allowed, counts, strict=True))

    def by_share(self, shares: Mapping[str, float]) -> dict[str, int]:
        """A share of its own taken from each named group, the others full; only the floor of one unit counts."""
        return {name: each[-1] - removed_units(each[-1], shares.get(name, 0.0)) for name, each in self.allowed.items()}


def global_removal(choices: Choices, scores: Mapping[str, np.ndarray], most: int | None = None) -> Removal:
    """Units leave in the order of their scores over all groups, the smallest first, until the budget is met.

    ``scores``: (units,) of each group of ``choices`` as the network stands now. At most ``most`` units leave (None:
    as many as it takes). Ties leave in the order of groups and units. In the last round counts are rounded down to what
    is allowed, and the round before it stops at the first removal that would then be enough.
    """
    names = list(choices.allowed)
    groups = _order(choices, scores)
    start = np.array([len(scores[name]) for name in names])

    def after(removed: int) -> list[int]:
        gone = np.bincount(groups[:removed], minlength=len(names))
        return [int(each) for each in start - gone]

    low, high = 0, len(groups)  # the floors, at the latest, fit
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if choices.fits(choices.snapped(after(middle))) else (middle + 1, high)
    if most is None or low <= most:
        return Removal(dict(zip(names, choices.snapped(after(low)), strict=True)), last=True)
    return Removal(dict(zip(names, after(most), strict=True)), last=False)


def _order(choices: Choices, scores: Mapping[str, np.ndarray]) -> np.ndarray:
    """The group (by position) that loses a unit, removal by removal; the floors of the groups are never among them."""
    groups, values = [], []
    for position, (name, allowed) in enumerate(choices.allowed.items()):
        each = np.sort(np.nan_to_num(np.asarray(scores[name], dtype=np.float64), nan=-np.inf))
        leaving = each[: len(each) - allowed[0]]
        groups.append(np.full(len(leaving), position))
        values.append(leaving)
    order = np.argsort(np.concatenate(values), kind="stable")
    return np.concatenate(groups)[order]
