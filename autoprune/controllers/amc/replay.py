"""What the agent remembers: whole episodes, the oldest forgotten first."""

from __future__ import annotations

import numpy as np

from autoprune.controllers.amc.agent import Batch

__all__ = ["Replay"]


class Replay:
    """Up to ``capacity`` episodes of ``steps`` transitions each. A reward of NaN marks a bad candidate."""

    def __init__(self, capacity: int, steps: int, features: int) -> None:
        self._states = np.zeros((capacity, steps, features), dtype=np.float32)
        self._actions = np.zeros((capacity, steps), dtype=np.float32)
        self._rewards = np.zeros(capacity)
        self._shares = np.zeros(capacity)
        self._capacity, self._steps = capacity, steps
        self.told = 0
        """Episodes added, forgotten ones included."""

    def add(self, states: np.ndarray, actions: np.ndarray, reward: float, share: float) -> None:
        """States (steps, S), actions (steps,); ``share``: where the episode's cost lies, in [0, 1]."""
        at = self.told % self._capacity
        self._states[at], self._actions[at], self._rewards[at], self._shares[at] = states, actions, reward, share
        self.told += 1

    @property
    def rewards(self) -> np.ndarray:
        """(E,) float64; a bad candidate counts as worse than all others by as much as these differ."""
        rewards = self._rewards[: self.told].copy()
        good = rewards[np.isfinite(rewards)]
        worst = 2 * good.min() - good.max() - 0.1 * abs(good.min()) if len(good) else -1.0
        rewards[~np.isfinite(rewards)] = worst
        return rewards

    def advantages(self) -> np.ndarray:
        """(E,): rewards less what episodes of their cost get (a polynomial), in units of their standard deviation."""
        rewards, shares = self.rewards, self._shares[: self.told]
        degree = min(3, len(rewards) // 8) if np.ptp(shares) > 0.05 else 0
        basis = np.polynomial.polynomial.polyvander(shares, degree)
        left = rewards - basis @ np.linalg.lstsq(basis, rewards, rcond=None)[0]
        return np.asarray(left / max(float(left.std()), 1e-9))

    def sample(self, size: int, rewards: np.ndarray, rng: np.random.Generator) -> Batch:
        """Transitions drawn uniformly; ``rewards`` (E,) are given to each step of their episode."""
        episodes = rng.integers(0, min(self.told, self._capacity), size)
        steps = rng.integers(0, self._steps, size)
        after = np.minimum(steps + 1, self._steps - 1)
        return Batch(
            states=self._states[episodes, steps],
            actions=self._actions[episodes, steps, None],
            rewards=rewards[episodes, None].astype(np.float32),
            after=self._states[episodes, after],
            goes_on=(steps + 1 < self._steps)[:, None].astype(np.float32),
        )
