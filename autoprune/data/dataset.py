"""Splits of images as plain uint8 arrays."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

__all__ = ["Dataset", "Split", "carve"]


@dataclass(frozen=True, eq=False)
class Split:
    """Images and their labels.

    >>> split = Split(np.zeros((6, 1, 2, 2), np.uint8), np.array([0, 0, 0, 0, 1, 1]))
    >>> split.take(3, seed=0).labels.tolist().count(1)
    1
    """

    images: np.ndarray
    """(N, C, H, W) uint8."""
    labels: np.ndarray
    """(N,) int64, from 0."""

    def __len__(self) -> int:
        return len(self.labels)

    @cached_property
    def digest(self) -> str:
        """16 hexadecimal digits of SHA-256 over shape, images and labels."""
        content = hashlib.sha256(repr(self.images.shape).encode())
        content.update(np.ascontiguousarray(self.images).data)
        content.update(np.ascontiguousarray(self.labels).data)
        return content.hexdigest()[:16]

    def take(self, n: int, seed: int = 0) -> Split:
        """``min(n, len)`` images that represent the classes in their proportions; the same ones for the same seed.

        They are ordered so that every prefix represents the classes as well, and so that ``take(m)`` is the start of
        ``take(n)`` for m < n. Raises ValueError for a negative ``n``.
        """
        if n < 0:
            raise ValueError(f"cannot take {n} images")
        order = _interleaved(self.labels, seed)[:n]
        return Split(self.images[order], self.labels[order])


def _interleaved(labels: np.ndarray, seed: int) -> np.ndarray:
    """All indices, each class spread evenly over the whole length and shuffled within itself."""
    random = np.random.default_rng((seed, 1))
    place = np.empty(len(labels))
    for label in np.unique(labels):
        members = random.permutation(np.flatnonzero(labels == label))
        place[members] = (np.arange(len(members)) + random.random()) / len(members)
    return np.argsort(place, kind="stable")


@dataclass(frozen=True, eq=False)
class Dataset:
    """Train and search-val, which never overlap, and the way to test images that a report opens once."""

    train: Split
    search_val: Split
    num_classes: int
    class_names: tuple[str, ...]
    mean: tuple[float, ...]
    """Per channel, of the train split, for pixels in [0, 1]."""
    std: tuple[float, ...]
    name: str = ""
    read_test: Callable[[], Split] = field(repr=False, kw_only=True)
    """Use :meth:`open_test`."""

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(C, H, W)."""
        channels, height, width = self.train.images.shape[1:]
        return channels, height, width

    def open_test(self) -> Split:
        """The test images, read now: nothing touches them before. For final reports only."""
        return self.read_test()


def carve(labels: np.ndarray, share: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Indices (the rest, the carved share), both sorted and disjoint; every class gives its share, at least one image.

    Raises ValueError when a class has fewer than two images.

    >>> rest, carved = carve(np.array([0, 0, 0, 0, 1, 1, 1, 1]), 0.25, seed=0)
    >>> len(rest), len(carved)
    (6, 2)
    """
    random = np.random.default_rng((seed, 2))
    carved = []
    for label in np.unique(labels):
        members = random.permutation(np.flatnonzero(labels == label))
        if len(members) < 2:
            raise ValueError(f"class {label} has {len(members)} image, at least 2 are needed to split it")
        carved.append(members[: min(max(1, round(share * len(members))), len(members) - 1)])
    chosen = np.sort(np.concatenate(carved))
    return np.setdiff1d(np.arange(len(labels)), chosen), chosen
