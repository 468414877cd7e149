"""Reading a CostTable off a module: one forward pass at batch 1 says how often each parameter is multiplied."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry
from torch.utils.module_tracker import ModuleTracker

from autoprune.cost.table import CostTable, Cut, Term
from autoprune.types import ChannelGroup

__all__ = ["trace"]


def trace(model: nn.Module, example_input: Tensor, groups: Sequence[ChannelGroup]) -> CostTable:
    """MACs and parameters of ``model`` as a function of the widths of ``groups``.

    Convolutions (grouped, depthwise, transposed) and linear layers count, without bias: 2 * macs is what
    ``torch.utils.flop_counter`` finds. Products of two activations (attention) are listed in ``uncounted``.
    ``example_input`` has the batch dimension first; only its first item is used. The model is not changed.
    """
    parameters = dict(model.named_parameters())
    counter = _Counter(parameters)
    training = {module: module.training for module in model.modules()}
    fused_attention = torch.backends.mha.get_fastpath_enabled()
    try:
        model.eval()
        torch.backends.mha.set_fastpath_enabled(False)  # one opaque operation would hide its linear layers
        with torch.no_grad(), ModuleTracker() as tracker, counter.following(tracker):
            model(example_input[:1])
    finally:
        torch.backends.mha.set_fastpath_enabled(fused_attention)
        for module, mode in training.items():
            module.training = mode
    cuts = _cuts(model, parameters, groups)
    terms = tuple(
        Term(name, tuple(parameter.shape), counter.applications.get(name, 0), cuts.get(name, ()))
        for name, parameter in parameters.items()
    )
    channels = np.array([group.channels for group in groups], dtype=np.int64)
    unit = np.array([group.unit for group in groups], dtype=np.int64)
    uncounted = tuple(f"{where}: {operation}" for where, operation in counter.uncounted)
    return CostTable(tuple(group.name for group in groups), channels, unit, terms, uncounted)


def _cuts(
    model: nn.Module, parameters: Mapping[str, Tensor], groups: Sequence[ChannelGroup]
) -> dict[str, tuple[Cut, ...]]:
    """Cuts of each parameter under its first name (a tied parameter has several)."""
    first = {id(parameter): name for name, parameter in parameters.items()}
    names = {name: first[id(tensor)] for name, tensor in model.named_parameters(remove_duplicate=False)}
    cuts: dict[str, dict[Cut, None]] = {}
    for number, group in enumerate(groups):
        for member in group.members:
            if member.parameter in names:  # buffers cost nothing
                cut = Cut(member.dim, number, member.index.shape[1])
                cuts.setdefault(names[member.parameter], {})[cut] = None
    return {name: tuple(found) for name, found in cuts.items()}


class _Counter(TorchDispatchMode):
    """Attributes the flops of every operation to the one parameter among its operands."""

    def __init__(self, parameters: Mapping[str, Tensor]) -> None:
        super().__init__()
        self.applications: dict[str, int] = {}
        self.uncounted: dict[tuple[str, str], None] = {}
        self._sizes = {name: parameter.numel() for name, parameter in parameters.items()}
        self._names = {_storage(parameter): name for name, parameter in parameters.items() if parameter.numel()}
        self._computed: list[Tensor] = []  # kept alive, so that their storage is not given to another tensor
        self._tracker: ModuleTracker | None = None

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False  # otherwise torch imports its compiler, which takes seconds and is not needed here

    def following(self, tracker: ModuleTracker) -> _Counter:
        """The tracker says which module is running."""
        self._tracker = tracker
        return self

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        kwargs = dict(kwargs or {})
        packet = func._overloadpacket
        if packet not in flop_registry and func is not torch.ops.prim.device.default:
            with self:
                result = func.decompose(*args, **kwargs)
            if result is not NotImplemented:
                return result
        result = func(*args, **kwargs)
        if packet in flop_registry:
            operands = args[1:3] if _name(packet) in ("addmm", "baddbmm") else args[:2]  # without bias
            self._attribute(packet, operands, flop_registry[packet](*args, **kwargs, out_val=result))
        elif "attention" in str(packet):  # fused for this processor, and unknown to the registry
            self.uncounted[self._where(), _name(packet)] = None
        else:
            self._note_computed(args, result)
        return result

    def _note_computed(self, args: tuple[Any, ...], result: Any) -> None:
        """A tensor as large as a parameter, made of parameters alone, stands for it (weight normalisation...)."""
        tensors = [arg for arg in args if isinstance(arg, Tensor)]
        first = result[0] if isinstance(result, tuple) and result else result
        if not tensors or not isinstance(first, Tensor) or not all(map(self._is_whole_parameter, tensors)):
            return
        name = max((self._names[_storage(tensor)] for tensor in tensors), key=self._sizes.__getitem__)
        if first.numel() == self._sizes[name] and _storage(first) not in self._names:
            self._names[_storage(first)] = name
            self._computed.append(first)

    def _attribute(self, packet: Any, args: tuple[Any, ...], flops: int) -> None:
        found = [self._names[_storage(arg)] for arg in args if self._is_whole_parameter(arg)]
        if found:
            name = max(found, key=self._sizes.__getitem__)
            applications, remainder = divmod(flops // 2, self._sizes[name])
            if not remainder:
                self.applications[name] = self.applications.get(name, 0) + applications
                return
        self.uncounted[self._where(), _name(packet)] = None

    def _is_whole_parameter(self, arg: Any) -> bool:
        """Views (a transposed weight) count, parts of a parameter do not."""
        name = self._names.get(_storage(arg)) if isinstance(arg, Tensor) else None
        return name is not None and arg.numel() == self._sizes[name]

    def _where(self) -> str:
        names = [name for name in (self._tracker.parents if self._tracker else ()) if name != "Global"]
        deepest = max(names, key=lambda name: name.count("."), default="")
        return deepest.partition(".")[2] or "model"


def _name(packet: Any) -> str:
    return str(packet).rpartition(".")[2].lstrip("_")


def _storage(tensor: Tensor) -> int:
    return tensor.untyped_storage().data_ptr()
