"""Reading a MemoryModel off a module: which buffers live when, and how each shrinks with each group."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten

from autoprune.cost.memory import MemoryModel, Peaks
from autoprune.cost.table import CostTable, Cut, Term
from autoprune.errors import ConfigError
from autoprune.pruning.slicing import Slicer
from autoprune.types import ChannelGroup

__all__ = ["Lives", "observe", "trace_memory"]


@dataclass(frozen=True, eq=False)
class Lives:
    """The activations of one forward pass, in the order in which they were made; the input comes first."""

    sizes: np.ndarray
    """(B,) float64: bytes of each buffer."""
    made: np.ndarray
    """(B,) int64: the operation that made it; 0 for the input."""
    read: np.ndarray
    """(B,) int64: the last operation that read or wrote it; one behind the last for the output."""

    @property
    def alive(self) -> np.ndarray:
        """(operations, B) bool."""
        moments = np.arange(int(self.read.max()))[:, None]
        return np.asarray((self.made <= moments) & (moments <= self.read))

    @property
    def peak(self) -> float:
        """Bytes at the worst moment."""
        return float((self.alive @ self.sizes).max())


@torch.no_grad()
def observe(model: nn.Module, example_input: Tensor | Sequence[Tensor]) -> Lives:
    """Run ``model`` in evaluation mode on the first item of ``example_input``, of each where it takes several tensors.

    The model is not changed.
    """
    fused_attention = torch.backends.mha.get_fastpath_enabled()
    training = {module: module.training for module in model.modules()}
    state = list(model.state_dict(keep_vars=True).values())
    watcher = _Watcher([*state, *model.buffers()])
    try:
        model.eval()
        torch.backends.mha.set_fastpath_enabled(False)
        given = [example_input] if isinstance(example_input, Tensor) else example_input
        inputs = [tensor[:1].clone() for tensor in given]
        for tensor in inputs:
            watcher.make(tensor)
        with watcher:
            output = model(*inputs)
    finally:
        torch.backends.mha.set_fastpath_enabled(fused_attention)
        for module, mode in training.items():
            module.training = mode
    return watcher.lives(output)


def trace_memory(
    model: nn.Module, example_input: Tensor | Sequence[Tensor], groups: Sequence[ChannelGroup], cost: CostTable
) -> MemoryModel:
    """Memory as a function of the widths of ``groups``, which are those of ``cost``, in its order.

    The model is run once a group with that group at its least width, and twice more to see that sizes are linear and
    that the same operations run at other widths. Raises ConfigError when they are not.
    """
    plain = copy.deepcopy(model).eval()
    slicer = Slicer(plain, groups)
    full = observe(plain, example_input)
    units = np.array([group.units for group in groups], dtype=np.float64)
    slopes = np.zeros((len(full.sizes), len(groups)))
    for column, group in enumerate(groups):
        if group.units > 1:
            less = _same(observe(slicer({group.name: np.arange(1)}), example_input), full)
            slopes[:, column] = (full.sizes - less.sizes) / (group.units - 1)
    fixed = full.sizes - slopes @ units
    for share in (0.0, 0.5):
        kept = np.maximum(1, np.floor(share * units)).astype(int)
        keep = {group.name: np.arange(count) for group, count in zip(groups, kept.tolist(), strict=True)}
        seen = _same(observe(slicer(keep), example_input), full)
        if not np.array_equal(np.rint(fixed + slopes @ kept), seen.sizes):
            raise _unpredictable("sizes of activations are not linear in the widths")
    alive = np.unique(full.alive, axis=0).astype(float)
    return MemoryModel(_weights(plain, groups, cost), Peaks(alive @ fixed, alive @ slopes).worst(units))


def _same(seen: Lives, full: Lives) -> Lives:
    if not np.array_equal(seen.made, full.made) or not np.array_equal(seen.read, full.read):
        raise _unpredictable("other operations run at other widths")
    return seen


def _unpredictable(why: str) -> ConfigError:
    return ConfigError(
        f"peak_activation_bytes cannot be predicted for this model: {why}.",
        "Use params or macs as the objective or constraint instead.",
    )


def _weights(model: nn.Module, groups: Sequence[ChannelGroup], cost: CostTable) -> CostTable:
    state: Mapping[str, Tensor] = model.state_dict(keep_vars=True)
    first: dict[int, str] = {}
    for name, tensor in state.items():
        first.setdefault(id(tensor), name)
    cuts: dict[str, dict[Cut, None]] = {}
    for number, group in enumerate(groups):
        for member in group.members:
            if member.parameter in state:  # a buffer that is not saved takes no room in a file
                name = first[id(state[member.parameter])]
                cuts.setdefault(name, {})[Cut(member.dim, number, member.index.shape[1])] = None
    terms = tuple(
        Term(name, tuple(state[name].shape), state[name].element_size(), tuple(cuts.get(name, ())))
        for name in first.values()
    )
    return replace(cost, terms=terms, uncounted=(), extras=())


class _Watcher(TorchDispatchMode):
    """Notes which operation makes and which last reads each storage that is not the module's own."""

    def __init__(self, own: Sequence[Tensor]) -> None:
        super().__init__()
        self._own = {_storage(tensor) for tensor in own}
        self._kept: list[Tensor] = []  # while they live, no other buffer takes their address
        self._sizes: dict[int, int] = {}
        self._made: dict[int, int] = {}
        self._read: dict[int, int] = {}
        self._operation = 0

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False  # otherwise torch imports its compiler, which takes seconds and is not needed here

    def make(self, tensor: Tensor) -> None:
        """A buffer of the present operation, unless it is known."""
        place = _storage(tensor)
        self._kept.append(tensor)
        if place not in self._own and tensor.numel():
            self._made.setdefault(place, self._operation)
            self._sizes.setdefault(place, tensor.untyped_storage().nbytes())
            self._read[place] = self._operation

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        kwargs = dict(kwargs or {})
        result = func(*args, **kwargs)
        self._operation += 1
        for tensor in _tensors((args, kwargs)):
            if _storage(tensor) in self._made:
                self._read[_storage(tensor)] = self._operation
        for tensor in _tensors(result):
            self.make(tensor)
        return result

    def lives(self, output: Any) -> Lives:
        """Of the whole pass, whose result is ``output``."""
        for tensor in _tensors(output):
            if _storage(tensor) in self._made:
                self._read[_storage(tensor)] = self._operation + 1
        columns = ([table[place] for place in self._made] for table in (self._sizes, self._made, self._read))
        sizes, made, read = columns
        return Lives(np.array(sizes, float), np.array(made, np.int64), np.array(read, np.int64))


def _tensors(content: Any) -> list[Tensor]:
    return [item for item in tree_flatten(content)[0] if isinstance(item, Tensor)]


def _storage(tensor: Tensor) -> int:
    return int(tensor.untyped_storage()._cdata)
