"""Bayesian linear regression of a metric on the logarithms of the keep_ratios: what is known after a few trials.

Bishop, "Pattern Recognition and Machine Learning", 2006, section 3.3: with a normal prior of the weights and normal
noise, the posterior of the weights is normal, and it has a closed form.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

__all__ = ["Sample", "features", "sampled"]

_NOISE = 0.2
_PRIOR = (3.0, 3.0, 1.0)
_PRIOR_GROUP = 0.5
"""Standard deviations, in those of the metric over the trials: of the noise; of the constant, the mean logarithm and
its square; and of each group's own slope. Widths matter most through their mean, which is why these differ."""
_EDGE = 0.005


def features(logs: np.ndarray) -> np.ndarray:
    """Logarithms of keep_ratios, (N, G) -> (N, G + 3): 1, their mean, its square, each one less the mean.

    >>> features(np.log([[0.5, 0.5]])).round(3).tolist()
    [[1.0, -0.693, 0.48, 0.0, 0.0]]
    """
    mean = logs.mean(axis=1, keepdims=True)
    return np.hstack([np.ones_like(mean), mean, mean**2, logs - mean])


@dataclass(frozen=True)
class Sample:
    """One function that the trials leave possible."""

    weights: np.ndarray
    centre: float
    scale: float
    log_odds: bool

    def __call__(self, logs: np.ndarray) -> np.ndarray:
        """Logarithms of keep_ratios, (N, G) -> the metric, (N,)."""
        values = features(logs) @ self.weights * self.scale + self.centre
        return np.asarray(1.0 / (1.0 + np.exp(-values)) if self.log_odds else values)


def sampled(metric: str, logs: np.ndarray, values: np.ndarray, spread: float, rng: np.random.Generator) -> Sample:
    """A draw from the posterior after values (N,) at logs (N, G); ``spread`` scales its distance from the mean.

    top1 is regressed by its log-odds: widths change them more evenly, and it stays between 0 and 1.
    """
    log_odds = metric == "top1"
    if log_odds:
        share = np.clip(values, _EDGE, 1 - _EDGE)
        values = np.log(share / (1 - share))
    centre, scale = (float(values.mean()), float(values.std())) if len(values) else (0.0, 1.0)
    scale = scale or 1.0
    precision = 1.0 / np.array([*_PRIOR, *[_PRIOR_GROUP] * logs.shape[1]]) ** 2
    rows = features(logs)
    matrix = np.diag(precision) + rows.T @ rows / _NOISE**2
    mean = np.linalg.solve(matrix, rows.T @ ((values - centre) / scale) / _NOISE**2)
    noise = np.linalg.solve(np.linalg.cholesky(matrix).T, rng.normal(size=len(mean)))
    return Sample(mean + spread * noise, centre, scale, log_odds)
