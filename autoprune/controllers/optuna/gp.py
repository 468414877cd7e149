"""Gaussian processes, asked for one candidate in a tenth of the time that Optuna takes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from copy import copy
from typing import Any

import numpy as np
from optuna.distributions import BaseDistribution, FloatDistribution
from optuna.samplers import BaseSampler, GPSampler
from optuna.trial import FrozenTrial

from autoprune.controllers.optuna.known import Known, seeded
from autoprune.controllers.optuna.memory import Seen, allow, is_constrained

__all__ = ["GaussianProcesses"]

_WINDOW = 40
_REFIT = 20

_POOL, _LOOKED_AT = 256, 32
_STEPS = (0.1, 0.03)
_SAMPLES = 32
"""Of the posterior, where several objectives are improved together; 128 in Optuna."""


class GaussianProcesses:
    """Fits begin with the kernels of the last multiple of 20 finished trials, which are fitted from nothing: half as
    many steps as from nothing each time, and still a function of the history."""

    attempts = 1
    """It looks for what is new itself."""

    def __init__(
        self,
        together: Mapping[str, BaseDistribution],
        seed: int,
        is_new: Callable[[dict[str, float]], bool],
        *,
        startup: int,
        window: int | None,
    ) -> None:
        self._together, self._seed, self._is_new = dict(together), seed, is_new
        self._startup, self.window = startup, window or _WINDOW
        self._latest: list[FrozenTrial] = []
        self._told = 0
        self._constrained = False
        self._first: list[tuple[FrozenTrial, dict[str, Any]]] = []
        """What the kernels that fits begin with are fitted to, as it was known then; empty once they are."""
        self._kernels: tuple[Any, Any] = (None, None)

    def make(self, number: int, attempt: int) -> BaseSampler:
        sampler = self._sampler(seeded(self._seed, number, attempt), self._startup)
        if self._first:
            self._kernels, self._first = self._fitted(), []
        sampler._gprs_cache_list, sampler._constraints_gprs_cache_list = self._kernels
        return sampler

    def _sampler(self, seed: int, startup: int) -> _Gp:
        return _Gp(self._together, self._is_new, seed=seed, n_startup_trials=startup)

    def _fitted(self) -> tuple[Any, Any]:
        """Kernels of the objectives, and of the constraint if one was broken."""
        trials = []
        for trial, attributes in self._first:
            trials.append(copy(trial))
            trials[-1].system_attrs = attributes
        sampler = self._sampler(seeded(self._seed), 1)
        Seen(trials, len(trials[0].values)).suggested(sampler, self._together)
        return sampler._gprs_cache_list, sampler._constraints_gprs_cache_list

    def told(self, trial: FrozenTrial) -> None:
        self._told += 1
        if is_constrained(trial) and not self._constrained:
            self._constrained = True
            allow(self._latest)
        self._latest = [*self._latest, trial][-self.window :]
        if self._told % _REFIT == 0:
            self._first = [(item, dict(item.system_attrs)) for item in self._latest]


class _Gp(Known, GPSampler):
    """The best of a pool of points that decode to something new.

    Optuna climbs the acquisition function by its gradient, for a second or more, to a point that is rounded to widths
    anyway, often to widths measured before.
    """

    def __init__(
        self, together: Mapping[str, BaseDistribution], is_new: Callable[[dict[str, float]], bool], **options: Any
    ) -> None:
        super().__init__(together, **options)
        self._is_new = is_new
        self._n_qmc_samples_ehvi = self._n_qmc_samples_qei = _SAMPLES

    def _optimize_acqf(self, acqf: Any, best_params: np.ndarray | None) -> np.ndarray:
        """The point, (D,) in [0, 1]; ``best_params`` (N, D) are what pools are drawn around as well."""
        rng = self._rng.rng
        pool = rng.uniform(size=(_POOL, len(self._together)))
        if best_params is not None:
            for at, step in enumerate(_STEPS):
                part = slice(at * _POOL // 4, (at + 1) * _POOL // 4)
                around = best_params[rng.randint(len(best_params), size=_POOL // 4)]
                pool[part] = np.clip(around + rng.normal(0.0, step, around.shape), 0.0, 1.0)
        best = np.argsort(-acqf.eval_acqf_no_grad(pool), kind="stable")[:_LOOKED_AT]
        new = (at for at in best if self._is_new(self._named(pool[at])))
        return np.asarray(pool[next(new, best[0])])

    def _named(self, point: np.ndarray) -> dict[str, float]:
        pairs = zip(self._together.items(), point, strict=True)
        return {
            name: item.low + (item.high - item.low) * float(value)
            for (name, item), value in pairs
            if isinstance(item, FloatDistribution)
        }
