"""The mended agent: DDPG whose critic splits the reward over the steps and whose actor pays for what it keeps."""

from __future__ import annotations

import base64
from collections.abc import Callable

import numpy as np

from autoprune.controllers.amc.critic import EpisodeCritic
from autoprune.controllers.amc.networks import Adam, Perceptron
from autoprune.controllers.amc.steps import Steps

__all__ = ["Allocator"]

_RESTRAINT = 0.02
_START = 0.1

Explore = Callable[[np.ndarray], np.ndarray]


class Allocator:
    """The actor is a function of the state; its gradient is the critic's slope net of the budget's price.

    Both networks, and the optimizers of both, are all that is learnt: :meth:`saved` and :meth:`load`.
    """

    def __init__(self, steps: Steps, hidden: int, rates: tuple[float, float], rng: np.random.Generator) -> None:
        """``rates``: the learning rates of actor and critic."""
        self._steps = steps
        self.actor = Perceptron(steps.features, hidden, sigmoid=True, rng=rng)
        self.actor.shrink_outputs(_START)  # the first policy is nearly that of uniform widths
        self.critic = EpisodeCritic(steps.static, steps.reach, hidden, rates[1], rng)
        self._adams = (Adam(self.actor.parameters, rates[0]), *self.critic.adams)

    def episodes(self, shares: np.ndarray, explore: Explore | None = None) -> np.ndarray:
        """Walk through the groups, once for each share (N,): actions (N, G) in [0, 1].

        ``explore`` maps the actor's choices (N,) to what is done; without it, the policy itself.
        """
        actions = np.full((len(shares), len(self._steps)), 0.5)
        for step in range(actions.shape[1]):
            states = self._steps.along(actions[:, : step + 1], shares)[:, step]
            chosen = self.actor(states)[:, 0].astype(float)
            actions[:, step] = chosen if explore is None else explore(chosen)
        return actions

    def learn(self, states: np.ndarray, logs: np.ndarray, rewards: np.ndarray) -> None:
        """One step of the critic and one of the actor on replayed episodes.

        States (N, G, S), logarithms of the keep_ratios that ran (N, G), rewards (N,). The actor's choices are placed
        at the cost of the episode they answer to.
        """
        self.critic.fit(logs, rewards)
        outputs = self.actor.forward(states.reshape(-1, states.shape[2]))
        actions = outputs[-1].reshape(logs.shape)
        placed = self._steps.placed(actions.astype(float), self._steps.cost(logs))
        gain = 2.0 * self._steps.reach * self._steps.net_of_cost(placed, self.critic.slopes(placed))
        share = np.clip(actions, 1e-4, 1 - 1e-4)
        pull = _RESTRAINT * np.log(share / (1 - share)) / (share * (1 - share))
        gradient = ((pull - gain) / len(logs)).astype(np.float32).reshape(-1, 1)
        self._adams[0].step(self.actor.backward(outputs, gradient)[0])

    # --- what is learnt ----------------------------------------------------------------------------------------------

    def saved(self) -> str:
        """Networks and optimizers as text: float32, little-endian, base64."""
        parts = [part for adam in self._adams for part in (*adam.vectors, [adam.steps])]
        return base64.b64encode(np.concatenate(parts).astype("<f4").tobytes()).decode("ascii")

    def load(self, text: str) -> bool:
        """What :meth:`saved` gave. False, and nothing changes, where it is of other networks."""
        values = np.frombuffer(base64.b64decode(text), dtype="<f4")
        if len(values) != sum(3 * len(adam.vectors[0]) + 1 for adam in self._adams):
            return False
        start = 0
        for adam in self._adams:
            for vector in adam.vectors:
                vector[...] = values[start : start + len(vector)]
                start += len(vector)
            adam.steps = int(values[start])
            start += 1
        return True
