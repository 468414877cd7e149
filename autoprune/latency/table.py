"""The latency table of a space on a device: what was measured, and what it predicts for any candidate.

The predicted latency is ``intercept + scale * (sum of layers + between * sum of what runs between them)``; the time of
each is a surface over two sizes. The coefficients are fitted on whole networks that were timed without borders;
``between`` is 1 but for compiled networks, whose layers stay and whose glue is fused. numpy only.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from autoprune.cost.table import CostTable
from autoprune.errors import ConfigError
from autoprune.latency.layout import Segment
from autoprune.latency.settings import LatencySettings
from autoprune.latency.staircase import Staircase
from autoprune.latency.surface import Surface

__all__ = ["GroupShape", "LatencyTable", "Timed", "architecture_digest", "group_shapes"]


@dataclass(frozen=True)
class GroupShape:
    """What a table remembers of a group, to recognise it."""

    channels: int
    unit: int
    cuts: tuple[tuple[str, int, int], ...]
    """(parameter, dim, positions), sorted."""


@dataclass(frozen=True, eq=False)
class Timed:
    """Whole networks: widths (N, G) in the order of the table's groups, measured and predicted times (N,) in ms."""

    widths: np.ndarray
    measured_ms: np.ndarray
    predicted_ms: np.ndarray

    @property
    def errors(self) -> np.ndarray:
        """Relative, absolute: (N,)."""
        return np.asarray(np.abs(self.predicted_ms / self.measured_ms - 1.0))


@dataclass(frozen=True, eq=False)
class LatencyTable:
    """Made by :func:`autoprune.latency.build.build_table`; a file by :mod:`autoprune.latency.files`."""

    name: str
    """What was timed, as the user named it."""
    device: str
    settings: LatencySettings
    made: str
    """Date and time, ISO 8601, UTC."""
    architecture: str
    """Digest of the layers, whatever the groups."""
    groups: Mapping[str, GroupShape]
    segments: tuple[Segment, ...]
    widths: np.ndarray
    """(N, G) int64: networks that were timed by segment."""
    times_ms: np.ndarray
    """(N, S) float64."""
    fitted: Timed
    """Networks that ``intercept`` and ``scale`` were fitted on."""
    held_out: Timed
    """Networks that nothing was fitted on."""
    intercept: float = 0.0
    scale: float = 1.0
    between: float = 1.0
    staircases: tuple[Staircase, ...] = ()
    """Of the layers that take most of the time."""
    _surfaces: dict[str, Surface] = field(default_factory=dict, repr=False)

    @property
    def median_error(self) -> float:
        """Of the networks held out, relative."""
        return float(np.median(self.held_out.errors))

    @property
    def p90_error(self) -> float:
        return float(np.percentile(self.held_out.errors, 90))

    @property
    def digest(self) -> str:
        """16 hexadecimal digits over what decides the predictions."""
        content = [self.architecture, [str(segment) for segment in self.segments], self.widths.tolist()]
        content += [self.times_ms.tolist(), self.intercept, self.scale]
        content += [] if self.between == 1.0 else [self.between]
        return hashlib.sha256(json.dumps(content).encode()).hexdigest()[:16]

    def surface(self, signature: str) -> Surface:
        """Fitted on all segments of that signature, on first use."""
        if signature not in self._surfaces:
            own = [number for number, segment in enumerate(self.segments) if segment.signature == signature]
            points = np.concatenate([self.sizes(self.segments[number]) for number in own])
            self._surfaces[signature] = Surface.fit(points, np.concatenate([self.times_ms[:, n] for n in own]))
        return self._surfaces[signature]

    def sizes(self, segment: Segment) -> np.ndarray:
        """Its two sizes in the networks that were timed: (N, 2) int64."""
        units = {name: self.widths[:, column] // shape.unit for column, (name, shape) in enumerate(self.groups.items())}
        return np.stack([axis.sizes(units, len(self.widths)) for axis in (segment.first, segment.second)], axis=1)

    def check(self, cost: CostTable) -> None:
        """Raises ConfigError, saying what differs, unless the table was made for the network of ``cost``.

        The groups that ``cost`` does not search stay full; every one that it does must have been varied.
        """
        if architecture_digest(cost) != self.architecture:
            raise _other(self, "its layers or the size of its input differ")
        for name, shape in group_shapes(cost).items():
            if name not in self.groups:
                raise _other(self, f"group {name!r} was not varied")
            if shape != self.groups[name]:
                raise _other(self, f"group {name!r} consists of other channels")


def _other(table: LatencyTable, why: str) -> ConfigError:
    return ConfigError(
        f"the latency table is for another space ({table.name}): {why}.",
        "Make one for this space with 'autoprune latency-table SPACE --out FILE'.",
    )


def architecture_digest(cost: CostTable) -> str:
    """Of parameters, their shapes, and how often they are applied."""
    terms = [[term.parameter, list(term.shape), term.applications] for term in cost.terms]
    return hashlib.sha256(json.dumps(terms).encode()).hexdigest()[:16]


def group_shapes(cost: CostTable) -> dict[str, GroupShape]:
    """The groups of a cost table, in its order."""
    cuts: Sequence[list[tuple[str, int, int]]] = [[] for _ in cost.groups]
    for term in cost.terms:
        for cut in term.cuts:
            cuts[cut.group].append((term.parameter, cut.dim, cut.positions))
    shapes = zip(cost.groups, cost.channels, cost.unit, cuts, strict=True)
    return {name: GroupShape(int(full), int(unit), tuple(sorted(own))) for name, full, unit, own in shapes}
