"""Which two of a search's metrics its front shows, unless asked otherwise."""

from __future__ import annotations

from collections.abc import Sequence

from autoprune.analysis.metrics import describe
from autoprune.types import Objective

__all__ = ["search_axes"]

_QUALITY = Objective("top1", "max")
_COST = Objective("macs", "min")


def search_axes(objectives: Sequence[Objective]) -> tuple[Objective, Objective]:
    """(cost, quality): the search's first of each kind, or macs and top1 where it has none.

    Quality is what is maximised, or else the first metric that is no count of operations, parameters or channels.

    >>> [str(axis) for axis in search_axes([Objective("error", "min"), Objective("params", "min")])]
    ['params min', 'error min']
    """
    measured = [item for item in objectives if not _is_cost(item)]
    quality = next((item for item in measured if item.direction == "max"), measured[0] if measured else _QUALITY)
    costs = [item for item in objectives if item.direction == "min" and item != quality]
    cost = next((item for item in costs if _is_cost(item)), costs[0] if costs else _COST)
    return cost, quality


def _is_cost(item: Objective) -> bool:
    return item.metric == "keep_ratio" or describe(item.metric).kind in ("count", "ms", "bytes")
