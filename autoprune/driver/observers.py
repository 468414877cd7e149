"""Telling observers what happens, and the front that they are told of."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence

from autoprune.protocols import Observer
from autoprune.types import Objective, Trial, TrialState

__all__ = ["LiveFront", "Notifier", "Silent"]

_log = logging.getLogger(__name__)


class LiveFront:
    """The non-dominated COMPLETE trials so far, kept one trial at a time.

    Of trials with equal metrics the lowest number stays. Sorted by the first objective to be minimised.
    """

    def __init__(self, objectives: Sequence[Objective]) -> None:
        self._objectives = tuple(objectives)
        self._axis = next((place for place, item in enumerate(objectives) if item.direction == "min"), 0)
        self._points: list[tuple[tuple[float, ...], Trial]] = []

    @property
    def trials(self) -> tuple[Trial, ...]:
        return tuple(trial for _, trial in self._points)

    def add(self, trial: Trial) -> bool:
        """Take a finished trial in; True when the front moved."""
        if trial.state is not TrialState.COMPLETE:
            return False
        point = tuple(item.sign * trial.metrics[item.metric] for item in self._objectives)
        for other, holder in self._points:
            if other == point and trial.number < holder.number:
                continue
            if all(a <= b for a, b in zip(other, point, strict=True)):
                return False
        self._points = [
            (other, holder)
            for other, holder in self._points
            if not all(a <= b for a, b in zip(point, other, strict=True))
        ]
        self._points.append((point, trial))
        self._points.sort(key=lambda item: item[0][self._axis])
        return True


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
