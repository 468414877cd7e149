"""Building the smaller network: a copy of the base in which every cut tensor is a slice of the original."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from autoprune.errors import ConfigError, did_you_mean
from autoprune.pruning.attention import head_shape
from autoprune.pruning.cloning import clone
from autoprune.pruning.layers import resize
from autoprune.pruning.recycling import RecycledMemory
from autoprune.pruning.standardised import is_standardising, standardised
from autoprune.types import ChannelGroup

__all__ = ["Slicer", "adopt_tensors", "slice_model"]

_NHWC = torch.channels_last
_RECYCLED_BYTES = 1 << 16
_BETWEEN = "between two cuts"

Replaced = Callable[[Tensor, Mapping[int, Tensor]], Tensor | None]
"""A parameter of the full model, and dimension -> ascending positions that stay (nothing where all do) -> the tensor
that takes its place; None: a copy of those positions."""


def slice_model(model: nn.Module, groups: Sequence[ChannelGroup], keep: Mapping[str, np.ndarray]) -> nn.Module:
    """The network with only the kept units; ``model`` is not touched and shares no storage with the result.

    ``keep`` gives, per group, the units to keep, ascending (shape (kept,), int); groups that it does not name stay
    full. dtype, device, ``requires_grad``, training mode and the order of channels stay. For many candidates of one
    model build a :class:`Slicer` once. Raises ConfigError for unknown groups, or units that are not ascending and
    within the group, or none.
    """
    return Slicer(model, groups)(keep)


def adopt_tensors(module: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Give ``module``, built at full width, the tensors of a sliced network's ``state_dict``, whatever their sizes.

    Layers take their sizes from the tensors; dtype and device become the state's; ``requires_grad`` stays. The tensors
    are not copied. Raises KeyError, saying which, when names are missing or left over.
    """
    owners = {name: _owner(module, name) for name in module.state_dict()}
    if owners.keys() != state.keys():
        missing, extra = sorted(owners.keys() - state.keys()), sorted(state.keys() - owners.keys())
        raise KeyError(f"the tensors do not belong to this model: missing {missing[:5]}, left over {extra[:5]}.")
    adopted: dict[int, Tensor] = {}
    for name, (layer, attribute) in owners.items():
        old = getattr(layer, attribute)
        if id(old) not in adopted:  # tied parameters stay tied
            new = state[name].detach()
            adopted[id(old)] = nn.Parameter(new, old.requires_grad) if isinstance(old, nn.Parameter) else new
        setattr(layer, attribute, adopted[id(old)])
    for layer in {id(layer): layer for layer, _ in owners.values()}.values():
        resize(layer)
    for attention in filter(head_shape, module.modules()):  # its sizes are those of the layers inside
        resize(attention)


def _owner(module: nn.Module, name: str) -> tuple[nn.Module, str]:
    path, _, attribute = name.rpartition(".")
    return module.get_submodule(path), attribute


@dataclass(frozen=True, eq=False)
class _Axis:
    """A pattern of cuts along one dimension, shared by all tensor dimensions that are cut alike."""

    size: int
    cuts: tuple[tuple[str, np.ndarray], ...]


@dataclass(frozen=True, eq=False)
class _Plan:
    module: nn.Module
    attribute: str
    dims: tuple[tuple[int, int], ...]
    """(dim, number of its axis)."""


class Slicer:
    """Slices one model again and again; keeps a reference to it, and sees changes of its weights.

    The memory of a slice that is gone serves the next one.
    """

    def __init__(self, model: nn.Module, groups: Sequence[ChannelGroup]) -> None:
        self.model = model
        self.groups = {group.name: group for group in groups}
        self._axes: list[_Axis] = []
        self._plans = self._plan(groups)
        self._attention = list(filter(head_shape, model.modules()))
        self._memory = RecycledMemory()

    def __call__(self, keep: Mapping[str, np.ndarray], replaced: Replaced | None = None) -> nn.Module:
        """See :func:`slice_model`; ``replaced`` may give what stands in the slice for a parameter."""
        dropped = {name: self._dropped(name, units) for name, units in keep.items()}
        kept = [_kept_positions(axis, dropped) for axis in self._axes]
        memo: dict[int, Any] = {}
        changed = []
        for plan in self._plans:
            tensor = getattr(plan.module, plan.attribute)
            selections = [(dim, positions) for dim, axis in plan.dims if (positions := kept[axis]) is not None]
            if selections and id(tensor) not in memo:
                given = replaced(tensor, dict(selections)) if replaced else None
                place = (id(plan.module), plan.attribute)
                source = standardised(plan.module) if _loses_inputs(plan, selections) else tensor
                memo[id(tensor)] = _select(source, selections, self._memory, place) if given is None else given
                changed.append(plan.module)
        for tensor in self.model.parameters() if replaced else ():
            if id(tensor) not in memo and (given := replaced(tensor, {})) is not None:  # type: ignore[misc]
                memo[id(tensor)] = given
        sliced: nn.Module = clone(self.model, memo)
        for module in {id(module): module for module in (*changed, *self._attention)}.values():
            resize(memo[id(module)])
        return sliced

    def _dropped(self, name: str, units: np.ndarray) -> np.ndarray:
        if name not in self.groups:
            raise ConfigError(f"the model has no group {name!r}.", did_you_mean(name, self.groups))
        count, units = self.groups[name].units, np.asarray(units)
        if not len(units) or units[0] < 0 or units[-1] >= count or (np.diff(units) <= 0).any():
            raise ConfigError(
                f"group {name!r}: units to keep must be ascending, within 0..{count - 1} and at least one, "
                f"got {units.tolist()[:8]}."
            )
        mask = np.ones(count, dtype=bool)
        mask[units] = False
        return np.flatnonzero(mask)

    def _plan(self, groups: Sequence[ChannelGroup]) -> list[_Plan]:
        cuts: dict[tuple[str, int], list[tuple[str, np.ndarray]]] = {}
        for group in groups:
            for member in group.members:
                cuts.setdefault((member.parameter, member.dim), []).append((group.name, member.index))
        numbers: dict[tuple[object, ...], int] = {}
        dims: dict[str, list[tuple[int, int]]] = {}
        owners = _owners(self.model)
        for (parameter, dim), parts in cuts.items():
            if parameter not in owners:
                raise ConfigError(f"the model has no tensor {parameter!r}: its groups come from another model.")
            size = getattr(*owners[parameter]).shape[dim]
            key = (size, *((name, index.shape, index.tobytes()) for name, index in parts))
            if key not in numbers:
                numbers[key] = len(self._axes)
                self._axes.append(_Axis(size, tuple(parts)))
            dims.setdefault(parameter, []).append((dim, numbers[key]))
        return [_Plan(*owners[parameter], tuple(sorted(where))) for parameter, where in dims.items()]


def _loses_inputs(plan: _Plan, selections: Sequence[tuple[int, Tensor]]) -> bool:
    """Whether a convolution that standardises its filters will read fewer channels."""
    return plan.attribute == "weight" and selections[-1][0] == 1 and is_standardising(plan.module)


def _owners(model: nn.Module) -> dict[str, tuple[nn.Module, str]]:
    """Every name of every parameter and buffer -> (module, attribute)."""
    found = {}
    for prefix, module in model.named_modules(remove_duplicate=False):
        for attribute in [*module._parameters, *module._buffers]:
            found[f"{prefix}.{attribute}" if prefix else attribute] = (module, attribute)
    return found


def _kept_positions(axis: _Axis, dropped: Mapping[str, np.ndarray]) -> Tensor | None:
    """Positions that stay, ascending; None when all do."""
    mask = np.ones(axis.size, dtype=bool)
    for name, index in axis.cuts:
        if name in dropped:
            mask[index[dropped[name]]] = False
    return None if mask.all() else torch.from_numpy(np.flatnonzero(mask))


def _select(
    tensor: Tensor, selections: Sequence[tuple[int, Tensor]], memory: RecycledMemory, key: tuple[int, str]
) -> Tensor:
    """A slice with storage, dtype, device and memory format like the original's."""
    data = tensor.detach()
    channels_last = tensor.ndim == 4 and not tensor.is_contiguous() and tensor.is_contiguous(memory_format=_NHWC)
    if channels_last:
        data = data.permute(0, 2, 3, 1)
    recycled = _is_plain(tensor)
    for number, (dim, positions) in enumerate(selections, 1):
        chosen = positions.to(tensor.device)
        along = (0, 3, 1, 2)[dim] if channels_last else dim
        shape = [*data.shape[:along], len(chosen), *data.shape[along + 1 :]]
        place = key if number == len(selections) else _BETWEEN
        out = memory.empty(place, shape, data.dtype) if recycled else None
        if channels_last and along == 3:  # index_select is three times slower along the last dimension
            data = torch.gather(data, 3, chosen.expand(*shape), out=out)
        else:
            data = torch.index_select(data, along, chosen, out=out)
    if channels_last:
        data = data.permute(0, 3, 1, 2)
    return nn.Parameter(data, tensor.requires_grad) if isinstance(tensor, nn.Parameter) else data


def _is_plain(tensor: Tensor) -> bool:
    """An ordinary tensor of the processor that is large enough for its memory to matter."""
    large = tensor.numel() * tensor.element_size() >= _RECYCLED_BYTES
    return large and tensor.device.type == "cpu" and tensor.layout is torch.strided and not tensor.is_quantized
