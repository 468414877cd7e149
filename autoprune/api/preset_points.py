"""What papers' procedures made for a search, beside its front."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from autoprune.analysis.front import Front, Point
from autoprune.analysis.metrics import finite

if TYPE_CHECKING:
    from autoprune.store import Store

__all__ = ["preset_points", "with_points"]


def preset_points(opened: Store, search: str) -> list[Point]:
    """All of a search, in the order in which they were made."""
    from autoprune.store.points import read_points

    return [Point(each.label, each.widths, each.metrics) for each in read_points(opened, search)]


def with_points(opened: Store, front: Front) -> Front:
    """The front with those stored points that meet its constraints and have both its metrics."""
    shown = [
        point
        for point in preset_points(opened, front.search)
        if finite(point.metrics, front.x.metric)
        and finite(point.metrics, front.y.metric)
        and not any(item.miss(point.metrics, front.baseline) for item in front.constraints)
    ]
    return replace(front, points=tuple(shown))
