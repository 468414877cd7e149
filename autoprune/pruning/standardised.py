"""Convolutions that standardise their filters (NFNets, BiT): pruned with the filters of the full network.

Weight standardisation (Qiao et al. 2019; scaled by Brock et al., "Characterizing signal propagation to close the
performance gap in unnormalized ResNets", ICLR 2021) gives each filter mean 0 and variance 1 over the channels that it
reads, so fewer channels would change what is left of it. A slice that reads fewer channels therefore holds the filters
as they were standardised at full width, and standardises no more: a plain convolution from then on.
"""

from __future__ import annotations

import importlib
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

__all__ = ["StandardisedConv2d", "effective_weights", "is_standardising", "keep_standardised", "standardised"]

_KINDS = ("StdConv2d", "StdConv2dSame", "ScaledStdConv2d", "ScaledStdConv2dSame")


class StandardisedConv2d(nn.Conv2d):
    """One of timm's standardising convolutions whose ``weight`` is standardised already; the gain stays apart."""

    def forward(self, images: Tensor) -> Tensor:
        """(N, channels, height, width) -> the same, as the class that it was would on standardised filters."""
        if getattr(self, "same_pad", False):
            pad_same = importlib.import_module("timm.layers").pad_same
            images = pad_same(images, self.kernel_size, self.stride, self.dilation)
        weight = _with_gain(self, self.weight)
        return F.conv2d(images, weight, self.bias, self.stride, self.padding, self.dilation, self.groups)


def is_standardising(module: nn.Module) -> bool:
    """Whether it standardises its weight whenever it runs."""
    return type(module).__name__ in _KINDS and type(module).__module__ == "timm.layers.std_conv"


def standardised(module: nn.Module) -> nn.Parameter:
    """The weight of a standardising convolution, each filter with mean 0 and variance 1 (without its gain)."""
    weight: Any = module.weight
    with torch.no_grad():
        rows = weight.detach().reshape(1, len(weight), -1)
        values = F.batch_norm(rows, None, None, training=True, momentum=0.0, eps=module.eps)  # type: ignore[arg-type]
    return nn.Parameter(values.reshape_as(weight), weight.requires_grad)


def keep_standardised(model: nn.Module) -> bool:
    """Standardise all filters of the model now, in place, and never again. False: it has no such convolutions."""
    found = list(filter(is_standardising, model.modules()))
    for module in found:
        module.weight = standardised(module)
        module.__class__ = StandardisedConv2d
    return bool(found)


def effective_weights(model: nn.Module) -> dict[str, Tensor]:
    """The filters that standardising convolutions multiply with, by the names of their weights."""
    with torch.no_grad():
        return {
            f"{name}.weight": _with_gain(module, standardised(module))
            for name, module in model.named_modules(remove_duplicate=False)
            if is_standardising(module)
        }


def _with_gain(module: nn.Module, weight: Tensor) -> Tensor:
    gain, scale = getattr(module, "gain", None), getattr(module, "scale", 1.0)
    return weight if gain is None else weight * (gain * scale)
