"""One trial is one episode; what the agent has learnt is saved now and then, and the rest learnt again on resume."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

from autoprune.config.controllers import AmcControllerConfig
from autoprune.controllers.amc.fixed import FixedEpisodes
from autoprune.controllers.amc.modes import Episodes, constants
from autoprune.controllers.amc.paper import PaperEpisodes
from autoprune.controllers.drawing import Aim, Proposed, draw
from autoprune.controllers.observed import Losses, measured
from autoprune.controllers.uniform import UNIFORM, uniform_widths
from autoprune.space import Decoder, SearchSpace
from autoprune.types import Candidate, Objective, Proposal, Trial

__all__ = ["AmcController"]

_TRIES = 4
_DRAWS = 16
_SAVE_EVERY = 100
"""Episodes from one saving of the networks to the next."""


class AmcController:
    """Proposals depend on (seed, number) and on the trials told before, in their order; learning happens in ``tell``.

    The reward is the first objective that only a measurement tells. Whatever an episode decides is decoded at its end,
    so that also ``paper``, whose wall leaks, proposes within the budgets.

    ``load_state`` fills the replay from the history, takes networks and optimizers from the state, and learns again,
    with the same batches, from the episodes after they were saved.
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
        self._objectives = tuple(objectives)
        self._aim = Aim(decoder, objectives)
        self._uniform = [] if self._paper else uniform_widths(space, decoder, config.seed_uniform)
        self._trials = trials
        self._start_over()

    def _start_over(self) -> None:
        self._constants = constants(self._config, self._trials)
        self._proposed = Proposed(self._space)
        self._losses = Losses(self._objectives)
        self._episodes = self._made()
        self._learnt = 0
        """Episodes remembered."""
        self._saved: dict[str, Any] = {}

    def _made(self) -> Episodes:
        chief, values, updates = measured(self._objectives), self._constants, self._config.updates
        if self._paper:
            return PaperEpisodes(
                self._space, self._decoder, self._aim, chief=chief, values=values, updates=updates, seed=self._seed
            )
        bounds = [item.metric for item in self._decoder.constraints if item.op == "<="]
        metric = self._aim.metric or bounds[0]
        return FixedEpisodes(
            self._space,
            self._aim,
            self._objectives,
            metric=metric,
            chief=chief,
            values=values,
            updates=updates,
            seed=self._seed,
        )

    # --- proposing ---------------------------------------------------------------------------------------------------

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

    def _episode(self, number: int, attempt: int, note: dict[str, object]) -> Candidate:
        candidate, said = self._episodes.propose(number, attempt)
        note |= said
        return candidate

    def _drawn(self, number: int, attempt: int, note: dict[str, object]) -> Candidate:
        note.clear()
        return draw(self._space, self._aim, np.random.default_rng((self._seed, number, attempt)))

    # --- learning ----------------------------------------------------------------------------------------------------

    def tell(self, trial: Trial) -> None:
        losses = self._losses.of(trial)
        if losses is not None:
            self._remember(trial, losses)
            self._learn(trial.number)

    def _remember(self, trial: Trial, losses: np.ndarray) -> None:
        self._episodes.remember(trial, losses)
        self._learnt += 1

    def _learn(self, number: int) -> None:
        if self._learnt > self._constants.warmup:
            self._episodes.learn(number)
        if self._learnt % _SAVE_EVERY == 0 and (networks := self._episodes.saved()):
            self._saved = {"learnt": self._learnt, "networks": networks}

    # --- state -------------------------------------------------------------------------------------------------------

    def state(self) -> Mapping[str, Any]:
        """How many trials the search had when it began, the pace at which exploration fades; and, once there were a
        hundred episodes, networks and optimizers of ``fixed`` (some 60 kB for twelve groups)."""
        return {"trials": self._trials, **self._saved}

    def load_state(self, state: Mapping[str, Any], history: Sequence[Trial]) -> None:
        self._trials = int(state.get("trials", self._trials))
        networks, count = state.get("networks"), int(state.get("learnt", 0))
        if not (isinstance(networks, str) and count > 0 and self._taken_up(history, networks, count)):
            self._taken_up(history, "", 0)  # nothing was saved, or by another version: learn all of it

    def _taken_up(self, history: Sequence[Trial], networks: str, count: int) -> bool:
        """Walk through the history and learn from what came after the first ``count`` episodes, when the networks were
        saved; False where there are not as many, or the networks do not fit."""
        self._start_over()
        for trial in history:
            self._proposed.add(trial.candidate)
            losses = self._losses.of(trial)
            if losses is None:
                continue
            self._remember(trial, losses)
            if self._learnt > count:
                self._learn(trial.number)
            elif self._learnt == count:
                if not self._episodes.load(networks):
                    return False
                self._saved = {"learnt": count, "networks": networks}
        return self._learnt >= count
