"""Names for the positions of tensor dimensions: positions with equal names must be cut together.

An id is an integer; 0 stands for a position that always stays. Every dimension of a tensor whose positions can be cut
carries an array with one id a position. Operations tie ids to one another or freeze them; at the end the tied ones are
one class.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np

__all__ = ["OUTPUT", "Field", "Labels", "Site", "Solution"]

OUTPUT = "makes the model's output"
"""The reason for freezing what is never a candidate."""


@dataclass(eq=False)
class Site:
    """A dimension of a parameter or buffer. It takes the ids of what it first meets, or fresh ones."""

    parameter: str
    dim: int
    size: int
    ids: np.ndarray | None = None
    roles: set[str] = field(default_factory=set)
    """``producer`` and ``consumer``, as in ``types.Slice``; none: it rides along."""


@dataclass(eq=False)
class Field:
    """The ids along one dimension of a tensor."""

    fixed_ids: np.ndarray | None
    sites: tuple[Site, ...] = ()
    """Dimensions of parameters that this is, position by position (empty for activations)."""

    @property
    def ids(self) -> np.ndarray | None:
        """None while the parameter has met nothing."""
        return self.fixed_ids if self.fixed_ids is not None else self.sites[0].ids


@dataclass(frozen=True, eq=False)
class Solution:
    """Which ids go together."""

    classes: np.ndarray
    """id -> the smallest id that it is tied to; 0 is its own."""
    frozen: dict[int, str]
    """Class -> why it cannot be cut."""


class Labels:
    """Hands out ids and collects what is tied or frozen."""

    def __init__(self) -> None:
        self._next = 1
        self._left: list[np.ndarray] = []
        self._right: list[np.ndarray] = []
        self._frozen: list[tuple[np.ndarray, str]] = []

    def new(self, count: int) -> np.ndarray:
        """(count,) int64."""
        self._next += count
        return np.arange(self._next - count, self._next)

    def resolve(self, item: Field, size: int) -> np.ndarray:
        """The ids of a field; a parameter that has met nothing gets fresh ones."""
        ids = item.ids
        if ids is None:
            ids = item.sites[0].ids = self.new(size)
        return ids

    def tie(self, left: np.ndarray, right: np.ndarray, reason: str) -> None:
        """Position by position (equal shapes). What is tied to a position that always stays is frozen."""
        if left is right:
            return
        different = left != right
        left, right = left[different], right[different]
        stays = (left == 0) | (right == 0)
        if stays.any():
            self.freeze(np.maximum(left[stays], right[stays]), reason)
            left, right = left[~stays], right[~stays]
        if len(left):
            self._left.append(left)
            self._right.append(right)

    def freeze(self, ids: np.ndarray, reason: str) -> None:
        """``reason`` ends a sentence about the group."""
        if len(ids):
            self._frozen.append((ids, reason))

    def join(self, first: Field, second: Field, size: int, reason: str) -> None:
        """The two fields are the same positions."""
        if first.ids is None and second.ids is not None:
            first, second = second, first
        ids = self.resolve(first, size)
        if second.ids is None:
            second.sites[0].ids = ids
        else:
            self.tie(ids, second.ids, reason)

    def fix(self, item: Field, size: int, reason: str) -> None:
        """The positions always stay."""
        if item.ids is None:
            item.sites[0].ids = np.zeros(size, dtype=np.int64)
        else:
            self.freeze(item.ids, reason)

    def solve(self) -> Solution:
        """Connected classes of all ties."""
        classes = _components(self._next, self._left, self._right)
        frozen: dict[int, str] = {}
        for ids, reason in self._frozen:
            for item in np.unique(classes[ids]).tolist():
                if item and (item not in frozen or reason == OUTPUT):
                    frozen[item] = reason
        return Solution(classes, frozen)


def _components(count: int, left: Iterable[np.ndarray], right: Iterable[np.ndarray]) -> np.ndarray:
    """The smallest member of each connected component: minima travel along the edges, and along their own pointers."""
    parent = np.arange(count)
    a, b = np.concatenate([*left, parent[:0]]), np.concatenate([*right, parent[:0]])
    while len(a):
        low = np.minimum(parent[a], parent[b])
        high = np.maximum(parent[a], parent[b])
        np.minimum.at(parent, high, low)
        while True:
            shorter = parent[parent]
            if np.array_equal(shorter, parent):
                break
            parent = shorter
        open_edges = parent[a] != parent[b]
        a, b = a[open_edges], b[open_edges]
    return parent
