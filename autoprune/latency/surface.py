"""The time of a layer as a function of its two widths, from scattered measurements.

Kriging (Gaussian process regression; Rasmussen & Williams 2006, chapters 2 and 5.4): a bilinear trend, a rough part
that interpolates between measured points almost linearly, and a part that widths of the same alignment share, since
vector units make a width of 16 faster than its neighbours. How much of each is chosen by leave-one-out error, which has
a closed form.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

__all__ = ["Surface", "alignment"]

_MOST_POINTS = 300
_TREND = 10.0
_CHUNK = 20_000


class _Shares(NamedTuple):
    """Standard deviations relative to the mean time, and a length relative to the widest layer."""

    noise: float
    rough: float
    length: float
    aligned: float


_CHOICES = tuple(_Shares(*items) for items in itertools.product((0.01, 0.05), (0.05, 0.3), (0.3, 1.5), (0.0, 0.1)))


def alignment(sizes: np.ndarray) -> np.ndarray:
    """The largest power of two up to 32 that divides each size.

    >>> alignment(np.array([48, 12, 7, 0]))
    array([16,  4,  1, 32])
    """
    sizes = np.asarray(sizes, dtype=np.int64)
    return np.where(sizes % 32 == 0, 32, np.minimum(sizes & -sizes, 32))


@dataclass(frozen=True, eq=False)
class Surface:
    """``times(sizes)`` for sizes (M, 2); made by :meth:`fit`."""

    points: np.ndarray
    """(N, 2) float64: measured sizes."""
    scale: np.ndarray
    """(2,): largest measured sizes."""
    mean: float
    weights: np.ndarray
    shares: _Shares

    @classmethod
    def fit(cls, points: np.ndarray, values: np.ndarray) -> Surface:
        """From sizes (N, 2) and positive times (N,) in any unit; equal sizes are averaged, deterministic."""
        points, values = _merged(np.asarray(points, dtype=float), np.asarray(values, dtype=float))
        mean, scale = float(values.mean()), np.maximum(points.max(axis=0), 1.0)
        target = values / mean
        best: tuple[float, np.ndarray, _Shares] | None = None
        for shares in _CHOICES:
            kernel = _kernel(points, points, scale, shares)
            kernel[np.diag_indices_from(kernel)] += (shares.noise * np.maximum(target, 0.1)) ** 2
            inverse = np.linalg.inv(kernel)
            weights = inverse @ target
            left_out = np.abs(weights / np.diagonal(inverse)) / np.maximum(target, 0.05)
            error = float(np.minimum(left_out, 0.5).mean())  # one disturbed measurement must not decide
            if best is None or error < best[0]:
                best = error, weights, shares
        assert best is not None
        return cls(points, scale, mean, best[1], best[2])

    def times(self, sizes: np.ndarray) -> np.ndarray:
        """Predicted times at sizes (M, 2): (M,) float64, in the unit of the fit, never negative."""
        sizes = np.asarray(sizes, dtype=float)
        result = np.empty(len(sizes))
        for start in range(0, len(sizes), _CHUNK):
            part = sizes[start : start + _CHUNK]
            result[start : start + _CHUNK] = _kernel(part, self.points, self.scale, self.shares) @ self.weights
        return np.maximum(result * self.mean, 0.0)


def _merged(points: np.ndarray, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    unique, inverse = np.unique(points, axis=0, return_inverse=True)
    inverse = inverse.ravel()
    means = np.bincount(inverse, values) / np.bincount(inverse)
    if len(unique) > _MOST_POINTS:
        kept = np.sort(np.random.default_rng(0).permutation(len(unique))[:_MOST_POINTS])
        unique, means = unique[kept], means[kept]
    return unique, means


def _kernel(one: np.ndarray, other: np.ndarray, scale: np.ndarray, shares: _Shares) -> np.ndarray:
    """Covariances: (M, 2) and (N, 2) sizes -> (M, N)."""
    x, y = one / scale, other / scale
    trend = (1.0 + np.outer(x[:, 0], y[:, 0])) * (1.0 + np.outer(x[:, 1], y[:, 1]))
    distance = np.abs(x[:, None, 0] - y[None, :, 0]) + np.abs(x[:, None, 1] - y[None, :, 1])
    kernel = _TREND**2 * trend + shares.rough**2 * np.exp(-distance / shares.length)
    if shares.aligned:
        same = [alignment(one[:, dim])[:, None] == alignment(other[:, dim])[None, :] for dim in (0, 1)]
        kernel += shares.aligned**2 * trend * (same[0].astype(float) + same[1] + (same[0] & same[1]))
    return np.asarray(kernel)
