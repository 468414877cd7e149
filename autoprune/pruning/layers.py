"""What is known about each type of layer: where a channel sits in its tensors, and its sizes after slicing.

A channel of a layer is addressed on one of its two sides, ``in`` or ``out``; layers that hand channels through
(BatchNorm, depthwise convolutions) have one side only.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd
from torch.nn.modules.instancenorm import _InstanceNorm

__all__ = ["Cut", "coupling", "cuts", "depth_multiplier", "resize", "side_size", "unsupported"]

_NORM_TENSORS = ("weight", "bias", "running_mean", "running_var")


@dataclass(frozen=True, eq=False)
class Cut:
    """``positions[i]``, along ``dim`` of the tensor ``attribute``, belongs to the i-th of the channels asked for."""

    attribute: str
    dim: int
    positions: np.ndarray
    role: str = "through"


def unsupported(module: nn.Module) -> str | None:
    """Why channels that reach this layer cannot be cut; None when they can."""
    if isinstance(module, nn.LayerNorm | nn.LocalResponseNorm):
        return "normalises across channels"
    if isinstance(module, nn.MultiheadAttention | nn.RNNBase | nn.Embedding):
        return "is not supported"
    if isinstance(module, _ConvNd) and 1 < module.groups == module.out_channels < module.in_channels:
        return "merges several channels in each of its groups"
    return None


def depth_multiplier(module: nn.Module) -> int:
    """Output channels per input channel of a depthwise convolution; 0 for every other layer."""
    if isinstance(module, _ConvNd) and module.groups == module.in_channels > 1:
        return module.out_channels // module.in_channels
    return 0


def side_size(module: nn.Module, side: str) -> int | None:
    """Number of channels on that side; None when the layer has no channel axis of its own."""
    if isinstance(module, _ConvNd):
        return module.in_channels if side == "in" and depth_multiplier(module) != 1 else module.out_channels
    if isinstance(module, nn.Linear):
        return module.in_features if side == "in" else module.out_features
    if isinstance(module, _BatchNorm | _InstanceNorm):
        return module.num_features
    if isinstance(module, nn.GroupNorm):
        return module.num_channels
    if isinstance(module, nn.PReLU) and module.num_parameters > 1:
        return module.num_parameters
    return None


def coupling(module: nn.Module, side: str, channels: np.ndarray) -> np.ndarray | None:
    """One key a channel: channels with equal keys must leave together. None: no such rule.

    A grouped convolution needs as many channels in each of its groups, so the same place in every group is cut.
    GroupNorm keeps its statistics only when whole groups leave.
    """
    if isinstance(module, _ConvNd) and module.groups > 1 and not depth_multiplier(module):
        size = module.in_channels if side == "in" else module.out_channels
        return channels % (size // module.groups)
    if isinstance(module, nn.GroupNorm):
        return channels // (module.num_channels // module.num_groups)
    return None


def cuts(module: nn.Module, side: str, channels: np.ndarray) -> list[Cut]:
    """Where ``channels`` (int64, any shape (n,)) sit in the layer's tensors."""
    if isinstance(module, _ConvNd):
        return _conv_cuts(module, side, channels)
    if isinstance(module, nn.Linear):
        if side == "in":
            return [Cut("weight", 1, channels, "consumer")]
        return [Cut("weight", 0, channels, "producer"), *_present(module, ("bias",), channels)]
    if isinstance(module, _BatchNorm | _InstanceNorm | nn.GroupNorm):
        return _present(module, _NORM_TENSORS, channels)
    if isinstance(module, nn.PReLU) and module.num_parameters > 1:
        return [Cut("weight", 0, channels)]
    return []


def _conv_cuts(module: _ConvNd, side: str, channels: np.ndarray) -> list[Cut]:
    if depth_multiplier(module):  # the filters are addressed by output channel, whichever side was reached
        if side == "in" and depth_multiplier(module) > 1:
            return []
        if module.transposed and depth_multiplier(module) > 1:
            weight = Cut("weight", 0, channels // depth_multiplier(module))
        else:
            weight = Cut("weight", 0, channels)
        return [weight, *_present(module, ("bias",), channels)]
    out_dim, in_dim = (1, 0) if module.transposed else (0, 1)
    dim = in_dim if side == "in" else out_dim
    size = module.in_channels if side == "in" else module.out_channels
    local = channels % (size // module.groups) if dim == 1 else channels  # dim 1 counts within a group
    if side == "in":
        return [Cut("weight", dim, local, "consumer")]
    return [Cut("weight", dim, local, "producer"), *_present(module, ("bias",), channels)]


def _present(module: nn.Module, attributes: tuple[str, ...], channels: np.ndarray) -> list[Cut]:
    return [Cut(name, 0, channels) for name in attributes if getattr(module, name, None) is not None]


def resize(module: nn.Module) -> None:
    """Set the layer's size attributes from its (sliced) tensors."""
    if isinstance(module, _ConvNd):
        _resize_conv(module)
    elif isinstance(module, nn.Linear):
        module.out_features, module.in_features = module.weight.shape
    elif isinstance(module, _BatchNorm | _InstanceNorm):
        tensors = [getattr(module, name) for name in _NORM_TENSORS]
        module.num_features = next((len(tensor) for tensor in tensors if tensor is not None), module.num_features)
    elif isinstance(module, nn.GroupNorm):
        module.num_groups = len(module.weight) * module.num_groups // module.num_channels
        module.num_channels = len(module.weight)
    elif isinstance(module, nn.PReLU):
        module.num_parameters = len(module.weight)


def _resize_conv(module: _ConvNd) -> None:
    first, second = module.weight.shape[:2]
    multiplier = depth_multiplier(module)
    if multiplier:
        module.in_channels = first if module.transposed else first // multiplier
        module.groups, module.out_channels = module.in_channels, module.in_channels * multiplier
    elif module.transposed:
        module.in_channels, module.out_channels = first, second * module.groups
    else:
        module.in_channels, module.out_channels = second * module.groups, first
