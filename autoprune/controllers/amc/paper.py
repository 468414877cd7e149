"""The released code's episodes: its states, wall, replay of what the agent wanted, and copied rewards."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from autoprune.controllers.amc.agent import Agent
from autoprune.controllers.amc.exploration import truncated_normal
from autoprune.controllers.amc.modes import Constants
from autoprune.controllers.amc.replay import Replay
from autoprune.controllers.amc.states import States
from autoprune.controllers.amc.wall import Wall
from autoprune.controllers.drawing import Aim
from autoprune.space import Decoder, SearchSpace
from autoprune.types import Candidate, Trial

__all__ = ["PaperEpisodes"]


class PaperEpisodes:
    """What is decided is decoded at the end of an episode: the wall leaks, the proposals do not.

    Where no budget is to be filled, each episode is given a cost of its own, drawn uniformly from the reachable range.
    """

    def __init__(
        self,
        space: SearchSpace,
        decoder: Decoder,
        aim: Aim,
        *,
        chief: int,
        values: Constants,
        updates: int | None,
        seed: int,
    ) -> None:
        """``chief``: position of the objective that is the reward; ``updates``: one a group, if None."""
        self._space, self._decoder, self._aim, self._seed = space, decoder, aim, seed
        self._chief, self._constants = chief, values
        upper = [item for item in decoder.constraints if item.op == "<="]
        self._bounds = {item.metric: item.bound(space.cost.baseline) for item in reversed(upper)}
        self._metric = aim.metric or upper[0].metric
        self._full = space.vector(space.full())
        self._updates = len(self._full) if updates is None else updates
        self._states = States(space, self._metric)
        self._replay = Replay(values.memory, len(self._full), self._states.features)
        rng = np.random.default_rng((seed, 0xA3C))
        self._agent = Agent(self._states.features, values.hidden, rates=values.rates, rng=rng)
        self._baseline: float | None = None
        """Moving average of the batches' rewards."""

    def propose(self, number: int, attempt: int) -> tuple[Candidate, Mapping[str, object]]:
        rng = np.random.default_rng((self._seed, number, attempt))
        share = float(rng.uniform()) if self._aim.metric else 0.0
        sigma = min(0.5, self._constants.schedule.sigma(number) * (1 + attempt))
        wall, widths = self._wall(share), self._full.copy()
        actions: list[float] = []
        for step in range(len(widths)):
            if number <= self._constants.warmup:
                actions.append(float(rng.uniform()))
            else:
                state = self._states.at(np.array([step]), widths)[0]
                actions.append(truncated_normal(self._agent.act(state), sigma, rng))
            widths[step] = wall.width(step, widths, actions[-1])
        note = {"actions": [round(action, 6) for action in actions], "share": share}
        candidate = self._space.candidate(widths)
        if self._aim.metric is None:
            return self._decoder.decode(candidate), note
        return self._decoder.decode_to(candidate, self._aim.metric, self._target(share)), note

    def _wall(self, share: float) -> Wall:
        target = {} if self._aim.metric is None else {self._aim.metric: self._target(share)}
        return Wall(self._space, {**self._bounds, **target})

    def _target(self, share: float) -> float:
        low, high = self._decoder.cost_range(self._metric)
        return low + share * (high - low)

    # --- learning ----------------------------------------------------------------------------------------------------

    def remember(self, trial: Trial, losses: np.ndarray) -> None:
        reward = -float(losses[self._chief])
        states, actions = self._transitions(trial)
        self._replay.add(states, actions, reward if np.isfinite(reward) else np.nan)

    def _transitions(self, trial: Trial) -> tuple[np.ndarray, np.ndarray]:
        """States (G, S), and what the agent wanted, (G,); of a trial without a note, what ran."""
        wanted, share = trial.note.get("actions"), trial.note.get("share")
        widths = self._space.vector(trial.candidate)
        if not isinstance(wanted, Sequence) or len(wanted) != len(widths) or not isinstance(share, (int, float)):
            return self._states.along(widths), widths / self._full
        wall, walked = self._wall(float(share)), self._full.copy()
        for step, action in enumerate(wanted):
            walked[step] = wall.width(step, walked, float(action))
        return self._states.along(walked), np.array(wanted, dtype=float)

    def learn(self, number: int) -> None:
        rng, rewards = np.random.default_rng((self._seed, number, 0xDD6)), self._replay.rewards
        for _ in range(self._updates):
            batch = self._replay.sample(self._constants.batch, rewards, rng)
            mean = float(batch.rewards.mean())
            self._baseline = mean if self._baseline is None else 0.5 * (self._baseline + mean)
            batch.rewards[...] -= np.float32(self._baseline)
            self._agent.update(batch)

    def saved(self) -> str:
        """Nothing: with hidden layers of 300 it would be megabytes a trial. A resume learns again from the history."""
        return ""

    def load(self, text: str) -> bool:
        return False
