"""Telling observers what happens, and the front that they are told of."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np

from autoprune.protocols import Observer
from autoprune.types import Objective, Trial, TrialState

__all__ = ["LiveFront", "Notifier", "Silent"]

_log = logging.getLogger(__name__)


class LiveFront:
    """The non-dominated COMPLETE trials so far, kept one trial at a time.

    Of trials with equal metrics the lowest number stays. Sorted by the first objective to be minimised. A trial that
    does not move it costs some microseconds, also where it has a thousand members.
    """

    def __init__(self, objectives: Sequence[Objective]) -> None:
        self._objectives = tuple(objectives)
        self._axis = next((place for place, item in enumerate(objectives) if item.direction == "min"), 0)
        self._columns = np.empty((len(self._objectives), 0))
        """(objectives, members), smaller is better."""
        self.trials: tuple[Trial, ...] = ()

    def add(self, trial: Trial) -> bool:
        """Take a finished trial in; True when the front moved."""
        if trial.state is not TrialState.COMPLETE:
            return False
        point = np.array([item.sign * trial.metrics[item.metric] for item in self._objectives])
        no_worse, no_better = self._compared(point)
        same = no_worse & no_better
        if no_worse.any() and not (same.any() and trial.number < self.trials[int(same.argmax())].number):
            return False
        kept = ~no_better
        members = [member for member, stays in zip(self.trials, kept.tolist(), strict=True) if stays]
        columns = self._columns[:, kept]
        place = int(np.searchsorted(columns[self._axis], point[self._axis], side="right"))
        members.insert(place, trial)
        self._columns = np.insert(columns, place, point, axis=1)
        self.trials = tuple(members)
        return True

    def _compared(self, point: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(members,) bool each: no worse than the point in any objective, and no better in any."""
        no_worse = no_better = np.ones(self._columns.shape[1], dtype=bool)
        for column, value in zip(self._columns, point, strict=True):
            no_worse, no_better = no_worse & (column <= value), no_better & (column >= value)
        return no_worse, no_better


class Notifier:
    """Hands events to observers. An observer that raises is logged: it never ends a search."""

    def __init__(self, observers: Iterable[Observer]) -> None:
        self._observers = tuple(observers)

    def trial(self, trial: Trial) -> None:
        self._each(lambda observer: observer.on_trial(trial))

    def front(self, front: Sequence[Trial]) -> None:
        self._each(lambda observer: observer.on_front(front))

    def _each(self, call: Callable[[Observer], None]) -> None:
        for observer in self._observers:
            try:
                call(observer)
            except Exception:  # noqa: BLE001 (whatever a plug-in raises, the search goes on)
                _log.exception("observer %s failed", type(observer).__name__)


class Silent:
    """A Progress that shows nothing."""

    def on_trial(self, trial: Trial) -> None: ...

    def on_front(self, front: Sequence[Trial]) -> None: ...

    def on_baseline(self, metrics: Mapping[str, float]) -> None: ...

    def phase(self, name: str, total: int | None = None) -> None: ...

    def advance(self, text: str = "", step: int = 1) -> None: ...

    def note(self, text: str) -> None: ...
