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
        self._capacity, self._steps = capacity, steps
        self.told = 0
        """Episodes added, forgotten ones included."""

    def add(self, states: np.ndarray, actions: np.ndarray, reward: float) -> None:
        """States (steps, S), actions (steps,)."""
        at = self.told % self._capacity
        self._states[at], self._actions[at], self._rewards[at] = states, actions, reward
        self.told += 1

    @property
    def rewards(self) -> np.ndarray:
        """(E,) float64; a bad candidate counts as worse than all others by as much as these differ."""
        rewards = self._rewards[: self.told].copy()
        good = rewards[np.isfinite(rewards)]
        worst = 2 * good.min() - good.max() - 0.1 * abs(good.min()) if len(good) else -1.0
        rewards[~np.isfinite(rewards)] = worst
        return rewards

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

    def episodes(self, size: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Whole episodes drawn uniformly: positions (N,), states (N, steps, S), actions (N, steps)."""
        at = rng.integers(0, min(self.told, self._capacity), size)
        return at, self._states[at], self._actions[at]
