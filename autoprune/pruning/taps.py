"""Gates on the channels of groups, where the rest of the network reads them.

To prune a unit is to have its consumers ignore it (``equivalence``). So a group's gate stands at the inputs of the
modules that hold its consuming weights: the input positions of unit k are multiplied by gate k. A gate of 1 changes
nothing, a gate of 0 is the pruned unit, exactly and for the whole network, also where a residual stream, a
concatenation or a flattened map has several readers. The derivative by a gate at 1 is the sum over readers and
positions of z * dC/dz.

Groups that are read by something else than a convolution or a linear layer with one tensor as its input (fused
attention) have no gate; :attr:`Taps.untapped` says why.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd

from autoprune.pruning.calibration import Batch
from autoprune.pruning.tracing import undisturbed
from autoprune.types import ChannelGroup, Slice

__all__ = ["Reading", "Tap", "Taps", "arguments", "evaluating", "find_taps", "gated", "head", "on_readings"]


@dataclass(frozen=True, eq=False)
class Tap:
    """A module that reads channels of one or more groups."""

    module: str
    """Its name in the model (the first, where it has several)."""
    dim: int
    """The channel dimension of its input, from the end: -1 for a linear layer, -3 for a 2-D convolution."""
    lookup: np.ndarray
    """(channels of the input,) int64: the number of the unit among all units of the taps; ``Taps.units``: none."""
    positions: Mapping[str, np.ndarray]
    """Group -> (units, positions per unit): where in that dimension the group's units are."""


@dataclass(frozen=True, eq=False)
class Taps:
    """The gates of a model. Units of all groups are numbered through, in the order of the groups."""

    taps: tuple[Tap, ...]
    spans: Mapping[str, slice]
    """Group -> its units' numbers."""
    units: int
    """Of all tapped groups together."""
    untapped: Mapping[str, str]
    """Group -> why it has no gate."""

    def readers(self, group: str) -> list[Tap]:
        """The modules that read the group, in the order of the model's."""
        return [tap for tap in self.taps if group in tap.positions]


@dataclass(frozen=True, eq=False)
class Reading:
    """One call of a tapped module."""

    tap: Tap
    module: nn.Module
    value: Tensor
    """Its input: (rows, ..., channels at ``tap.dim``, ...)."""

    def by_channel(self, values: Tensor) -> Tensor:
        """Sums of ``values`` (of the input's shape) over all but rows and channels: (rows, channels)."""
        moved = values.movedim(self.tap.dim, 1)
        return moved.flatten(2).sum(2) if moved.ndim > 2 else moved


def arguments(batch: Batch) -> tuple[Tensor, ...]:
    """What the model is called with."""
    return batch if isinstance(batch, tuple) else (batch,)


def head(batch: Batch, rows: int = 1) -> tuple[Tensor, ...]:
    """The first example, so many times over."""
    given = arguments(batch)
    return tuple(item[:1].repeat(rows, *[1] * (item.ndim - 1)) if item.ndim else item for item in given)


def find_taps(model: nn.Module, groups: Sequence[ChannelGroup], example: Batch) -> Taps:
    """The gates of ``groups``; ``example`` is an input of the model, of which one row is used.

    The model runs three times, in evaluation mode, and is left as it was: a gate counts only where its module is called
    with a tensor whose rows are the examples, in their order.
    """
    drafts, untapped = _drafts(model, groups)
    with evaluating(model), undisturbed():
        wrong = _misread(model, drafts, example)
        for tap in drafts:
            if tap.module in wrong:
                untapped.update({group: wrong[tap.module] for group in tap.positions if group not in untapped})
    tapped = [group for group in groups if group.name not in untapped]
    return _numbered(drafts, tapped, untapped)


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Evaluation mode, no gradients of parameters, every layer called; all is as it was afterwards."""
    modes = {module: module.training for module in model.modules()}
    wanted = [parameter for parameter in model.parameters() if parameter.requires_grad]
    fused = torch.backends.mha.get_fastpath_enabled()
    try:
        torch.backends.mha.set_fastpath_enabled(False)  # it would run a transformer's layer without its linear ones
        model.eval()
        for parameter in wanted:
            parameter.requires_grad_(False)
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fused)
        for module, mode in modes.items():
            module.training = mode
        for parameter in wanted:
            parameter.requires_grad_(True)


@contextmanager
def on_readings(model: nn.Module, taps: Taps, visit: Callable[[Reading], Tensor | None]) -> Iterator[None]:
    """While it lasts, ``visit`` sees what tapped modules are about to read; a tensor that it gives is read instead."""
    with ExitStack() as stack:
        for tap in taps.taps:
            module = model.get_submodule(tap.module)

            def hook(module: nn.Module, inputs: tuple[Any, ...], tap: Tap = tap) -> tuple[Any, ...] | None:
                replaced = visit(Reading(tap, module, inputs[0]))
                return None if replaced is None else (replaced, *inputs[1:])

            stack.callback(module.register_forward_pre_hook(hook).remove)
        yield


@contextmanager
def gated(model: nn.Module, taps: Taps, gates: Tensor, *, copies: bool = False) -> Iterator[None]:
    """While it lasts, units are multiplied by their gates wherever they are read.

    ``gates``: (units,) for all examples, or (rows, units), one row for each example of the batches that run inside;
    numbered as in ``taps``. Derivatives by the gates are right, also second ones; with ``copies`` also for a model that
    writes into what its modules have read before.
    """
    padded = torch.cat([gates, gates.new_ones((*gates.shape[:-1], 1))], -1)

    def multiply(reading: Reading) -> Tensor:
        value, dim = reading.value, reading.tap.dim
        lookup = torch.from_numpy(reading.tap.lookup).to(padded.device)
        factors = padded.index_select(-1, lookup).to(value.dtype)
        if factors.ndim == 2:
            factors = factors.repeat_interleave(len(value) // len(factors), 0)
        shape = [1] * value.ndim
        shape[dim] = value.shape[dim]
        shape[0] = len(factors) if factors.ndim == 2 else 1
        return (value.clone() if copies else value) * factors.view(shape)

    with on_readings(model, taps, multiply):
        yield


def _drafts(model: nn.Module, groups: Sequence[ChannelGroup]) -> tuple[list[Tap], dict[str, str]]:
    """Modules by where their weights are, still without numbers; and the groups with other readers."""
    holders: dict[int, list[str]] = {}
    for name, module in model.named_modules():
        for parameter in module._parameters.values():
            if parameter is not None:
                holders.setdefault(id(parameter), []).append(name)
    tensors = dict(model.named_parameters(remove_duplicate=False))
    found: dict[str, dict[str, np.ndarray]] = {}
    untapped: dict[str, str] = {}
    for group in groups:
        consumers = [member for member in group.members if member.role == "consumer"]
        if not consumers:
            untapped[group.name] = "no layer reads its channels"
        for member in consumers:
            for name in holders[id(tensors[member.parameter])]:
                index = _input_index(model.get_submodule(name), member)
                if index is None:
                    kind = type(model.get_submodule(name)).__name__
                    untapped[group.name] = f"{member.parameter!r} reads it inside a {kind}, whose input cannot be seen"
                else:
                    found.setdefault(name, {})[group.name] = index
    return [
        Tap(name, *_input_dim(module), found[name]) for name, module in model.named_modules() if name in found
    ], untapped


def _input_index(module: nn.Module, member: Slice) -> np.ndarray | None:
    """Input positions of the units, (units, positions per unit); None where the module is of another kind."""
    if isinstance(module, _ConvTransposeNd):
        return member.index if member.dim == 0 else None
    if isinstance(module, _ConvNd) and member.dim == 1:
        width = module.in_channels // module.groups
        return np.concatenate([member.index + part * width for part in range(module.groups)], axis=1)
    return member.index if isinstance(module, nn.Linear) and member.dim == 1 else None


def _input_dim(module: nn.Module) -> tuple[int, np.ndarray]:
    """The channel dimension of its input, and a lookup of as many positions."""
    if isinstance(module, _ConvNd):
        return 1 - module.weight.ndim, np.zeros(module.in_channels, dtype=np.int64)
    weight: Any = module.weight
    return -1, np.zeros(weight.shape[1], dtype=np.int64)


def _misread(model: nn.Module, drafts: Sequence[Tap], example: Batch) -> dict[str, str]:
    """Module -> why its input is no place for a gate."""
    calls = [_called(model, drafts, head(example, rows)) for rows in (2, 3)]
    wrong = {}
    for tap in drafts:
        two, three = (call.get(tap.module, []) for call in calls)
        if not two or len(two) != len(three):
            wrong[tap.module] = f"{tap.module!r}, which reads it, is not called with a tensor of its own"
        elif any(a % 2 or b * 2 != a * 3 for a, b in zip(two, three, strict=True)):
            wrong[tap.module] = f"{tap.module!r}, which reads it, takes a tensor whose first dimension is not the batch"
        elif any(a > 2 for a in two) and not _keeps_order(model, tap, head(example, 3)):
            wrong[tap.module] = f"{tap.module!r}, which reads it, takes a tensor whose rows mix the examples"
    return wrong


def _called(model: nn.Module, drafts: Sequence[Tap], inputs: tuple[Tensor, ...]) -> dict[str, list[int]]:
    """Module -> the number of rows in each of its calls."""
    rows: dict[str, list[int]] = {}
    with ExitStack() as stack:
        for tap in drafts:

            def hook(_: nn.Module, given: tuple[Any, ...], tap: Tap = tap) -> None:
                fits = given and isinstance(given[0], Tensor) and given[0].ndim >= 1 - tap.dim
                rows.setdefault(tap.module, []).append(len(given[0]) if fits else 0)

            stack.callback(model.get_submodule(tap.module).register_forward_pre_hook(hook).remove)
        model(*inputs)
    return {name: counts for name, counts in rows.items() if 0 not in counts}


def _keeps_order(model: nn.Module, tap: Tap, inputs: tuple[Tensor, ...]) -> bool:
    """Whether several rows an example lie one example after the other: silencing the first third changes that alone."""

    def silence(_: nn.Module, given: tuple[Any, ...]) -> tuple[Any, ...]:
        value = given[0].clone()
        value[: len(value) // 3] = 0
        return (value, *given[1:])

    plain = model(*inputs)
    handle = model.get_submodule(tap.module).register_forward_pre_hook(silence)
    try:
        changed = model(*inputs)
    finally:
        handle.remove()
    return isinstance(plain, Tensor) and torch.equal(plain[1:], changed[1:])


def _numbered(drafts: Sequence[Tap], tapped: Sequence[ChannelGroup], untapped: Mapping[str, str]) -> Taps:
    spans: dict[str, slice] = {}
    units = 0
    for group in tapped:
        spans[group.name] = slice(units, units + group.units)
        units += group.units
    taps = []
    for tap in drafts:
        positions = {name: index for name, index in tap.positions.items() if name in spans}
        if positions:
            lookup = np.full_like(tap.lookup, units)
            for name, index in positions.items():
                lookup[index] = np.arange(spans[name].start, spans[name].stop)[:, None]
            taps.append(replace(tap, positions=positions, lookup=lookup))
    return Taps(tuple(taps), spans, units, dict(untapped))
