"""What papers' procedures made for a search, beside its front."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from autoprune.analysis.front import Front, Point
from autoprune.analysis.metrics import finite

if TYPE_CHECKING:
    from autoprune.store import Store

__all__ = ["with_points"]


def with_points(opened: Store, front: Front) -> Front:
    """The front with those stored points that meet its constraints and have both its metrics."""
    from autoprune.store.points import read_points

    shown = [
        Point(point.label, point.widths, point.metrics)
        for point in read_points(opened, front.search)
        if finite(point.metrics, front.x.metric)
        and finite(point.metrics, front.y.metric)
        and not any(item.miss(point.metrics, front.baseline) for item in front.constraints)
    ]
    return replace(front, points=tuple(shown))
