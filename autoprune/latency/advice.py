"""Which multiple widths should be rounded to, from the staircases of all layers that were swept.

A layer weighs with its share of the full network's time; layers of equal kind and size share a staircase. A group's
staircases are those of the layers that make its channels and of those that read them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from autoprune.latency.layout import Segment
from autoprune.latency.staircase import MULTIPLES, Staircase, smallest_good
from autoprune.latency.table import LatencyTable

__all__ = ["Advice", "LayerKind", "advice_by_group", "layer_kind", "overall_advice", "varied_sides"]

_NOISE = 0.5
LayerKind = tuple[str, int, int]


@dataclass(frozen=True)
class Advice:
    """Of one group, or of the network."""

    waste: Mapping[int, float]
    """Multiple -> mean share of time above the staircases' lower envelope. A layer that is too narrow for a multiple
    counts with the coarsest that leaves it four widths. Empty where no layer was swept."""
    share: float
    """Of the full network's time: in the layers that were swept, or share their staircase."""

    @property
    def measured(self) -> bool:
        return bool(self.waste)

    @property
    def multiple(self) -> int:
        """The smallest one whose waste is within 2 points of the least; 1 where there are no steps, or none known."""
        return 1 if self.noisy else smallest_good(self.waste)

    @property
    def noisy(self) -> bool:
        """Even the best multiple is far above the envelope: the machine made these steps, and not the layers."""
        return min(self.waste.values(), default=0.0) > _NOISE

    @property
    def text(self) -> str:
        """``8``, ``none`` (no steps), ``too noisy`` or ``not measured``."""
        if not self.measured or self.noisy:
            return "too noisy" if self.noisy else "not measured"
        return "none" if self.multiple == 1 else str(self.multiple)


def overall_advice(table: LatencyTable) -> Advice:
    """Over all layers of the network."""
    return _advice(table, list(_steps(table)))


def advice_by_group(table: LatencyTable) -> dict[str, Advice]:
    """For each group of the table, in its order."""
    found: dict[str, list[tuple[Segment, float, Staircase]]] = {name: [] for name in table.groups}
    for segment, time, steps in _steps(table):
        for name in _groups_of(segment, steps.side, table):
            found[name].append((segment, time, steps))
    return {name: _advice(table, own) for name, own in found.items()}


def layer_kind(segment: Segment, full: Mapping[str, int]) -> LayerKind:
    """Equal for layers that take equally long: signature and both full sizes. ``full``: group -> units."""
    sides = (segment.first, segment.second)
    one, two = (axis.constant + sum(count * full[name] for name, count in axis.positions.items()) for axis in sides)
    return segment.signature, one, two


def varied_sides(segment: Segment) -> tuple[str, ...]:
    """``in`` and ``out`` where a group decides the number of channels there."""
    return tuple(side for side, axis in (("in", segment.first), ("out", segment.second)) if axis.positions)


def _steps(table: LatencyTable) -> Iterator[tuple[Segment, float, Staircase]]:
    """Each layer with its time in the full network and each staircase that holds for it."""
    full = {name: shape.channels // shape.unit for name, shape in table.groups.items()}
    layers = {segment.name: segment for segment in table.segments}
    swept: dict[LayerKind, list[Staircase]] = {}
    for steps in table.staircases:
        if steps.layer in layers:
            swept.setdefault(layer_kind(layers[steps.layer], full), []).append(steps)
    for segment, time in zip(table.segments, table.times_ms[0], strict=True):
        for steps in swept.get(layer_kind(segment, full), ()):
            yield segment, float(time), steps


def _groups_of(segment: Segment, side: str, table: LatencyTable) -> Iterator[str]:
    """Groups whose width is a number of channels there; flattened ones, of which a channel makes many, are not."""
    axis = segment.second if side == "out" else segment.first
    for name, positions in axis.positions.items():
        if positions == table.groups[name].unit:
            yield name


def _advice(table: LatencyTable, steps: list[tuple[Segment, float, Staircase]]) -> Advice:
    total = float(table.times_ms[0].sum())
    share = sum({segment.name: time for segment, time, _ in steps}.values()) / total if total else 0.0
    usable = [(time, item.wastes) for _, time, item in steps if item.wastes]
    weight = sum(time for time, _ in usable)
    if not weight:
        return Advice({}, share)
    waste = {
        multiple: sum(time * wastes[max(one for one in wastes if one <= multiple)] for time, wastes in usable) / weight
        for multiple in MULTIPLES
        if any(multiple in wastes for _, wastes in usable)
    }
    return Advice(waste, share)
