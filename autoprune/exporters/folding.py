"""BatchNorm folded into the layer before it, in float64.

In eval mode ``norm(conv(x)) = (W * s) x + (b - mean) * s + beta`` with ``s = gamma / sqrt(var + eps)`` per output
channel.
"""

from __future__ import annotations

import copy
import warnings
from collections import Counter
from collections.abc import Iterator

import torch
from torch import Tensor, fx, nn
from torch.nn.modules.batchnorm import _BatchNorm

from autoprune.errors import ConfigError, ExportMismatch
from autoprune.exporters.verify import Inputs, tensors

__all__ = ["fold_batchnorm"]

_PLAIN = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.Linear)
_TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
_TOLERANCE = 1e-9


def fold_batchnorm(module: nn.Module, example: Inputs) -> tuple[nn.Module, int]:
    """A copy of ``module`` (eval mode) with BatchNorms folded into the convolution or linear layer before them, where
    nothing else reads what lies between; and how many. The others stay.

    Raises ConfigError when the model's graph cannot be traced, ExportMismatch when the folded copy differs from the
    model by more than 1e-9 (relative, float64) on ``example``.
    """
    wide = copy.deepcopy(module).eval().double()
    sample = tuple(tensor.double() if tensor.is_floating_point() else tensor for tensor in example)
    with torch.no_grad():
        expected = tensors(wide(*sample))
        pairs = list(_pairs(wide))
        for layer, norm in pairs:
            _fold(wide.get_submodule(layer), wide.get_submodule(norm))
            parent, _, name = norm.rpartition(".")
            setattr(wide.get_submodule(parent), name, nn.Identity())
        got = tensors(wide(*sample))
    worst = max(
        float((one - other).abs().max() / one.abs().max().clamp_min(1e-12))
        for one, other in zip(expected, got, strict=True)
    )
    if not worst <= _TOLERANCE:
        raise ExportMismatch(
            f"folding {len(pairs)} BatchNorms changes the outputs by {worst:.3g} (relative, float64); at most "
            f"{_TOLERANCE:g} is expected.",
            "Nothing was written. Export without --fold-bn.",
        )
    return _like(wide, module), len(pairs)


def _pairs(module: nn.Module) -> Iterator[tuple[str, str]]:
    """(layer, BatchNorm) names, each module called once and the layer's output read by the BatchNorm alone."""
    graph = _traced(module)
    modules = dict(module.named_modules())
    calls = [node for node in graph.nodes if node.op == "call_module"]
    times = Counter(id(modules[str(node.target)]) for node in calls)
    for node in calls:
        before = node.args[0] if node.args else None
        if type(modules[str(node.target)]) not in _NORMS or not isinstance(before, fx.Node):
            continue
        if before.op != "call_module" or len(before.users) != 1:
            continue
        layer, norm = modules[str(before.target)], modules[str(node.target)]
        if times[id(layer)] == times[id(norm)] == 1 and _foldable(layer, norm):
            yield str(before.target), str(node.target)


def _foldable(layer: nn.Module, norm: nn.Module) -> bool:
    """Plain layers with parameters of their own (no parametrisation, no hooks), and statistics that are tracked."""
    hooked = any(each._forward_hooks or each._forward_pre_hooks for each in (layer, norm))
    return (
        type(layer) in (*_PLAIN, *_TRANSPOSED)
        and isinstance(norm, _BatchNorm)
        and norm.running_mean is not None
        and "weight" in layer._parameters
        and not hooked
    )


def _traced(module: nn.Module) -> fx.Graph:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return fx.Tracer().trace(module)
    except Exception as error:  # noqa: BLE001  the model's own code runs on stand-ins for tensors
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
        raise ConfigError(
            f"BatchNorm cannot be folded: {type(module).__name__}.forward cannot be traced: {reason}",
            "Export without --fold-bn; onnxruntime folds most of them by itself.",
        ) from None


def _fold(layer: nn.Module, norm: nn.Module) -> None:
    weight, bias = layer._parameters["weight"], layer._parameters.get("bias")
    mean, variance = norm._buffers["running_mean"], norm._buffers["running_var"]
    assert weight is not None and mean is not None and variance is not None  # noqa: PT018  seen in _foldable
    scale = torch.rsqrt(variance + float(norm.eps))  # type: ignore[arg-type]
    gamma, beta = norm._parameters.get("weight"), norm._parameters.get("bias")
    scale = scale if gamma is None else scale * gamma
    shift = ((0 if bias is None else bias) - mean) * scale + (0 if beta is None else beta)
    weight.copy_(weight * _along(layer, weight, scale))
    layer.bias = nn.Parameter(shift, requires_grad=weight.requires_grad)


def _along(layer: nn.Module, weight: Tensor, scale: Tensor) -> Tensor:
    """``scale`` (output channels,) in a shape that multiplies the weight of its channels.

    A transposed convolution has shape (in, out / groups, ...): group g's inputs make the g-th part of the outputs.
    """
    rest = (1,) * (weight.ndim - 2)
    if not isinstance(layer, _TRANSPOSED):
        return scale.view(-1, 1, *rest)
    groups = layer.groups
    return scale.view(groups, 1, -1).expand(groups, weight.shape[0] // groups, -1).reshape(*weight.shape[:2], *rest)


def _like(wide: nn.Module, module: nn.Module) -> nn.Module:
    """Back to the floating point type of ``module``."""
    kinds = {tensor.dtype for tensor in module.parameters() if tensor.is_floating_point()}
    return wide.to(kinds.pop() if len(kinds) == 1 else torch.float32)
