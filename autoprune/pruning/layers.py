"""The sizes that layers keep beside their tensors, set anew after slicing."""

from __future__ import annotations

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd
from torch.nn.modules.instancenorm import _InstanceNorm

from autoprune.pruning.attention import head_shape, set_head_count
from autoprune.pruning.standardised import StandardisedConv2d, is_standardising

__all__ = ["resize"]

_NORM_TENSORS = ("weight", "bias", "running_mean", "running_var")


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
    elif head_shape(module):
        set_head_count(module)
    elif type(module).__name__ == "BlurPool2d" and module._buffers.get("filt") is not None:  # timm's
        module.channels = len(module._buffers["filt"])  # type: ignore[assignment, arg-type]


def _resize_conv(module: _ConvNd) -> None:
    first, second = module.weight.shape[:2]
    if is_standardising(module) and second * module.groups != module.in_channels:
        module.__class__ = StandardisedConv2d
    multiplier = _filters_per_channel(module)
    if multiplier:
        module.in_channels = first if module.transposed else first // multiplier
        module.groups, module.out_channels = module.in_channels, module.in_channels * multiplier
    elif module.transposed:
        module.in_channels, module.out_channels = first, second * module.groups
    else:
        module.in_channels, module.out_channels = second * module.groups, first


def _filters_per_channel(module: _ConvNd) -> int:
    """Of a depthwise convolution; 0 for every other."""
    return module.out_channels // module.in_channels if module.groups == module.in_channels > 1 else 0
