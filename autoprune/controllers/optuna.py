"""Optuna's samplers over the search space, in memory: the store is the only record.

The study holds what ran, not what was suggested: a suggestion is decoded first, and the decoded candidate enters the
study. Its parameters are the proportions of the widths and their share of the reachable cost (``drawing.Aim``), so that
the sampler chooses where on the front to look and what it learns there holds elsewhere.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import optuna
from optuna.distributions import BaseDistribution, FloatDistribution
from optuna.samplers import BaseSampler, NSGAIISampler, RandomSampler, TPESampler
from optuna.trial import FrozenTrial
from optuna.trial import TrialState as OptunaState

from autoprune.config.schema import OptunaControllerConfig
from autoprune.controllers.drawing import Aim, Proposed, draw
from autoprune.controllers.uniform import UNIFORM, uniform_widths
from autoprune.space import Decoder, SearchSpace
from autoprune.types import Candidate, Objective, Proposal, Trial, TrialState

__all__ = ["OptunaController"]

_SHARE = "share of the cost"
_GROUP = "group "
_ATTEMPTS = 4
_NOTE = "generation"


class OptunaController:
    """TPE, NSGA-II or random sampling.

    A proposal depends only on (seed, number) and the trials before it: every ask builds its sampler anew, seeded from
    the two. INFEASIBLE and DIVERGED trials are told with values worse than any seen; FAILED ones are forgotten; of
    equal candidates the first measurement counts. STOPPED ones are told with their estimates: they lie below the front
    with confidence, so the sampler cannot take an estimate for the best, but learns where not to look.
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
        self._config = config
        self._space = space
        self._objectives = tuple(objectives)
        self._seed = seed
        self._aim = Aim(decoder, objectives)
        self._uniform = uniform_widths(space, decoder, config.seed_uniform)
        self._distributions = self._search_space()
        self._start_over()

    def _start_over(self) -> None:
        self._study = _quiet_study(self._objectives)
        self._proposed = Proposed(self._space)
        self._open: dict[int, int] = {}
        """Our trial number -> the study's, of running trials."""
        self._measured: set[str] = set()
        self._worst = _Worst(self._objectives)

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
        self._open[number] = self._enter(candidate, note, OptunaState.RUNNING, None)
        return Proposal(candidate, note)

    def _attempts(self, number: int, note: dict[str, object]) -> Iterator[Callable[[], Candidate]]:
        """Uniform widths first; then the sampler, a few times where it repeats itself; at last a random draw."""
        if number < len(self._uniform):
            yield lambda: self._suggested(number, 0, note, instead=self._uniform[number])
        for attempt in range(_ATTEMPTS):
            yield partial(self._suggested, number, attempt, note)
        for attempt in range(_ATTEMPTS):
            yield partial(draw, self._space, self._aim, np.random.default_rng((self._seed, number, attempt)))

    def _suggested(
        self, number: int, attempt: int, note: dict[str, object], instead: Candidate | None = None
    ) -> Candidate:
        """What the sampler suggests, decoded, or ``instead``, which then belongs to the sampler's generation.

        The sampler's own trial ends here: the decoded candidate enters the study in its place.
        """
        self._study.sampler = self._sampler((self._seed, number, attempt))
        asked = self._study.ask(self._distributions)
        attributes = self._study.get_trials(deepcopy=False)[asked.number].system_attrs
        note |= {_NOTE: {key: value for key, value in attributes.items() if key.endswith(_NOTE)}}
        self._study.tell(asked, state=OptunaState.FAIL)
        if instead is not None:
            return instead
        proportions = np.array([asked.params[_GROUP + name] for name in self._space.names])
        return self._aim.place(proportions, asked.params.get(_SHARE, 0.0))

    def _sampler(self, entropy: tuple[int, ...]) -> BaseSampler:
        seed = int(np.random.SeedSequence(entropy).generate_state(1)[0])
        if self._config.sampler == "nsga2":
            return _Nsga2(self._distributions, population_size=self._config.population, seed=seed)
        if self._config.sampler == "random":
            return RandomSampler(seed=seed)
        startup = max(1, self._config.startup_trials)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            return _Tpe(self._distributions, n_startup_trials=startup, multivariate=True, constant_liar=True, seed=seed)

    def tell(self, trial: Trial) -> None:
        values = self._values(trial)
        at = self._open.pop(trial.number, None)
        if at is not None:
            state = OptunaState.FAIL if values is None else OptunaState.COMPLETE
            self._study.tell(at, values=values, state=state)
        elif values is not None:
            self._enter(trial.candidate, trial.note, OptunaState.COMPLETE, values)

    def state(self) -> Mapping[str, Any]:
        """Empty: the history, with the notes in it, is the state."""
        return {}

    def load_state(self, state: Mapping[str, Any], history: Sequence[Trial]) -> None:
        self._start_over()
        self._proposed.restore(history)
        values = {trial.number: self._values(trial) for trial in history if trial.state.finished}
        # by number: the order in which trials entered the study when they were asked
        for trial in sorted(history, key=lambda item: item.number):
            if not trial.state.finished:
                self._open[trial.number] = self._enter(trial.candidate, trial.note, OptunaState.RUNNING, None)
            elif values[trial.number] is not None:
                self._enter(trial.candidate, trial.note, OptunaState.COMPLETE, values[trial.number])

    def _values(self, trial: Trial) -> list[float] | None:
        """What the sampler learns from a finished trial; None: nothing."""
        if trial.state is TrialState.FAILED or trial.candidate.digest in self._measured:
            return None
        self._measured.add(trial.candidate.digest)
        values = [trial.metrics.get(item.metric, math.nan) for item in self._objectives]
        bad = trial.state in (TrialState.INFEASIBLE, TrialState.DIVERGED)
        if bad or not all(map(math.isfinite, values)):
            return self._worst.values()
        self._worst.saw(values)
        return values

    def _enter(
        self, candidate: Candidate, note: Mapping[str, object], state: OptunaState, values: list[float] | None
    ) -> int:
        """Put a candidate into the study as it ran; its number there."""
        pairs = zip(self._space.names, self._aim.proportions(candidate), strict=True)
        params = {_GROUP + name: float(value) for name, value in pairs}
        if self._aim.metric is not None:
            params[_SHARE] = self._aim.share(candidate)
        attributes = note.get(_NOTE, {})
        self._study.add_trial(
            optuna.create_trial(
                state=state,
                values=values,
                params=params,
                distributions=self._distributions,
                system_attrs=dict(attributes) if isinstance(attributes, Mapping) else {},
            )
        )
        return len(self._study.get_trials(deepcopy=False)) - 1


class _Known:
    """A sampler told of the search space, which Optuna otherwise infers from all earlier trials at each proposal."""

    def __init__(self, distributions: Mapping[str, BaseDistribution], **options: Any) -> None:
        super().__init__(**options)
        self._together = {name: item for name, item in distributions.items() if not item.single()}

    def infer_relative_search_space(self, study: optuna.Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        return self._together


class _Tpe(_Known, TPESampler):
    pass


class _Nsga2(_Known, NSGAIISampler):
    def select_parent(self, study: optuna.Study, generation: int) -> list[FrozenTrial]:
        """By number: Optuna gives the first child of a generation another order than its siblings, and every child
        is the first one after a resume."""
        return sorted(super().select_parent(study, generation), key=lambda trial: trial.number)


class _Worst:
    """Values clearly worse than any seen, finite because samplers compute with them."""

    def __init__(self, objectives: Sequence[Objective]) -> None:
        self._signs = np.array([float(item.sign) for item in objectives])
        self._low = np.full(len(objectives), math.inf)
        self._high = np.full(len(objectives), -math.inf)

    def saw(self, values: Sequence[float]) -> None:
        losses = self._signs * np.array(values)
        self._low, self._high = np.minimum(self._low, losses), np.maximum(self._high, losses)

    def values(self) -> list[float]:
        if not np.isfinite(self._high).all():
            return [float(sign) for sign in self._signs]
        margin = np.maximum(self._high - self._low, np.maximum(np.abs(self._high), 1e-9) * 0.1)
        return [float(value) for value in self._signs * (self._high + margin)]


def _quiet_study(objectives: Sequence[Objective]) -> optuna.Study:
    """A study whose creation is not logged; the user's own verbosity for Optuna stays as it was."""
    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        return optuna.create_study(
            directions=["maximize" if item.direction == "max" else "minimize" for item in objectives]
        )
    finally:
        optuna.logging.set_verbosity(before)
