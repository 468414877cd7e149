"""DDPG (Lillicrap et al. 2016): an actor that decides, a critic that values, and slowly following targets of both."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from autoprune.controllers.amc.networks import Adam, Perceptron

__all__ = ["Agent", "Batch"]


@dataclass(frozen=True, eq=False)
class Batch:
    """Transitions, all float32."""

    states: np.ndarray
    """(N, S)"""
    actions: np.ndarray
    """(N, 1)"""
    rewards: np.ndarray
    """(N, 1)"""
    after: np.ndarray
    """(N, S): the next states"""
    goes_on: np.ndarray
    """(N, 1): 0 for the last step of an episode, else 1"""


class Agent:
    """A critic on (state, action) is AMC's sum of two embeddings: one linear layer on the two side by side."""

    def __init__(
        self,
        features: int,
        hidden: int,
        *,
        rates: tuple[float, float],
        rng: np.random.Generator,
        tau: float = 0.01,
        discount: float = 1.0,
    ) -> None:
        """``rates``: the learning rates of actor and critic; ``tau``: how far the targets follow in one update."""
        self.actor = Perceptron(features, hidden, sigmoid=True, rng=rng)
        self.critic = Perceptron(features + 1, hidden, sigmoid=False, rng=rng)
        self._actor_target, self._critic_target = self.actor.copy(), self.critic.copy()
        self._actor_adam = Adam(self.actor.parameters, rates[0])
        self._critic_adam = Adam(self.critic.parameters, rates[1])
        self._tau, self._discount = np.float32(tau), np.float32(discount)

    def act(self, state: np.ndarray) -> float:
        """State (S,) -> the share to keep, in (0, 1)."""
        return float(self.actor(state[None].astype(np.float32))[0, 0])

    def update(self, batch: Batch) -> None:
        """One gradient step of the critic, one of the actor, one step of both targets."""
        count = np.float32(len(batch.states))
        ahead = self._critic_target(np.hstack([batch.after, self._actor_target(batch.after)]))
        aim = batch.rewards + self._discount * batch.goes_on * ahead
        outputs = self.critic.forward(np.hstack([batch.states, batch.actions]))
        self._critic_adam.step(self.critic.backward(outputs, 2 * (outputs[-1] - aim) / count)[0])
        decided = self.actor.forward(batch.states)
        outputs = self.critic.forward(np.hstack([batch.states, decided[-1]]))
        _, slope = self.critic.backward(outputs, np.full_like(outputs[-1], -1 / count))
        self._actor_adam.step(self.actor.backward(decided, slope[:, -1:])[0])
        for target, source in ((self._actor_target, self.actor), (self._critic_target, self.critic)):
            target.parameters += self._tau * (source.parameters - target.parameters)
