"""A sampler proposes, and learns from what ran.

The study holds what ran, not what was suggested: a suggestion is decoded first, and the decoded candidate enters the
study. Its parameters are the proportions of the widths and their share of the reachable cost (``drawing.Aim``), so that
the sampler chooses where on the front to look and what it learns there holds elsewhere.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
from optuna.distributions import BaseDistribution, FloatDistribution

from autoprune.config.controllers import OptunaControllerConfig
from autoprune.controllers.drawing import Aim, Proposed, draw
from autoprune.controllers.observed import Losses
from autoprune.controllers.optuna.memory import Memory
from autoprune.controllers.optuna.samplers import samplers
from autoprune.controllers.uniform import UNIFORM, uniform_widths
from autoprune.errors import ConfigError
from autoprune.space import Decoder, SearchSpace
from autoprune.types import Candidate, Objective, Proposal, Trial

__all__ = ["OptunaController"]

_SHARE = "share of the cost"
_GROUP = "group "
_DRAWS = 4
_NOTE = "generation"


class OptunaController:
    """TPE, NSGA-II, NSGA-III, CMA-ES, GP, QMC or random sampling.

    A proposal depends only on (seed, number) and the trials before it: every ask builds its sampler anew, seeded from
    the two. INFEASIBLE and DIVERGED trials break a constraint and are told with values worse than any seen; FAILED ones
    are forgotten; of equal candidates the first measurement counts. STOPPED ones are told with estimates: they lie
    below the front with confidence, so the sampler cannot take an estimate for the best, but learns where not to look.

    Raises ConfigError for CMA-ES with several objectives.
    """

    def __init__(
        self,
        config: OptunaControllerConfig,
        *,
        space: SearchSpace,
        decoder: Decoder,
        objectives: Sequence[Objective],
        seed: int,
    ) -> None:
        if config.sampler == "cmaes" and len(objectives) > 1:
            raise ConfigError(
                f"sampler cmaes follows one objective, got {len(objectives)}.",
                "Make the others constraints, or take nsga2, nsga3, tpe, gp, qmc or random.",
            )
        self._config = config
        self._space = space
        self._objectives = tuple(objectives)
        self._seed = seed
        self._aim = Aim(decoder, objectives)
        self._uniform = uniform_widths(space, decoder, config.seed_uniform)
        self._distributions = self._search_space()
        self._start_over()

    def _start_over(self) -> None:
        self._proposed = Proposed(self._space)
        self._losses = Losses(self._objectives)
        self._samplers = samplers(self._config, self._distributions, self._seed, self._is_new)
        history = self._config.history if self._samplers.window else 0
        self._memory = Memory(self._distributions, len(self._objectives), history)

    def _search_space(self) -> dict[str, BaseDistribution]:
        space: dict[str, BaseDistribution] = {
            _GROUP + item.name: FloatDistribution(-1.0, 1.0) for item in self._space.dimensions
        }
        if self._aim.metric is not None:
            space[_SHARE] = FloatDistribution(0.0, 1.0)
        return space

    @property
    def exhausted(self) -> bool:
        return self._proposed.everything

    def ask(self, number: int) -> Proposal | None:
        if self.exhausted:
            return None
        note: dict[str, object] = {}
        candidate = self._proposed.first_new(self._attempts(number, note))
        if candidate in self._uniform[number : number + 1]:
            note |= UNIFORM
        self._memory.begin(number, self._params(candidate), _attributes(note))
        return Proposal(candidate, note)

    def _attempts(self, number: int, note: dict[str, object]) -> Iterator[Callable[[], Candidate]]:
        """Uniform widths first; then the sampler, a few times where it repeats itself; at last a random draw."""
        if number < len(self._uniform):
            yield lambda: self._suggested(number, 0, note, instead=self._uniform[number])
        for attempt in range(self._samplers.attempts):
            yield partial(self._suggested, number, attempt, note)
        for attempt in range(_DRAWS):
            yield partial(draw, self._space, self._aim, np.random.default_rng((self._seed, number, attempt)))

    def _suggested(
        self, number: int, attempt: int, note: dict[str, object], instead: Candidate | None = None
    ) -> Candidate:
        """What the sampler suggests, decoded, or ``instead``, which then belongs to the sampler's generation."""
        study = self._memory.study(self._samplers.window)
        params, attributes = study.suggested(self._samplers.make(number, attempt), self._distributions)
        note |= {_NOTE: {key: value for key, value in attributes.items() if key.endswith(_NOTE)}}
        return self._decoded(params) if instead is None else instead

    def _decoded(self, params: Mapping[str, float]) -> Candidate:
        proportions = np.array([params[_GROUP + name] for name in self._space.names])
        return self._aim.place(proportions, params.get(_SHARE, 0.0))

    def _is_new(self, params: Mapping[str, float]) -> bool:
        return self._decoded(params) not in self._proposed

    def tell(self, trial: Trial) -> None:
        losses = self._losses.of(trial)
        if losses is None:
            self._memory.forget_running(trial.number)
            return
        params, attributes = self._params(trial.candidate), _attributes(trial.note)
        self._samplers.told(self._memory.finish(trial.number, params, attributes, losses))

    def state(self) -> Mapping[str, Any]:
        """Empty: the history, with the notes in it, is the state."""
        return {}

    def load_state(self, state: Mapping[str, Any], history: Sequence[Trial]) -> None:
        self._start_over()
        for trial in history:
            self._proposed.add(trial.candidate)
            if trial.state.finished:
                self.tell(trial)
            else:
                self._memory.begin(trial.number, self._params(trial.candidate), _attributes(trial.note))

    def _params(self, candidate: Candidate) -> dict[str, float]:
        """A candidate in the sampler's terms."""
        pairs = zip(self._space.names, self._aim.proportions(candidate), strict=True)
        params = {_GROUP + name: float(value) for name, value in pairs}
        if self._aim.metric is not None:
            params[_SHARE] = self._aim.share(candidate)
        return params


def _attributes(note: Mapping[str, object]) -> dict[str, Any]:
    """What the sampler noted about a proposal."""
    attributes = note.get(_NOTE, {})
    return dict(attributes) if isinstance(attributes, Mapping) else {}
