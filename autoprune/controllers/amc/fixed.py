"""The mended episodes: relative actions under a budget, the executed ones replayed, credit split over the steps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from autoprune.controllers.amc.allocator import Allocator
from autoprune.controllers.amc.exploration import truncated_normal
from autoprune.controllers.amc.modes import Constants
from autoprune.controllers.amc.replay import Replay
from autoprune.controllers.amc.steps import Steps
from autoprune.controllers.drawing import Aim
from autoprune.controllers.gain import Gain
from autoprune.space import SearchSpace
from autoprune.types import Candidate, Objective, Trial

__all__ = ["FixedEpisodes"]

_UPDATES = 8
_ROWS = 512
"""Transitions of a gradient step, about: of many groups fewer episodes."""
_SHARES = 32
_ANYWHERE = 0.2
"""Share of the episodes whose cost is drawn, not chosen."""
_EDGE = 0.005


class FixedEpisodes:
    """Where no budget is to be filled, an episode aims at the cost at which policy and critic promise the largest
    gain of hypervolume, or now and then at any.
    """

    def __init__(
        self,
        space: SearchSpace,
        aim: Aim,
        objectives: Sequence[Objective],
        *,
        metric: str,
        chief: int,
        values: Constants,
        updates: int | None,
        seed: int,
    ) -> None:
        """``metric``: the cost; ``chief``: position of the objective that is the reward."""
        self._space, self._aim, self._objectives, self._seed = space, aim, tuple(objectives), seed
        self._chief, self._constants = chief, values
        self._log_odds = objectives[chief].metric == "top1"
        known = space.cost.baseline
        self._columns = [at for at, item in enumerate(objectives) if at == chief or item.metric in known]
        self._steps = Steps(space, metric)
        self._updates = _UPDATES if updates is None else updates
        self._batch = max(1, min(values.batch, _ROWS // len(self._steps)))
        self._replay = Replay(values.memory, len(self._steps), self._steps.features)
        self._allocator = Allocator(self._steps, values.hidden, values.rates, np.random.default_rng((seed, 0xA3C)))
        self._front = np.zeros((0, len(self._columns)))
        self._centre, self._scale = 0.0, 1.0

    # --- proposing ---------------------------------------------------------------------------------------------------

    def propose(self, number: int, attempt: int) -> tuple[Candidate, Mapping[str, object]]:
        rng = np.random.default_rng((self._seed, number, attempt))
        sigma = min(0.5, self._constants.schedule.sigma(number) * 1.5**attempt)

        def explore(chosen: np.ndarray) -> np.ndarray:
            return np.array([truncated_normal(float(mean), sigma, rng) for mean in chosen])

        share = self._share(rng)
        actions = self._allocator.episodes(np.array([share]), explore)[0]
        return self._aim.place(2.0 * actions - 1.0, share), {}

    def _share(self, rng: np.random.Generator) -> float:
        """Where the episode's cost lies between the reachable ones."""
        if self._aim.metric is None:
            return 0.0
        if not len(self._front) or rng.uniform() < _ANYWHERE:
            return float(rng.uniform())
        shares = (np.arange(_SHARES) + rng.uniform(size=_SHARES)) / _SHARES
        widths = self._aim.widths(2.0 * self._allocator.episodes(shares) - 1.0, shares)
        promised = self._promised(widths)
        floor = self._worst(promised)
        return float(shares[int(np.argmax(Gain(self._front, promised, floor, rng)(promised)))])

    def _promised(self, widths: np.ndarray) -> np.ndarray:
        """Widths (N, G) -> values (N, columns), larger better: costs as they are, the reward as the critic says."""
        costs = self._space.cost.metrics(widths)
        reward = self._allocator.critic.values(np.log(widths / self._steps.full)) * self._scale + self._centre
        if self._log_odds:
            reward = 1.0 / (1.0 + np.exp(-reward))
        items = [(at, self._objectives[at]) for at in self._columns]
        columns = [reward if at == self._chief else -item.sign * costs[item.metric] for at, item in items]
        return np.stack(columns, axis=1)

    def _worst(self, promised: np.ndarray) -> np.ndarray:
        """(columns,) where hypervolume begins: the full model's costs, the worst promise of the reward."""
        full = self._space.cost.baseline
        items = [(at, self._objectives[at]) for at in self._columns]
        return np.array(
            [
                promised[:, place].min() if at == self._chief else -item.sign * full[item.metric]
                for place, (at, item) in enumerate(items)
            ]
        )

    # --- learning ----------------------------------------------------------------------------------------------------

    def remember(self, trial: Trial, losses: np.ndarray) -> None:
        widths, share = self._space.vector(trial.candidate), self._aim.share(trial.candidate)
        executed = (self._aim.proportions(trial.candidate) + 1.0) / 2.0
        states = self._steps.along(executed[None], np.array([share]))[0]
        self._replay.add(states, np.log(widths / self._steps.full), self._reward(-float(losses[self._chief])))
        values = -losses[self._columns]
        if np.isfinite(values).all() and not (self._front >= values).all(axis=1).any():
            self._front = np.vstack([self._front[~(self._front <= values).all(axis=1)], values])

    def _reward(self, value: float) -> float:
        """top1 by its log-odds, which widths change more evenly; NaN where the candidate is bad."""
        if not np.isfinite(value):
            return np.nan
        share = min(1.0 - _EDGE, max(_EDGE, value))
        return float(np.log(share / (1.0 - share))) if self._log_odds else value

    def learn(self, number: int) -> None:
        rng, rewards = np.random.default_rng((self._seed, number, 0xDD6)), self._standardised()
        for _ in range(self._updates):
            at, states, logs = self._replay.episodes(self._batch, rng)
            self._allocator.learn(states, logs, rewards[at])

    def _standardised(self) -> np.ndarray:
        """The replay's rewards, (E,), of mean 0 and standard deviation 1; both are kept for promises."""
        rewards = self._replay.rewards
        self._centre, self._scale = float(rewards.mean()), max(float(rewards.std()), 1e-9)
        return (rewards - self._centre) / self._scale

    def saved(self) -> str:
        return self._allocator.saved()

    def load(self, text: str) -> bool:
        self._standardised()
        return self._allocator.load(text)
