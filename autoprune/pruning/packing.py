"""Models of several inputs seen as models of one: the arguments travel in one flat tensor.

What discovers and counts then knows of one input only.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn

from autoprune.types import ChannelGroup

__all__ = ["Packed", "plain", "unprefixed"]

_PREFIX = "model."


class Packed(nn.Module):
    """Calls ``model`` with the parts of one tensor (N, sum of the arguments' elements in one row).

    Arguments that are not floating point (indices, masks) are not packed; those of the example are passed.
    """

    def __init__(self, model: nn.Module, example: Sequence[Tensor]) -> None:
        super().__init__()
        self.model = model
        self._shapes = [tuple(argument.shape[1:]) if argument.is_floating_point() else None for argument in example]
        self._constants = [argument[:1] for argument in example]

    @staticmethod
    def pack(example: Sequence[Tensor]) -> Tensor:
        """The floating point arguments, batch first, as one tensor (N, elements)."""
        return torch.cat([argument.flatten(1) for argument in example if argument.is_floating_point()], 1)

    def forward(self, packed: Tensor) -> object:
        sizes = [torch.Size(shape).numel() for shape in self._shapes if shape is not None]
        parts = iter(packed.split(sizes, 1))
        rows = len(packed)
        return self.model(
            *(
                constant.expand(rows, *constant.shape[1:]) if shape is None else next(parts).reshape(rows, *shape)
                for shape, constant in zip(self._shapes, self._constants, strict=True)
            )
        )


def plain(name: str) -> str:
    """A name inside a packed model as one of the model itself."""
    return name.removeprefix(_PREFIX)


def unprefixed(group: ChannelGroup) -> ChannelGroup:
    """A group of a packed model as one of the model itself."""
    members = tuple(replace(member, parameter=plain(member.parameter)) for member in group.members)
    return replace(group, name=plain(group.name), members=members)
