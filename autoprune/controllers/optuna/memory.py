"""What was told so far, as a study that a sampler can look at."""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import optuna
from optuna.distributions import BaseDistribution
from optuna.storages import InMemoryStorage
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial
from optuna.trial import TrialState as OptunaState

from autoprune.controllers.window import is_full, kept

__all__ = ["Memory", "Seen", "allow", "is_constrained"]

_ALLOWED = "constraints:allowed"
"""Optuna's name for the value of a constraint, which is broken above 0."""


class Memory:
    """Trials that run and trials that finished, in the order in which they were asked.

    Of the finished ones the best half of ``history`` stays, and the latest of the others (``window.kept``); without a
    history none does. Losses are told, so every objective is minimised: Optuna's NSGA-III normalises values without
    their direction.
    """

    def __init__(self, distributions: Mapping[str, BaseDistribution], objectives: int, history: int) -> None:
        self._distributions, self._objectives, self._history = dict(distributions), objectives, history
        self._running: dict[int, FrozenTrial] = {}
        self._finished: dict[int, FrozenTrial] = {}
        self._worst = _Worst(objectives)
        self._any_bad = False

    def begin(self, number: int, params: Mapping[str, float], attributes: Mapping[str, Any]) -> None:
        """A trial runs: samplers keep away from what is being measured."""
        self._running[number] = self._frozen(number, OptunaState.RUNNING, None, params, attributes)

    def forget_running(self, number: int) -> None:
        """A trial that ran has ended and teaches nothing."""
        self._running.pop(number, None)

    def finish(
        self, number: int, params: Mapping[str, float], attributes: Mapping[str, Any], losses: np.ndarray
    ) -> FrozenTrial:
        """A trial was measured, losses (objectives,); infinite ones are bad and become worse than any seen.

        Samplers that know constraints see that a bad one breaks one.
        """
        bad = not bool(np.isfinite(losses).all())
        if not bad:
            self._worst.saw(losses)
        values = self._worst.values() if bad else [float(value) for value in losses]
        trial = self._frozen(number, OptunaState.COMPLETE, values, params, attributes)
        if bad and not self._any_bad:
            self._any_bad = True
            allow([*self._running.values(), *self._finished.values()])
        if self._any_bad:
            trial.system_attrs[_ALLOWED] = float(bad)
        self._running.pop(number, None)
        if self._history:
            self._finished[number] = trial
        if self._history and is_full(len(self._finished), self._history):
            self._finished = {trial.number - 1: trial for trial in self._chosen(self._history)}
        return trial

    def seen(self, window: int) -> list[FrozenTrial]:
        """Of what finished the best ``window / 2`` and the latest of the rest, and the latest ``window`` that run."""
        if not window:
            return []
        running = [self._running[number] for number in sorted(self._running)[-window:]]
        return sorted([*self._chosen(window), *running], key=lambda trial: trial.number)

    def _chosen(self, count: int) -> list[FrozenTrial]:
        """By number."""
        trials = [self._finished[number] for number in sorted(self._finished)]
        if len(trials) <= count:
            return trials
        return [trials[at] for at in kept(np.array([trial.values for trial in trials]), count)]

    def study(self, window: int) -> Seen:
        """A study in which a sampler can be asked once."""
        return Seen(self.seen(window), self._objectives)

    def _frozen(
        self,
        number: int,
        state: OptunaState,
        values: Sequence[float] | None,
        params: Mapping[str, float],
        attributes: Mapping[str, Any],
    ) -> FrozenTrial:
        # 0 is the number of the trial that a sampler is asked for
        return FrozenTrial(
            number=number + 1,
            trial_id=number + 1,
            state=state,
            value=None,
            values=values,
            datetime_start=None,
            datetime_complete=None,
            params=dict(params),
            distributions=self._distributions,
            user_attrs={},
            system_attrs=dict(attributes),
            intermediate_values={},
        )


class Seen(optuna.Study):
    """Shows a sampler the given trials, and is asked once: what it remembers ends with it."""

    def __init__(self, trials: Sequence[FrozenTrial], objectives: int) -> None:
        self._seen = list(trials)
        storage = _quiet(objectives)
        super().__init__(study_name="seen", storage=storage)

    def _get_trials(
        self, deepcopy: bool = True, states: Container[OptunaState] | None = None, use_cache: bool = False
    ) -> list[FrozenTrial]:
        return [trial for trial in self._seen if states is None or trial.state in states]

    def suggested(
        self, sampler: optuna.samplers.BaseSampler, distributions: dict[str, BaseDistribution]
    ) -> tuple[dict[str, float], dict[str, Any]]:
        """The parameters that a sampler proposes, and what it notes about them."""
        self.sampler = sampler
        asked = self.ask(distributions)
        return dict(asked.params), dict(self._storage.get_trial(asked._trial_id).system_attrs)


def _quiet(objectives: int) -> InMemoryStorage:
    """A storage with one study, whose creation is not logged; the user's own verbosity for Optuna stays as it was."""
    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        storage = InMemoryStorage()
        storage.create_new_study([StudyDirection.MINIMIZE] * objectives, "seen")
        return storage
    finally:
        optuna.logging.set_verbosity(before)


def allow(trials: Iterable[FrozenTrial]) -> None:
    """From now on a constraint is known, which these trials do not break."""
    for trial in trials:
        trial.system_attrs.setdefault(_ALLOWED, 0.0)


def is_constrained(trial: FrozenTrial) -> bool:
    """Whether a constraint was known when the trial finished."""
    return _ALLOWED in trial.system_attrs


class _Worst:
    """Losses clearly worse than any seen, finite because samplers compute with them."""

    def __init__(self, objectives: int) -> None:
        self._low = np.full(objectives, np.inf)
        self._high = np.full(objectives, -np.inf)

    def saw(self, losses: np.ndarray) -> None:
        self._low, self._high = np.minimum(self._low, losses), np.maximum(self._high, losses)

    def values(self) -> list[float]:
        if not np.isfinite(self._high).all():
            return [1.0] * len(self._high)
        margin = np.maximum(self._high - self._low, np.maximum(np.abs(self._high), 1e-9) * 0.1)
        return [float(value) for value in self._high + margin]
