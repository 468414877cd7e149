"""Trials as JSON, kept: a trial that has finished changes only when metrics are added to it."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from autoprune.api.reader import Reader
from autoprune.service.replies import encoded
from autoprune.service.shapes import trial_body

__all__ = ["Bodies"]

_BYTES = 32 * 1024 * 1024


@dataclass(frozen=True)
class _Kept:
    added: tuple[Any, ...]
    """Names and values of the metrics that were added before it was read."""
    text: bytes


class Bodies:
    """Of one store. Used from several threads; the ones that were asked for least lately are forgotten."""

    def __init__(self, reader: Reader, most_bytes: int = _BYTES) -> None:
        self._reader = reader
        self._most = most_bytes
        self._lock = threading.Lock()
        self._kept: OrderedDict[tuple[str, float, int], _Kept] = OrderedDict()
        self._bytes = 0

    def of(self, name: str, numbers: Sequence[int]) -> list[bytes]:
        """``TrialBody`` of each trial as JSON, in the order of ``numbers``; those that are gone are left out.

        Raises NotFound for an unknown search.
        """
        created, added = self._reader.added(name, numbers)
        found = {}
        with self._lock:
            for number in numbers:
                kept = self._kept.get((name, created, number))
                if kept is not None and kept.added == added.get(number, ()):
                    self._kept.move_to_end((name, created, number))
                    found[number] = kept.text
        missing = [number for number in numbers if number not in found]
        for trial in self._reader.trials(name, numbers=missing) if missing else ():
            found[trial.number] = text = encoded(trial_body(trial))
            if trial.state.finished:
                self._keep((name, created, trial.number), _Kept(added.get(trial.number, ()), text))
        return [found[number] for number in numbers if number in found]

    def _keep(self, key: tuple[str, float, int], kept: _Kept) -> None:
        with self._lock:
            before = self._kept.pop(key, None)
            self._kept[key] = kept
            self._bytes += len(kept.text) - (0 if before is None else len(before.text))
            while self._bytes > self._most:
                self._bytes -= len(self._kept.popitem(last=False)[1].text)
