"""One run of a module, written down as a flat list of tensor operations.

The module runs in eval mode on tensors that have a shape but no storage ("meta"), so that a trace costs no memory and
little time. Where it asks for a number (data-dependent control flow, constants on another device), a second run on the
example itself follows. Whatever Python code the module has, what is left of it are operations of ATen.
"""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from autoprune.errors import ConfigError
from autoprune.pruning.attention import head_shape
from autoprune.pruning.cloning import clone
from autoprune.pruning.standardised import keep_standardised

__all__ = ["FORWARD_ERRORS", "Op", "Ref", "Trace", "first_line", "meta_copy", "record"]

FORWARD_ERRORS = (
    RuntimeError,
    ValueError,
    TypeError,
    IndexError,
    KeyError,
    AttributeError,
    AssertionError,
    ArithmeticError,
    NotImplementedError,
)
"""What a module's forward is expected to raise."""


def first_line(error: Exception) -> str:
    """The error's type and the first line of its text."""
    text = str(error).strip().splitlines()
    return f"{type(error).__name__}: {text[0].rstrip('.')}" if text else type(error).__name__


def _is_opaque(module: nn.Module) -> bool:
    recurrent = isinstance(module, nn.RNNBase | nn.RNNCellBase)
    return recurrent or (isinstance(module, nn.MultiheadAttention) and not head_shape(module))


@dataclass(frozen=True)
class Ref:
    """The number of a tensor in a trace."""

    number: int


@dataclass(frozen=True, eq=False)
class Op:
    """One operation. Tensors among the arguments are :class:`Ref`."""

    name: str
    """Without namespace and overload: ``convolution``, ``add_``."""
    arguments: Mapping[str, Any]
    """By their names in the operation's schema; what is left at its default may be missing."""
    outputs: tuple[Ref, ...]
    pointwise: bool
    where: str
    """The innermost module that was running: ``BatchNorm2d 'layer1.0.bn1'``."""
    opaque: bool = False
    """It ran inside a module whose sizes cannot follow its tensors' (recurrent layers)."""
    heads: tuple[int, int] | None = None
    """(heads, head_dim) of the attention in whose forward it ran, where its heads can be cut."""

    def get(self, name: str, default: Any = None) -> Any:
        """The argument of that name."""
        return self.arguments.get(name, default)

    @property
    def path(self) -> str:
        """The module's name in the model: ``layer1.0.bn1``."""
        return self.where.partition("'")[2].rstrip("'") or "the model"

    def inputs(self) -> list[Ref]:
        """Every tensor among the arguments."""
        found: list[Ref] = []
        for value in self.arguments.values():
            found.extend(item for item in (value if isinstance(value, tuple) else (value,)) if isinstance(item, Ref))
        return found


@dataclass(frozen=True, eq=False)
class Trace:
    ops: tuple[Op, ...]
    shapes: tuple[tuple[int, ...], ...]
    """By tensor number."""
    named: Mapping[int, str]
    """Tensor number -> parameter or buffer."""
    outputs: tuple[Ref, ...]

    def used(self) -> frozenset[int]:
        """Numbers of the tensors that the outputs are computed from, and of all that is written in place."""
        found = {ref.number for ref in self.outputs}
        for op in reversed(self.ops):
            if op.name.endswith("_") or any(ref.number in found for ref in op.outputs):
                found.update(ref.number for ref in (*op.inputs(), *op.outputs))
        return frozenset(found)


def record(model: nn.Module, example_input: Tensor) -> Trace:
    """The operations of one forward pass on the first item of ``example_input`` (batch first); the model is untouched.

    Raises ConfigError when the model does not run on the example.
    """
    try:
        return _run(meta_copy(model), example_input[:1].to("meta"))
    except Exception:  # noqa: BLE001 - a model may do anything with a tensor that has no numbers in it
        pass
    try:
        with torch.inference_mode(False):
            return _run(clone(model), example_input[:1].detach().clone())
    except FORWARD_ERRORS as error:
        raise ConfigError(
            f"the model does not run on the example input: {first_line(error)}.",
            f"The example input has shape {tuple(example_input.shape)}; the model must map it to tensors.",
        ) from error


def meta_copy(model: nn.Module) -> nn.Module:
    """A copy whose parameters and buffers have shapes but no storage."""
    memo: dict[int, Any] = {}
    with torch.inference_mode(False):
        for parameter in model.parameters():
            memo[id(parameter)] = nn.Parameter(torch.empty_like(parameter, device="meta"), requires_grad=False)
        for buffer in model.buffers():
            memo[id(buffer)] = torch.empty_like(buffer, device="meta")
        copied: nn.Module = clone(model, memo)
    return copied


@contextlib.contextmanager
def undisturbed() -> Iterator[None]:
    """No gradients, no warnings, no fused attention (one opaque operation), the caller's random numbers untouched."""
    fused = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with (
            warnings.catch_warnings(),
            torch.inference_mode(False),
            torch.no_grad(),
            torch.random.fork_rng(devices=[]),
        ):
            warnings.simplefilter("ignore")
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fused)


def _run(model: nn.Module, example: Tensor) -> Trace:
    keep_standardised(model)  # as its slices will be
    recorder = _Recorder(model.eval(), example)
    with undisturbed(), recorder:
        output = model(example)
    return recorder.trace(output)


class _Recorder(TorchDispatchMode):
    """Numbers every tensor that passes and notes what is done with it."""

    def __init__(self, model: nn.Module, example: Tensor) -> None:
        super().__init__()
        self._tensors: list[Tensor] = []  # kept alive: a freed tensor's id may be given to another
        self._numbers: dict[int, int] = {}
        self._ops: list[Op] = []
        self._running: list[str] = []
        self._opaque: set[str] = set()
        self._heads: dict[str, tuple[int, int] | None] = {}
        self._named = {
            self._number(tensor).number: name
            for tensors in (model.named_parameters(), model.named_buffers())
            for name, tensor in tensors
        }
        self._number(example)
        for name, module in model.named_modules():
            self._watch(name, module)

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False  # otherwise torch imports its compiler, which takes seconds and is not needed here

    def trace(self, output: Any) -> Trace:
        outputs = tuple(self._number(leaf) for leaf in _leaves(output))
        shapes = tuple(tuple(tensor.shape) for tensor in self._tensors)
        return Trace(tuple(self._ops), shapes, self._named, outputs)

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        kwargs = dict(kwargs or {})
        result = func(*args, **kwargs)
        names = (argument.name for argument in func._schema.arguments)
        arguments = {**dict(zip(names, args, strict=False)), **kwargs}
        where = self._running[-1] if self._running else "the model"
        self._ops.append(
            Op(
                func._overloadpacket.__name__,
                {name: self._replaced(value) for name, value in arguments.items()},
                tuple(self._number(leaf) for leaf in _leaves(result)),
                torch.Tag.pointwise in func.tags,
                where,
                where in self._opaque,
                self._heads.get(where),
            )
        )
        return result

    def _replaced(self, value: Any) -> Any:
        if isinstance(value, Tensor):
            return self._number(value)
        if isinstance(value, list | tuple):
            return tuple(self._replaced(item) for item in value)
        return value

    def _number(self, tensor: Tensor) -> Ref:
        number = self._numbers.get(id(tensor))
        if number is None:
            number = self._numbers[id(tensor)] = len(self._tensors)
            self._tensors.append(tensor)
        return Ref(number)

    def _watch(self, name: str, module: nn.Module) -> None:
        label = f"{type(module).__name__} {name!r}" if name else type(module).__name__
        if _is_opaque(module):
            self._opaque.add(label)
        self._heads[label] = head_shape(module)

        def enter(*_: Any) -> None:
            self._running.append(label)

        def leave(*_: Any) -> None:
            self._running.pop()

        if callable(getattr(module, "forward", None)) and not isinstance(module, torch.jit.ScriptModule):
            module.register_forward_pre_hook(enter)
            module.register_forward_hook(leave)


def _leaves(value: Any) -> Iterator[Tensor]:
    """Every tensor in nested containers, and in the fields of data classes and named tuples."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from _leaves(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _leaves(item)
    elif hasattr(value, "__dataclass_fields__"):
        for name in value.__dataclass_fields__:
            yield from _leaves(getattr(value, name))
