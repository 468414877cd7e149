"""The segments of a forward pass: every microsecond belongs to one of them.

A border is where a convolution or linear layer starts or ends, so a segment is either such a layer or what runs between
two of them (normalisation, activation, additions, pooling), and the segments add up to the whole network.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

__all__ = ["Axis", "Segment"]


@dataclass(frozen=True)
class Axis:
    """A number of channels: ``constant + sum_g positions_g * units_g``."""

    constant: int = 0
    positions: Mapping[str, int] = field(default_factory=dict)
    """Group -> channels of this tensor per unit kept."""

    def sizes(self, units: Mapping[str, np.ndarray], count: int) -> np.ndarray:
        """Units kept, group -> (N,) -> sizes (N,) int64; ``count`` is N."""
        sizes = np.full(count, self.constant, dtype=np.int64)
        for group, positions in self.positions.items():
            sizes += positions * units[group]
        return sizes


@dataclass(frozen=True)
class Segment:
    """Its time is a function of two sizes; segments of equal ``signature`` share that function."""

    name: str
    """``layer1.0.conv1``, or ``layer1.0.conv1 -> layer1.0.conv2`` for what runs between."""
    signature: str
    first: Axis
    """Channels that come in."""
    second: Axis
    """Channels that go out."""

    @property
    def is_layer(self) -> bool:
        """A convolution or linear layer, and not what runs between two of them."""
        return " -> " not in self.name
