"""The mended critic: an episode is worth the sum of what its steps are worth.

The reward arrives once an episode. Copied to each step, as in the released code, it is mostly the other steps' doing:
noise that takes many hundred episodes to average out. Here the critic is fitted to the reward by the sum of its values
over the steps of the episode (return decomposition: Arjona-Medina et al. 2019; with one network for all steps, value
decomposition: Sunehag et al. 2018), so that credit goes where it is due after some dozen episodes.
"""

from __future__ import annotations

import numpy as np

from autoprune.controllers.amc.networks import Adam, Perceptron

__all__ = ["EpisodeCritic"]

_LINEAR_RATE = 0.02
_DECAY = 0.003


class EpisodeCritic:
    """value(logs) = sum over groups of [net(group, log) + a_g log + b_g log^2] + c; logs are over ``reach``."""

    def __init__(self, static: np.ndarray, reach: float, hidden: int, rate: float, rng: np.random.Generator) -> None:
        """``static`` (G, F) float32: what tells the groups apart. ``rate``: the network's learning rate."""
        self._static, self._reach = static, reach
        self._groups = len(static)
        self.net = Perceptron(static.shape[1] + 1, hidden, sigmoid=False, rng=rng)
        self._linear = np.zeros(2 * self._groups + 1, dtype=np.float32)
        self.adams = (Adam(self.net.parameters, rate), Adam(self._linear, _LINEAR_RATE))

    def values(self, logs: np.ndarray) -> np.ndarray:
        """Logarithms of keep_ratios (N, G) -> (N,) float32."""
        scaled = self._scaled(logs)
        return self._sum(self._forward(scaled), scaled)

    def slopes(self, logs: np.ndarray) -> np.ndarray:
        """d value / d logarithm: (N, G) -> (N, G)."""
        scaled = self._scaled(logs)
        outputs = self._forward(scaled)
        _, inputs = self.net.backward(outputs, np.ones_like(outputs[-1]))
        own, square = self._linear[: self._groups], self._linear[self._groups : -1]
        slope = 2 * inputs[:, -1].reshape(scaled.shape) + own + 2 * square * scaled
        return np.asarray(slope / np.float32(self._reach))

    def fit(self, logs: np.ndarray, rewards: np.ndarray) -> None:
        """One gradient step on the squared difference: logs (N, G), rewards (N,) of about unit variance."""
        scaled = self._scaled(logs)
        outputs = self._forward(scaled)
        error = (2 * (self._sum(outputs, scaled) - rewards) / len(rewards)).astype(np.float32)
        self.adams[0].step(self.net.backward(outputs, np.repeat(error, self._groups)[:, None])[0])
        gradient = np.concatenate([error @ scaled, error @ scaled**2, [error.sum()]]).astype(np.float32)
        gradient[:-1] += np.float32(_DECAY) * self._linear[:-1]
        self.adams[1].step(gradient)

    def _scaled(self, logs: np.ndarray) -> np.ndarray:
        return np.asarray(logs / self._reach, dtype=np.float32)

    def _forward(self, scaled: np.ndarray) -> list[np.ndarray]:
        static = np.broadcast_to(self._static, (len(scaled), *self._static.shape))
        inputs = np.concatenate([static, (2 * scaled + 1)[..., None]], axis=2)
        return self.net.forward(inputs.reshape(-1, inputs.shape[2]))

    def _sum(self, outputs: list[np.ndarray], scaled: np.ndarray) -> np.ndarray:
        own, square = self._linear[: self._groups], self._linear[self._groups : -1]
        each = outputs[-1].reshape(scaled.shape).sum(axis=1)
        return np.asarray(each + scaled @ own + scaled**2 @ square + self._linear[-1])
