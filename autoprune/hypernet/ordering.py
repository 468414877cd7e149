"""A network whose channels stand in the order of their importance, so that the first ones of a group are its best."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import nn

from autoprune.pruning.cloning import clone
from autoprune.types import ChannelGroup

__all__ = ["ordered"]


def ordered(model: nn.Module, groups: Sequence[ChannelGroup], ranking: Mapping[str, np.ndarray]) -> nn.Module:
    """A copy that computes what ``model`` does, with unit ``ranking[group][i]`` of each group as its unit ``i``."""
    copied: nn.Module = clone(model)
    tensors = {**dict(copied.named_parameters(remove_duplicate=False)), **dict(copied.named_buffers())}
    orders: dict[tuple[int, int], np.ndarray] = {}
    for group in groups:
        for member in group.members:
            tensor = tensors[member.parameter]
            order = orders.setdefault((id(tensor), member.dim), np.arange(tensor.shape[member.dim]))
            order[member.index.ravel()] = member.index[ranking[group.name]].ravel()
    named = {id(tensor): tensor for tensor in tensors.values()}
    with torch.no_grad():
        for (key, dim), order in orders.items():
            tensor = named[key]
            tensor.copy_(tensor.index_select(dim, torch.from_numpy(order).to(tensor.device)))
    return copied
