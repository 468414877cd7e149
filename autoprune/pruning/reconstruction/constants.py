"""Where the constant part of a fit goes."""

from __future__ import annotations

from typing import Any, Literal

from torch import Tensor, nn

__all__ = ["Place", "add_constant", "place_of_constant"]

Place = Literal["bias", "norm", "absorbed", "nowhere"]


def place_of_constant(sliced: nn.Module, layer: str, norm: str, recalibrated: bool) -> Place:
    """``bias``: the layer's own. ``norm``: the running mean of the BatchNorm behind it. ``absorbed``: that BatchNorm's
    statistics are re-estimated, which takes any constant away. ``nowhere``: the fit goes without one."""
    if norm:
        return "absorbed" if recalibrated or _running_mean(sliced, norm) is None else "norm"
    return "bias" if sliced.get_submodule(layer).bias is not None else "nowhere"


def add_constant(sliced: nn.Module, layer: str, norm: str, place: Place, constant: Tensor) -> None:
    """Add ``constant`` (filters,) to what the layer gives, in place."""
    if place == "bias":
        bias: Any = sliced.get_submodule(layer).bias
        bias.add_(constant)
    elif place == "norm":
        _running_mean(sliced, norm).sub_(constant)


def _running_mean(sliced: nn.Module, norm: str) -> Any:
    return sliced.get_submodule(norm).running_mean
