"""One trial is one episode; the agent is a function of the history, which is replayed on resume."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

from autoprune.config.controllers import AmcControllerConfig
from autoprune.controllers.amc.agent import Agent
from autoprune.controllers.amc.exploration import truncated_normal
from autoprune.controllers.amc.modes import constants
from autoprune.controllers.amc.replay import Replay
from autoprune.controllers.amc.states import States
from autoprune.controllers.amc.wall import Wall
from autoprune.controllers.drawing import Aim, Proposed, draw
from autoprune.controllers.observed import Losses, measured
from autoprune.controllers.uniform import UNIFORM, uniform_widths
from autoprune.space import Decoder, SearchSpace
from autoprune.types import Candidate, Objective, Proposal, Trial

__all__ = ["AmcController"]

_TRIES = 4
_DRAWS = 16


class AmcController:
    """Proposals depend on (seed, number) and on the trials told before, in their order; learning happens in ``tell``.

    The reward is the first objective that only a measurement tells. Where no budget is to be filled, each episode is
    given a cost of its own, drawn uniformly from the reachable range. Whatever an episode decides is decoded at its
    end, so that also ``paper``, whose wall leaks, proposes within the budgets.

    Nothing of the networks is saved: ``load_state`` learns again from the history, with the same batches.
    """

    def __init__(
        self,
        config: AmcControllerConfig,
        *,
        space: SearchSpace,
        decoder: Decoder,
        objectives: Sequence[Objective],
        trials: int,
        seed: int,
    ) -> None:
        self._config, self._space, self._decoder, self._seed = config, space, decoder, seed
        self._paper = config.mode == "paper"
        self._objectives, self._chief = tuple(objectives), measured(objectives)
        self._aim = Aim(decoder, objectives)
        upper = [item for item in decoder.constraints if item.op == "<="]
        self._bounds = {item.metric: item.bound(space.cost.baseline) for item in reversed(upper)}
        self._metric = self._aim.metric or upper[0].metric
        self._states = States(space, self._metric, paper=self._paper)
        self._full = space.vector(space.full())
        self._uniform = [] if self._paper else uniform_widths(space, decoder, config.seed_uniform)
        self._trials = trials
        self._start_over()

    def _start_over(self) -> None:
        self._constants = values = constants(self._config, self._trials)
        self._proposed = Proposed(self._space)
        self._losses = Losses(self._objectives)
        self._replay = Replay(values.memory, len(self._full), self._states.features)
        self._agent = Agent(
            self._states.features,
            values.hidden,
            rates=values.rates,
            rng=np.random.default_rng((self._seed, 0xA3C)),
            discount=values.discount,
            restraint=values.restraint,
        )
        self._baseline: float | None = None
        """``paper``: moving average of the batches' rewards."""

    # --- proposing -----------------------------------------------------------------------------------------------

    @property
    def exhausted(self) -> bool:
        return self._proposed.everything

    def ask(self, number: int) -> Proposal | None:
        if self.exhausted:
            return None
        note: dict[str, object] = {}
        candidate = self._proposed.first_new(self._attempts(number, note))
        if candidate in self._uniform[number : number + 1]:
            return Proposal(candidate, UNIFORM)
        return Proposal(candidate, note)

    def _attempts(self, number: int, note: dict[str, object]) -> Iterator[Callable[[], Candidate]]:
        """An episode, a few times where it repeats an earlier one, straying further each time; then a random draw."""
        if number < len(self._uniform):
            yield lambda: self._uniform[number]
        if self._paper or number >= self._constants.warmup:
            for attempt in range(_TRIES):
                yield partial(self._episode, number, attempt, note)
        for attempt in range(_DRAWS):
            yield partial(self._drawn, number, _TRIES + attempt, note)

    def _drawn(self, number: int, attempt: int, note: dict[str, object]) -> Candidate:
        note.clear()
        return draw(self._space, self._aim, np.random.default_rng((self._seed, number, attempt)))

    def _episode(self, number: int, attempt: int, note: dict[str, object]) -> Candidate:
        rng = np.random.default_rng((self._seed, number, attempt))
        share = float(rng.uniform()) if self._aim.metric else 0.0
        wall, widths = self._wall(share), self._full.copy()
        sigma = min(0.5, self._constants.schedule.sigma(number) * (1 + attempt))
        actions: list[float] = []
        for step in range(len(widths)):
            if self._paper and number <= self._constants.warmup:
                actions.append(float(rng.uniform()))
            else:
                state = self._states.at(np.array([step]), widths, share)[0]
                actions.append(truncated_normal(self._agent.act(state), sigma, rng))
            widths[step] = self._width(wall, step, widths, actions[-1])
        if self._paper:
            note |= {"actions": [round(action, 6) for action in actions], "share": share}
        candidate = self._space.candidate(widths)
        if self._aim.metric is None:
            return self._decoder.decode(candidate)
        return self._decoder.decode_to(candidate, self._aim.metric, self._target(share))

    def _width(self, wall: Wall, step: int, widths: np.ndarray, action: float) -> int:
        if self._paper:
            return wall.rounded_up(step, wall.ratio(step, widths, action))
        return wall.width(step, widths, action)

    def _wall(self, share: float) -> Wall:
        target = {} if self._aim.metric is None else {self._aim.metric: self._target(share)}
        return Wall(self._space, {**target, **self._bounds, **target}, self._decoder.tolerance)

    def _target(self, share: float) -> float:
        low, high = self._decoder.cost_range(self._metric)
        return low + share * (high - low)

    # --- learning ------------------------------------------------------------------------------------------------

    def tell(self, trial: Trial) -> None:
        losses = self._losses.of(trial)
        if losses is None:
            return
        reward = -float(losses[self._chief])
        self._replay.add(*self._transitions(trial), reward if np.isfinite(reward) else np.nan, self._share(trial))
        if self._replay.told > self._constants.warmup:
            each = self._constants.updates * len(self._full)
            updates = each if self._config.updates is None else self._config.updates
            self._learn(updates, np.random.default_rng((self._seed, trial.number, 0xDD6)))

    def _share(self, trial: Trial) -> float:
        share = trial.note.get("share") if self._paper else None
        return float(share) if isinstance(share, (int, float)) else self._aim.share(trial.candidate)

    def _transitions(self, trial: Trial) -> tuple[np.ndarray, np.ndarray]:
        """States (G, S) and actions (G,): what ran, or in ``paper`` what the agent wanted."""
        widths, share = self._space.vector(trial.candidate), self._share(trial)
        wanted = trial.note.get("actions") if self._paper else None
        if not isinstance(wanted, Sequence) or len(wanted) != len(widths):
            return self._states.along(widths, share), widths / self._full
        wall, walked = self._wall(share), self._full.copy()
        for step, action in enumerate(wanted):
            walked[step] = self._width(wall, step, walked, float(action))
        return self._states.along(walked, share), np.array(wanted, dtype=float)

    def _learn(self, updates: int, rng: np.random.Generator) -> None:
        rewards = self._replay.rewards if self._paper else self._replay.advantages()
        for _ in range(updates):
            batch = self._replay.sample(self._constants.batch, rewards, rng)
            if self._paper:
                mean = float(batch.rewards.mean())
                self._baseline = mean if self._baseline is None else 0.5 * (self._baseline + mean)
                batch.rewards[...] -= np.float32(self._baseline)
            self._agent.update(batch)

    # --- state ---------------------------------------------------------------------------------------------------

    def state(self) -> Mapping[str, Any]:
        """How many trials the search had when it began: the pace at which exploration fades."""
        return {"trials": self._trials}

    def load_state(self, state: Mapping[str, Any], history: Sequence[Trial]) -> None:
        self._trials = int(state.get("trials", self._trials))
        self._start_over()
        self._proposed.restore(history)
        for trial in history:
            self.tell(trial)
