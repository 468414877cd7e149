"""Optuna's samplers, seeded by trial and told of the search space; what some remember between proposals."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol

import optuna
from optuna.distributions import BaseDistribution
from optuna.samplers import (
    BaseSampler,
    NSGAIIISampler,
    NSGAIISampler,
    QMCSampler,
    RandomSampler,
    TPESampler,
)
from optuna.trial import FrozenTrial

from autoprune.config.controllers import OptunaControllerConfig
from autoprune.controllers.optuna.cmaes import CmaEs
from autoprune.controllers.optuna.gp import GaussianProcesses
from autoprune.controllers.optuna.known import Known, seeded
from autoprune.controllers.optuna.memory import Seen, allow, is_constrained

__all__ = ["Samplers", "samplers"]

_ATTEMPTS = 4
_TPE_WINDOW = 250


class Samplers(Protocol):
    """Makes a sampler for every proposal; all that it remembers is a function of what it was told."""

    @property
    def window(self) -> int:
        """How many finished trials a sampler looks at."""
        ...

    @property
    def attempts(self) -> int:
        """How often a sampler is asked that repeats what was proposed."""
        ...

    def make(self, number: int, attempt: int) -> BaseSampler: ...

    def told(self, trial: FrozenTrial) -> None:
        """A finished trial, in the order of finishing."""
        ...


def samplers(
    config: OptunaControllerConfig,
    distributions: Mapping[str, BaseDistribution],
    seed: int,
    is_new: Callable[[dict[str, float]], bool],
) -> Samplers:
    """The configured ones. ``is_new``: whether parameters decode to a candidate that was not proposed before."""
    together = {name: item for name, item in distributions.items() if not item.single()}
    if config.sampler in ("nsga2", "nsga3"):
        return _Generations(config, together, seed)
    if config.sampler == "cmaes":
        return CmaEs(config.population, together, seed)
    if config.sampler == "gp":
        startup = max(1, config.startup_trials)
        return GaussianProcesses(together, seed, is_new, startup=startup, window=config.window)
    return _Stateless(config, together, seed)


class _Stateless:
    """TPE, QMC and random sampling: a proposal depends on the trials that are shown alone."""

    def __init__(self, config: OptunaControllerConfig, together: Mapping[str, BaseDistribution], seed: int) -> None:
        self._config, self._together, self._seed = config, together, seed
        self.window = (config.window or _TPE_WINDOW) if config.sampler == "tpe" else 0
        # a point of a sequence has no second try
        self.attempts = 1 if config.sampler == "qmc" else _ATTEMPTS

    def make(self, number: int, attempt: int) -> BaseSampler:
        seed = seeded(self._seed, number, attempt)
        if self._config.sampler == "tpe":
            startup = max(1, self._config.startup_trials)
            return _Tpe(self._together, n_startup_trials=startup, multivariate=True, constant_liar=True, seed=seed)
        if self._config.sampler == "qmc":
            return _Qmc(self._together, number, seed=seeded(self._seed), scramble=True)
        return RandomSampler(seed=seed)

    def told(self, trial: FrozenTrial) -> None:
        """Remembers nothing."""


class _Tpe(Known, TPESampler):
    pass


class _Qmc(Known, QMCSampler):
    """The point of a scrambled Sobol' sequence that belongs to the trial's number."""

    def __init__(self, together: Mapping[str, BaseDistribution], number: int, **options: Any) -> None:
        super().__init__(together, **options)
        self._number = number

    def _find_sample_id(self, study: optuna.Study, search_space: dict[str, BaseDistribution]) -> int:
        return self._number


class _Generations:
    """NSGA-II and NSGA-III: each generation descends from the best of the one before and its parents.

    A generation is the first ``population`` trials told of it, and its parents are chosen with a seed of their own, so
    that they are the same after a resume, whichever trial asks for them first.
    """

    window = 0
    attempts = _ATTEMPTS

    def __init__(self, config: OptunaControllerConfig, together: Mapping[str, BaseDistribution], seed: int) -> None:
        self._config, self._together, self._seed = config, together, seed
        self.current = 0
        """The generation that new trials belong to."""
        self._population: list[FrozenTrial] = []
        self._parents: list[FrozenTrial] = []
        """Of the current generation."""
        self._constrained = False

    def make(self, number: int, attempt: int) -> BaseSampler:
        return self._sampler(seeded(self._seed, number, attempt))

    def _sampler(self, seed: int) -> _Nsga2 | _Nsga3:
        kind = _Nsga2 if self._config.sampler == "nsga2" else _Nsga3
        return kind(self, self._together, population_size=self._config.population, seed=seed)

    def told(self, trial: FrozenTrial) -> None:
        if is_constrained(trial) and not self._constrained:
            self._constrained = True
            allow([*self._population, *self._parents])
        if trial.system_attrs.get(self.key) != self.current:
            return
        self._population.append(trial)
        if len(self._population) >= self._config.population:
            selecting = self._sampler(seeded(self._seed, self.current + 1))
            study = Seen([], len(trial.values))
            self._parents = sorted(selecting.select_parent(study, self.current + 1), key=lambda one: one.number)
            self._population, self.current = [], self.current + 1

    @property
    def key(self) -> str:
        """Of a trial's generation in what a sampler notes about it."""
        return str((_Nsga2 if self._config.sampler == "nsga2" else _Nsga3)._get_generation_key())

    def population(self) -> list[FrozenTrial]:
        """Of the current generation, by number."""
        return sorted(self._population, key=lambda trial: trial.number)

    def parents(self) -> list[FrozenTrial]:
        """Of the current generation, by number."""
        return list(self._parents)


class _OfGenerations(Known):
    """Has its populations from :class:`_Generations`, where Optuna looks through all trials and their attributes."""

    def __init__(self, generations: _Generations, together: Mapping[str, BaseDistribution], **options: Any) -> None:
        super().__init__(together, **options)
        self._generations = generations

    def get_trial_generation(self, study: optuna.Study, trial: FrozenTrial) -> int:
        generation = self._generations.current
        study._storage.set_trial_system_attr(trial._trial_id, self._generations.key, generation)
        return generation

    def get_population(self, study: optuna.Study, generation: int) -> list[FrozenTrial]:
        return self._generations.population()

    def get_parent_population(self, study: optuna.Study, generation: int) -> list[FrozenTrial]:
        return self._generations.parents()


class _Nsga2(_OfGenerations, NSGAIISampler):
    pass


class _Nsga3(_OfGenerations, NSGAIIISampler):
    pass
