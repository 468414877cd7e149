"""Modules that cannot be cut whatever their graph: said by name and reason before anything is tried."""

from __future__ import annotations

import torch
from torch import nn

from autoprune.errors import ConfigError

__all__ = ["require_suitable"]


def require_suitable(model: nn.Module) -> None:
    """Raises ConfigError that names the module and the reason: TorchScript, compiled, quantised, or old weight norm."""
    for name, module in model.named_modules():
        reason, hint = _obstacle(module)
        if reason:
            where = f"module {name!r} ({type(module).__name__})" if name else type(module).__name__
            raise ConfigError(f"{where} {reason}.", hint)


def _obstacle(module: nn.Module) -> tuple[str, str]:
    """(why, what to do), or empty."""
    if isinstance(module, torch.jit.ScriptModule):
        return "is TorchScript, whose layers cannot be cut", "Give the Python module that it was made from."
    if hasattr(module, "_orig_mod"):
        return "is wrapped by torch.compile", "Give the module inside: model._orig_mod."
    if "quantized" in type(module).__module__:
        return (
            "is quantised, and its packed weights cannot be cut",
            "Prune the floating point model, then quantise the pruned one.",
        )
    if any(type(hook).__name__ == "WeightNorm" for hook in module._forward_pre_hooks.values()):
        return (
            "has torch.nn.utils.weight_norm, which computes its weight in a hook and cannot be copied",
            "Call torch.nn.utils.remove_weight_norm on it, or use torch.nn.utils.parametrizations.weight_norm.",
        )
    return "", ""
