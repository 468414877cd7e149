"""What was told so far, as a study that a sampler can look at."""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence
from typing import Any

import moocore
import numpy as np
import optuna
from optuna.distributions import BaseDistribution
from optuna.storages import InMemoryStorage
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial
from optuna.trial import TrialState as OptunaState

from autoprune.controllers.evolution_survival import crowding

__all__ = ["Memory", "Seen"]

_ALLOWED = "constraints:allowed"
"""Optuna's name for the value of a constraint, which is broken above 0."""


class Memory:
    """Trials that run and trials that finished, in the order in which they were asked.

    Losses are told, so every objective is minimised: Optuna's NSGA-III normalises values without their direction.
    """

    def __init__(self, distributions: Mapping[str, BaseDistribution], objectives: int) -> None:
        self._distributions, self._objectives = dict(distributions), objectives
        self._trials: dict[int, FrozenTrial] = {}
        self._worst = _Worst(objectives)
        self._any_bad = False

    def begin(self, number: int, params: Mapping[str, float], attributes: Mapping[str, Any]) -> None:
        """A trial runs: samplers keep away from what is being measured."""
        self._trials[number] = self._frozen(number, OptunaState.RUNNING, None, params, attributes)

    def forget_running(self, number: int) -> None:
        """A trial that ran has ended and teaches nothing."""
        trial = self._trials.get(number)
        if trial is not None and trial.state is OptunaState.RUNNING:
            del self._trials[number]

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
            for other in self._trials.values():
                other.system_attrs[_ALLOWED] = 0.0
        if self._any_bad:
            trial.system_attrs[_ALLOWED] = float(bad)
        self._trials[number] = trial
        return trial

    def seen(self, window: int | None) -> list[FrozenTrial]:
        """All trials; with a window what runs, the best ``window / 2`` of what finished and the latest of the rest."""
        if window == 0:
            return []
        trials = [self._trials[number] for number in sorted(self._trials)]
        finished = [at for at, trial in enumerate(trials) if trial.state is OptunaState.COMPLETE]
        if window is None or len(finished) <= window:
            return trials
        losses = np.array([trials[at].values for at in finished])
        best = {finished[at] for at in _ranked(losses)[: window // 2]}
        latest = [at for at in finished if at not in best][-(window - len(best)) :]
        chosen = best.union(latest)
        return [trial for at, trial in enumerate(trials) if at in chosen or trial.state is OptunaState.RUNNING]

    def study(self, window: int | None) -> Seen:
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


def _ranked(losses: np.ndarray) -> np.ndarray:
    """Positions from the best to the worst, (N,): front by front, of each the loneliest first."""
    if losses.shape[1] == 1:
        return np.argsort(losses[:, 0], kind="stable")
    rank = moocore.pareto_rank(losses)
    room = np.empty(len(losses))
    for level in np.unique(rank):
        room[rank == level] = crowding(losses[rank == level])
    return np.lexsort((-room, rank))


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
