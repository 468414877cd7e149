"""How the columns of a search grew: what was computed from them holds for the rows that are as they were."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import count
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from autoprune.store import MetricColumns

__all__ = ["Columns", "grown"]

_REMEMBERED = 64
_versions = count(1)


@dataclass(frozen=True, eq=False)
class Columns:
    """The metric columns of a search, and where they differ from earlier ones."""

    found: MetricColumns
    stamp: float
    steps: tuple[tuple[int, int], ...]
    """The last versions up to this one, each with the rows at the beginning that are as the version before had them."""

    @property
    def version(self) -> int:
        return self.steps[-1][0]

    def unchanged(self, version: int) -> int:
        """Rows at the beginning that were the same in that version; whatever followed them there still follows.

        0 when nothing is known of that version.
        """
        if version not in (at for at, _ in self.steps):
            return 0
        return min((rows for at, rows in self.steps if at > version), default=len(self.found.numbers))


def grown(found: MetricColumns, stamp: float, earlier: Columns | None) -> Columns:
    """What was read now, compared with what was read of the same store before."""
    rows = 0 if earlier is None else _unchanged(earlier.found, found)
    before = earlier.steps[1 - _REMEMBERED :] if earlier is not None and rows else ()
    return Columns(found, stamp, (*before, (next(_versions), rows)))


def _unchanged(old: MetricColumns, new: MetricColumns) -> int:
    """Rows at the beginning that are equal; 0 as well when one behind them has vanished or changed."""
    if not old.values.keys() <= new.values.keys():
        return 0
    both = min(len(old.numbers), len(new.numbers))
    pairs = [(old.numbers, new.numbers), (old.complete, new.complete)]
    pairs += [(_bits(old.values[name]), _bits(new.values[name])) for name in old.values]
    first = min((_first_other(a[:both], b[:both]) for a, b in pairs), default=both)
    behind = old.numbers[first:]
    if len(behind) and not len(new.numbers):
        return 0
    rows = np.minimum(np.searchsorted(new.numbers, behind), len(new.numbers) - 1)
    return first if all(np.array_equal(a[first:], b[rows]) for a, b in pairs) else 0


def _bits(values: np.ndarray) -> np.ndarray:
    """NaN is equal to itself here."""
    return values.view(np.int64)


def _first_other(old: np.ndarray, new: np.ndarray) -> int:
    differ = old != new
    place = int(differ.argmax()) if len(differ) else 0
    return place if len(differ) and differ[place] else len(differ)
