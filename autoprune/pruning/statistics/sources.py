"""Where the channels of a group leave their activation: the maps that activation statistics are taken of.

What a reader of the channels gets has been through the activation, but often through pooling too, and the maximum of
four values is less often zero than each of them. So the forward pass is followed back from what the reader gets, over
pooling and changes of shape, to the tensor before the first pooling. The same walk, continued over concatenations,
slices and products, tells whether all the values come out of a ReLU.

Several readers of one tensor count once. A residual stream is read behind each of its additions: each is a map of its
own, and statistics are averaged over them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from autoprune.errors import ConfigError
from autoprune.pruning.calibration import Batch
from autoprune.pruning.taps import Reading, Taps, head, on_readings
from autoprune.pruning.tracing import undisturbed

__all__ = ["Kind", "Source", "Sources", "find_sources", "visiting"]

Kind = Literal["rectified", "smooth", "linear"]
"""``rectified``: exact zeros below a threshold. ``smooth``: another activation. ``linear``: none that is known."""

_POOLS = {"max_pool1d_with_indices", "max_pool2d_with_indices", "max_pool3d_with_indices", "avg_pool1d", "avg_pool2d"}
_POOLS |= {"avg_pool3d", "_adaptive_avg_pool2d", "_adaptive_avg_pool3d", "adaptive_max_pool2d", "mean", "amax"}
_VIEWS = {
    "view",
    "_unsafe_view",
    "reshape",
    "flatten",
    "squeeze",
    "unsqueeze",
    "clone",
    "contiguous",
    "alias",
    "detach",
}
_MOVES = {"cat", "slice", "split", "split_with_sizes", "chunk", "select", "stack", "permute", "transpose", "t"}
_MOVES |= {"expand", "constant_pad_nd", "unbind", "index_select", "roll"}
_SMOOTH = {"silu", "gelu", "hardswish", "sigmoid", "hardsigmoid", "tanh", "mish", "softplus", "elu", "selu", "celu"}
_SMOOTH |= {"leaky_relu", "prelu", "_prelu_kernel"}
_WATCHED = {"relu", "hardtanh", "clamp", "clamp_min", "threshold", "add", "mul", "cat"} | _SMOOTH
_BY_WORTH: tuple[Kind, ...] = ("linear", "smooth", "rectified")


@dataclass(frozen=True, eq=False)
class Source:
    """One map, and the groups whose channels it carries."""

    place: tuple[str, int]
    """The n-th operation of that name, from 0 (``op relu``), or the n-th call of a reader (``module conv2``)."""
    kind: Kind
    reader: str
    """The module that reads it (the first)."""
    dim: int
    """Its channel dimension, from the end."""
    size: int
    """Elements of a channel for one example."""
    index: Mapping[str, np.ndarray] = field(default_factory=dict)
    """Group -> (units, channels per unit)."""


@dataclass(eq=False)
class _Made:
    """How a tensor came about."""

    op: str
    nth: int
    inputs: list[Tensor]
    arguments: tuple[Any, ...]


class _Counting(TorchDispatchMode):
    """Counts the operations of each name while they run."""

    def __init__(self) -> None:
        super().__init__()
        self.counts: dict[str, int] = {}
        self._paused = False

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Operations inside do not count."""
        self._paused = True
        try:
            yield
        finally:
            self._paused = False

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False  # otherwise torch imports its compiler, which takes seconds and is not needed here

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        result = func(*args, **dict(kwargs or {}))
        if self._paused:
            return result
        name = func._overloadpacket.__name__.removesuffix("_")
        nth = self.counts[name] = self.counts.get(name, -1) + 1
        self.made(name, nth, args, result)
        return result

    def made(self, name: str, nth: int, args: tuple[Any, ...], result: Any) -> None:
        raise NotImplementedError


class _History(_Counting):
    """Remembers how every tensor came about, latest first."""

    def __init__(self) -> None:
        super().__init__()
        self.of: dict[int, _Made] = {}
        self._alive: list[Any] = []  # a freed tensor's id may be given to another

    def made(self, name: str, nth: int, args: tuple[Any, ...], result: Any) -> None:
        inputs = list(_tensors(args))
        self._alive.append((inputs, result))
        for item in _tensors((result,)):
            before = self.of.get(id(item))
            if before is not None and any(item is other for other in inputs):  # in place: what it was lives on
                old = item.detach()
                self._alive.append(old)
                self.of[id(old)] = before
                inputs = [old if other is item else other for other in inputs]
            self.of[id(item)] = _Made(name, nth, inputs, args)

    def before_pooling(self, value: Tensor) -> Tensor:
        """The tensor before the first pooling of those that led here; the value itself where there was none."""
        found = value
        while (made := self.of.get(id(value))) and made.op in _POOLS | _VIEWS and made.inputs:
            value = made.inputs[0]
            if made.op in _POOLS:
                found = value
        return found

    def kind(self, value: Tensor) -> Kind:
        made = self.of.get(id(value))
        if made is None:
            return "linear"
        if made.op in ("relu", "threshold") or (made.op in ("hardtanh", "clamp", "clamp_min") and _from_zero(made)):
            return "rectified"
        if made.op in _SMOOTH:
            return "smooth"
        if made.op in _POOLS | _VIEWS | _MOVES | {"mul"} and made.inputs:
            kinds = sorted((self.kind(item) for item in made.inputs), key=_BY_WORTH.index)
            return kinds[-1] if made.op == "mul" and "linear" not in kinds else kinds[0]
        return "linear"


def _from_zero(made: _Made) -> bool:
    return len(made.arguments) > 1 and made.arguments[1] == 0


def _tensors(values: Any) -> Iterator[Tensor]:
    for value in values:
        if isinstance(value, Tensor):
            yield value
        elif isinstance(value, list | tuple):
            yield from _tensors(value)


@dataclass(frozen=True, eq=False)
class Sources:
    """The maps of all tapped groups, and what the pass that found them ran."""

    maps: tuple[Source, ...]
    counts: Mapping[str, int]
    """Operation -> how often it runs in one pass."""

    def of(self, group: str) -> list[Source]:
        """The maps of one group, in the order of execution."""
        return [source for source in self.maps if group in source.index]

    def size(self, group: str) -> int:
        """Elements of a unit in the largest of the group's maps, for one example."""
        return max(source.size * source.index[group].shape[1] for source in self.of(group))


def find_sources(model: nn.Module, taps: Taps, example: Batch) -> Sources:
    """The maps of all tapped groups; the model, in evaluation mode, runs once on one row of ``example``."""
    history = _History()
    found: dict[object, tuple[Source, dict[str, np.ndarray]]] = {}
    calls: dict[str, int] = {}

    def visit(reading: Reading) -> None:
        nth = calls[reading.tap.module] = calls.get(reading.tap.module, -1) + 1
        with history.paused():
            origin, index = _origin(history, reading)
            made = history.of.get(id(origin))
            at_reader = origin is reading.value or made is None
            place = (f"module {reading.tap.module}", nth) if at_reader or not made else (f"op {made.op}", made.nth)
            dim = reading.tap.dim if origin.ndim == reading.value.ndim else 1 - origin.ndim
            size = origin.numel() // origin.shape[dim]
            source = Source(place, history.kind(origin), reading.tap.module, dim, size)
            key = (made.op, made.nth) if made else id(origin)
            found.setdefault(key, (source, {}))[1].update(index)

    with undisturbed(), on_readings(model, taps, visit), history:
        model(*head(example))
    return Sources(tuple(replace(source, index=index) for source, index in found.values()), history.counts)


def _origin(history: _History, reading: Reading) -> tuple[Tensor, Mapping[str, np.ndarray]]:
    """The map before pooling, and where in its channels the units are; what is read where that cannot be told."""
    value, tap = reading.value, reading.tap
    origin = history.before_pooling(value)
    made = history.of.get(id(origin))
    if origin is not value and made is not None and made.op in _WATCHED and len(origin) == len(value):
        if origin.ndim == value.ndim and origin.shape[tap.dim] == value.shape[tap.dim]:
            return origin, tap.positions
        if value.ndim == 2 and origin.ndim > 2 and value.shape[1] % origin.shape[1] == 0:  # flattened in between
            spread = value.shape[1] // origin.shape[1]
            rows = {name: [np.unique(row // spread) for row in index] for name, index in tap.positions.items()}
            if all(len({len(row) for row in unit_rows}) == 1 for unit_rows in rows.values()):
                return origin, {name: np.stack(unit_rows) for name, unit_rows in rows.items()}
    return value, tap.positions


@contextmanager
def visiting(model: nn.Module, taps: Taps, sources: Sources, visit: Callable[[Source, Tensor], None]) -> Iterator[None]:
    """While it lasts, ``visit`` sees every map of one forward pass. Raises ConfigError where another pass is run."""
    places = {source.place: source for source in sources.maps}
    observer = _Observer(places, visit)
    calls: dict[str, int] = {}

    def at_reader(reading: Reading) -> None:
        name = f"module {reading.tap.module}"
        nth = calls[name] = calls.get(name, -1) + 1
        if (name, nth) in places:
            with observer.paused():
                visit(places[name, nth], reading.value.detach())

    with on_readings(model, taps, at_reader), observer:
        yield
    wanted = {place[0].removeprefix("op ") for place in places if place[0].startswith("op ")}
    if any(observer.counts.get(name) != sources.counts.get(name) for name in wanted):
        raise ConfigError(
            "the model does not run the same operations for every batch: its activations cannot be told apart.",
            "Choose a criterion that reads the weights alone.",
        )


class _Observer(_Counting):
    """Shows chosen operations' results."""

    def __init__(self, places: Mapping[tuple[str, int], Source], visit: Callable[[Source, Tensor], None]) -> None:
        super().__init__()
        self._places, self._visit = places, visit

    def made(self, name: str, nth: int, args: tuple[Any, ...], result: Any) -> None:
        source = self._places.get((f"op {name}", nth))
        if source is not None:
            self._visit(source, result.detach())
