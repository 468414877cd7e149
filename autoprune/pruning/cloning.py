"""Copying a module tree quickly: what ``copy.deepcopy`` gives, without its walk through every empty hook dictionary."""

from __future__ import annotations

import copy
import types
from typing import Any

import torch
from torch import Tensor, nn

__all__ = ["clone"]

_ATOMS = frozenset(
    {int, float, complex, str, bytes, bool, type(None), type, torch.dtype, torch.device, torch.Size}
    | {types.FunctionType, types.BuiltinFunctionType}
)
_OWN_FIELDS = frozenset(nn.Module().__dict__)
_CUSTOM = ("__deepcopy__", "__getstate__", "__reduce__", "__reduce_ex__", "__setstate__")


def clone(module: nn.Module, memo: dict[int, Any] | None = None) -> Any:
    """A deep copy; ``memo`` maps ``id(object)`` to what stands for it in the copy, and is filled in.

    Modules whose class says how it wants to be copied are left to ``copy.deepcopy``.
    """
    memo = {} if memo is None else memo
    if id(module) in memo:
        return memo[id(module)]
    kind = type(module)
    if _copies_itself(kind):
        return copy.deepcopy(module, memo)
    new = kind.__new__(kind)
    memo[id(module)] = new
    fields = new.__dict__
    for name, value in module.__dict__.items():
        if name in _OWN_FIELDS and isinstance(value, dict):
            same_kind = type(value)  # most are hook dictionaries, and empty
            fields[name] = (
                same_kind((key, _registered(item, memo)) for key, item in value.items()) if value else same_kind()
            )
        else:
            fields[name] = _value(value, memo)
    return new


def _copies_itself(kind: type[nn.Module]) -> bool:
    for name in _CUSTOM:
        method = getattr(kind, name, None)
        if method is not getattr(nn.Module, name, None):
            # torch's own __setstate__ methods only read old pickles; its recurrent layers have __getstate__ as well.
            if name == "__setstate__" and kind.__module__.startswith("torch.nn."):
                continue
            return True
    return False


def _value(value: Any, memo: dict[int, Any]) -> Any:
    kind = type(value)
    if kind in _ATOMS or (kind is tuple and all(type(item) in _ATOMS for item in value)):
        return value
    if kind is set and not value and id(value) not in memo:  # every module has one, for its non-persistent buffers
        return memo.setdefault(id(value), set())
    if id(value) in memo:
        return memo[id(value)]
    if isinstance(value, nn.Module):
        return clone(value, memo)
    return copy.deepcopy(value, memo)


def _registered(value: Any, memo: dict[int, Any]) -> Any:
    """A parameter, buffer, submodule or hook. Plain tensors skip deepcopy, which is slow on them."""
    kind = type(value)
    if kind in (Tensor, nn.Parameter) and id(value) not in memo and _owns_storage(value):
        data = value.detach().clone()
        memo[id(value)] = nn.Parameter(data, value.requires_grad) if kind is nn.Parameter else data
    return _value(value, memo)


def _owns_storage(tensor: Tensor) -> bool:
    """A leaf that fills its storage; deepcopy keeps views of one storage together, and complains of non-leaves."""
    if not tensor.is_leaf or tensor.layout is not torch.strided or tensor.device.type == "meta":
        return False
    if tensor.requires_grad and not isinstance(tensor, nn.Parameter):
        return False
    return tensor.untyped_storage().nbytes() == tensor.numel() * tensor.element_size()
