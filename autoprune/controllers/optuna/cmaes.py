"""CMA-ES whose state is a function of what it was told.

Optuna's own sampler pickles its optimiser into a trial of each generation; unpickling what lies in a store would run
whatever somebody put there. Here the same optimiser (Hansen, "The CMA Evolution Strategy: A Tutorial",
arXiv:1604.00772) lives with the controller and learns again from the history on resume.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import cmaes
import numpy as np
import optuna
from optuna.distributions import BaseDistribution, FloatDistribution
from optuna.samplers import BaseSampler, RandomSampler
from optuna.trial import FrozenTrial
from optuna.trial import TrialState as OptunaState

from autoprune.controllers.optuna.known import seeded

__all__ = ["CmaEs"]

_GENERATION = "cma:generation"
_STEP = 1 / 6
"""First standard deviation as a share of the range, as in Optuna."""


class CmaEs:
    """A generation ends once ``population`` of its trials were told, in the order of finishing; later ones of it teach
    nothing. An optimiser that has converged begins anew at random with twice the population (IPOP)."""

    window = 0
    attempts = 4

    def __init__(self, population: int, together: Mapping[str, BaseDistribution], seed: int) -> None:
        self._together = {name: item for name, item in together.items() if isinstance(item, FloatDistribution)}
        self._low = np.array([item.low for item in self._together.values()])
        self._range = np.array([item.high for item in self._together.values()]) - self._low
        self._seed, self._size, self._restarts = seed, population, 0
        self._optimiser = self._started(np.full(len(self._low), 0.5))
        self._finished = 0
        """Generations of earlier optimisers."""
        self._members: list[tuple[np.ndarray, float]] = []

    def _started(self, mean: np.ndarray) -> cmaes.CMA:
        bounds = np.tile([0.0, 1.0], (len(mean), 1))
        return cmaes.CMA(
            mean=mean,
            sigma=_STEP,
            bounds=bounds,
            seed=0,
            n_max_resampling=10 * len(mean),
            population_size=self._size,
        )

    @property
    def generation(self) -> int:
        return self._finished + self._optimiser.generation

    def make(self, number: int, attempt: int) -> BaseSampler:
        return _Asking(self, self._together, seeded(self._seed, number, attempt))

    def sample(self, seed: int) -> dict[str, float]:
        """A point of the current generation."""
        self._optimiser.reseed_rng(seed)
        point = self._low + self._range * self._optimiser.ask()
        return {name: float(value) for name, value in zip(self._together, point, strict=True)}

    def told(self, trial: FrozenTrial) -> None:
        if trial.system_attrs.get(_GENERATION) != self.generation:
            return
        point = [trial.params[name] for name in self._together]
        self._members.append(((np.array(point) - self._low) / self._range, trial.values[0]))
        if len(self._members) == self._size:
            self._optimiser.tell(self._members)
            self._members = []
            if self._optimiser.should_stop():
                self._restart()

    def _restart(self) -> None:
        self._finished = self.generation
        self._restarts += 1
        self._size *= 2
        rng = np.random.default_rng((self._seed, self._restarts))
        self._optimiser = self._started(rng.uniform(size=len(self._low)))


class _Asking(BaseSampler):
    def __init__(self, strategy: CmaEs, together: Mapping[str, BaseDistribution], seed: int) -> None:
        self._strategy, self._together, self._seed = strategy, dict(together), seed
        self._independent = RandomSampler(seed=seed)

    def infer_relative_search_space(self, study: optuna.Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        return self._together

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        study._storage.set_trial_system_attr(trial._trial_id, _GENERATION, self._strategy.generation)
        return self._strategy.sample(self._seed)

    def sample_independent(
        self, study: optuna.Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        return self._independent.sample_independent(study, trial, param_name, param_distribution)

    def after_trial(
        self, study: optuna.Study, trial: FrozenTrial, state: OptunaState, values: Sequence[float] | None
    ) -> None:
        """Nothing: the controller tells the strategy."""
