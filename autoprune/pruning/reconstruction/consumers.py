"""The layers whose weights can be fitted anew: those that read channels which a candidate may cut."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from torch import nn
from torch.nn.modules.conv import _ConvNd

from autoprune.types import ChannelGroup

__all__ = ["MOST_UNKNOWNS", "Consumer", "find_consumers", "kernel_size"]

MOST_UNKNOWNS = 4608
"""Weights of one filter up to which a layer is fitted (512 channels of 3 x 3). Its second moments are the square of
that, 85 MB in float32, and a solve is of the third power: one to two seconds of a core at this size."""

_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)


@dataclass(frozen=True, eq=False)
class Consumer:
    """A convolution (dense or grouped) or linear layer, and what cuts its weight (outputs, inputs of a group, ...)."""

    name: str
    groups: int
    inputs: int
    """Channels that one filter reads."""
    outputs: int
    cuts: Mapping[int, tuple[tuple[str, np.ndarray], ...]]
    """Dimension of the weight -> (name of the group, its positions (units, positions per unit))."""

    def kept(self, keep: Mapping[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
        """Positions that stay, ascending: (filters, channels that one of them reads); ``keep`` as for slicing."""
        return self._kept(0, self.outputs, keep), self._kept(1, self.inputs, keep)

    def _kept(self, dim: int, size: int, keep: Mapping[str, np.ndarray]) -> np.ndarray:
        mask = np.ones(size, dtype=bool)
        for group, index in self.cuts.get(dim, ()):
            if group in keep:
                mask[index] = False
                mask[index[keep[group]]] = True
        return np.flatnonzero(mask)


def find_consumers(model: nn.Module, groups: Sequence[ChannelGroup]) -> tuple[tuple[Consumer, ...], dict[str, str]]:
    """The layers that can be fitted, in the order of the model's modules, and why the other readers cannot: name ->
    reason."""
    readers = {
        member.parameter.rpartition(".")[0] for group in groups for member in group.members if member.role == "consumer"
    }
    cuts: dict[str, dict[int, list[tuple[str, np.ndarray]]]] = {}
    for group in groups:
        for member in group.members:
            cuts.setdefault(member.parameter, {}).setdefault(member.dim, []).append((group.name, member.index))
    uses = Counter(id(tensor) for _, tensor in model.named_parameters(remove_duplicate=False))
    found, skipped = [], {}
    for name, module in model.named_modules():
        if name not in readers:
            continue
        reason = _obstacle(module, uses)
        if reason:
            skipped[name] = reason
            continue
        weight: nn.Parameter = module.weight
        own = {dim: tuple(parts) for dim, parts in cuts[f"{name}.weight"].items()}
        found.append(Consumer(name, getattr(module, "groups", 1), weight.shape[1], weight.shape[0], own))
    return tuple(found), skipped


def kernel_size(module: nn.Module) -> tuple[int, ...]:
    """One number for each spatial dimension; none for a linear layer."""
    return tuple(module.kernel_size) if isinstance(module, _ConvNd) else ()


def _obstacle(module: nn.Module, uses: Mapping[int, int]) -> str:
    """Why its weight cannot be fitted, or nothing."""
    kind = type(module)
    convolves = isinstance(module, _CONVOLUTIONS)
    plain = convolves and kind.forward in {known.forward for known in _CONVOLUTIONS}
    if not plain and not (isinstance(module, nn.Linear) and kind.forward is nn.Linear.forward):
        return f"{kind.__name__} is no plain convolution or linear layer"
    weight = module._parameters.get("weight")
    if weight is None or weight.ndim != 2 + len(kernel_size(module)):
        return "its weight is computed from other tensors"
    if uses[id(weight)] > 1:
        return "it shares its weight with another layer"
    unknowns = weight[0].numel()
    if unknowns > MOST_UNKNOWNS:
        return f"its filters have {unknowns} weights, more than {MOST_UNKNOWNS}"
    return ""
