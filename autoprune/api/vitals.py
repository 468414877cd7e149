"""What a monitor wants to know of every search, again and again, without reading more than has changed."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from autoprune.analysis.axes import search_axes
from autoprune.analysis.pareto import front_order, hypervolume, reference_point
from autoprune.api.reader import Reader
from autoprune.config.expressions import parse_objective
from autoprune.errors import AutopruneError, NotFound

__all__ = ["KINDS", "SearchVitals", "Vitals", "kind_of"]

KINDS = {
    "timeout": ("trial_seconds",),
    "worker_died": ("worker process died", "worker process was killed", "worker is gone"),
    "out_of_memory": ("out of memory",),
    "no_measurement": ("does not measure", "without a final measurement"),
}
"""Kind of a failure -> what its reason says; all others are ``error``. Reasons themselves are of any number."""

_SHARE = 0.05
"""Of the time that passes may be spent on one search that changes all the time."""


@dataclass(frozen=True)
class SearchVitals:
    """Of one search."""

    front: int = 0
    """Trials on the front of its first cost and its quality."""
    volume: float = 0.0
    """Hypervolume of that front, up to a tenth of the range beyond the worst trial, relative to the whole range."""
    retries: int = 0
    failures: Mapping[str, int] = field(default_factory=dict)
    """Kind -> failed trials."""


@dataclass(frozen=True)
class _Kept:
    stamp: float
    again_at: float
    """Clock from which on it may be made again."""
    vitals: SearchVitals


def kind_of(reason: str) -> str:
    """
    >>> kind_of("exceeded trial_seconds=5 and was killed"), kind_of("ValueError: no")
    ('timeout', 'error')
    """
    return next((kind for kind, signs in KINDS.items() if any(sign in reason for sign in signs)), "error")


class Vitals:
    """Remembers what it found until a search changes, and for a while longer where finding it took long."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader
        self._kept: dict[str, _Kept] = {}
        self._lock = threading.Lock()

    def of(self, name: str) -> SearchVitals:
        """Raises NotFound for a search that is gone."""
        stamp, now = self._reader.stamp(name), time.monotonic()
        with self._lock:
            kept = self._kept.get(name)
            if kept is not None and (kept.stamp == stamp or now < kept.again_at):
                return kept.vitals
            found = self._found(name)
            ended = time.monotonic()
            self._kept[name] = _Kept(stamp, ended + (ended - now) / _SHARE, found)
            return found

    def forget(self, present: set[str]) -> None:
        """Drop what is known of searches that are gone."""
        with self._lock:
            self._kept = {name: kept for name, kept in self._kept.items() if name in present}

    def _found(self, name: str) -> SearchVitals:
        from autoprune.store import vitals

        retries, reasons = vitals.accidents(self._reader.store, name)
        failures: Counter[str] = Counter()
        for reason, count in reasons.items():
            failures[kind_of(reason)] += count
        try:
            front, volume = self._front(name)
        except NotFound:
            raise
        except (AutopruneError, KeyError, TypeError, ValueError):  # a configuration that is none
            front, volume = 0, 0.0
        return SearchVitals(front, volume, retries, failures)

    def _front(self, name: str) -> tuple[int, float]:
        objectives = [parse_objective(text) for text in self._reader.config(name).get("objectives", ())]
        axes = search_axes(objectives)
        found = self._reader.metric_columns(name, [each.metric for each in axes])
        points = np.stack([each.sign * found.values[each.metric] for each in axes], axis=1)
        points = points[np.isfinite(points).all(axis=1)]
        if not len(points):
            return 0, 0.0
        kept = points[front_order(points, axes)]
        reference = reference_point(points)
        whole = float(np.prod(reference - points.min(axis=0)))
        return len(kept), hypervolume(kept, reference) / whole if whole > 0 else 0.0
