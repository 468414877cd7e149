"""A network that gets smaller round by round and knows which of the base model's units it still has."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from torch import nn

from autoprune.pruning.slicing import slice_model
from autoprune.types import ChannelGroup

__all__ = ["Standing", "narrowed"]


@dataclass(frozen=True, eq=False)
class Standing:
    """The network as it stands after some rounds."""

    module: nn.Module
    groups: tuple[ChannelGroup, ...]
    """Of ``module``: fewer channels and other positions than in the base model, under the same names."""
    kept: Mapping[str, np.ndarray]
    """Group -> the units of the base model that are left, ascending: (units,) int64."""

    @classmethod
    def begin(cls, module: nn.Module, groups: Sequence[ChannelGroup]) -> Standing:
        """At full width; ``module`` itself is what later rounds train."""
        return cls(module, tuple(groups), {group.name: np.arange(group.units) for group in groups})

    def cut(self, keep: Mapping[str, np.ndarray]) -> Standing:
        """Without the other units: ``keep`` has units of this network, ascending; unnamed groups stay as they are.

        The smaller module shares nothing with this one. Raises ConfigError as ``slice_model`` does.
        """
        module = slice_model(self.module, self.groups, keep)
        kept = {name: units[keep[name]] if name in keep else units for name, units in self.kept.items()}
        sizes = {name: tuple(tensor.shape) for name, tensor in self.module.state_dict(keep_vars=True).items()}
        return Standing(module, narrowed(self.groups, keep, sizes), kept)

    @property
    def widths(self) -> dict[str, int]:
        """Channels of each group."""
        return {group.name: group.channels for group in self.groups}


def narrowed(
    groups: Sequence[ChannelGroup], keep: Mapping[str, np.ndarray], sizes: Mapping[str, Sequence[int]]
) -> tuple[ChannelGroup, ...]:
    """The groups of the sliced network: the same members, counted in its own positions.

    ``sizes``: shapes of the tensors before the cut. A position moves down by as many as were removed before it.
    """
    stays: dict[tuple[str, int], np.ndarray] = {}
    for group in groups:
        for member in group.members:
            place = (member.parameter, member.dim)
            mask = stays.setdefault(place, np.ones(sizes[member.parameter][member.dim], dtype=bool))
            if group.name in keep:
                gone = np.setdiff1d(np.arange(group.units), keep[group.name])
                mask[member.index[gone]] = False
    moved = {place: np.cumsum(mask) - 1 for place, mask in stays.items()}
    return tuple(_narrowed(group, keep.get(group.name), moved) for group in groups)


def _narrowed(
    group: ChannelGroup, units: np.ndarray | None, moved: Mapping[tuple[str, int], np.ndarray]
) -> ChannelGroup:
    kept = np.arange(group.units) if units is None else units
    members = tuple(
        replace(member, index=moved[member.parameter, member.dim][member.index[kept]]) for member in group.members
    )
    return replace(group, channels=len(kept) * group.unit, members=members)
