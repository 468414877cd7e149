"""The check that slicing is right: the smaller network against the full one whose consumers ignore the cut channels.

Both hold the same weights in float64; in the full network every consumer's weights for the cut channels are zero. What
such a channel carries then reaches nobody, so the outputs must agree to rounding. Weights and BatchNorm statistics are
drawn at random, so that a network with zero or dead weights cannot pass by accident.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from autoprune.pruning.cloning import clone
from autoprune.pruning.slicing import Slicer
from autoprune.pruning.standardised import is_standardising, keep_standardised
from autoprune.pruning.tracing import FORWARD_ERRORS, first_line
from autoprune.types import ChannelGroup

__all__ = ["TOLERANCE", "Checker", "Failure", "max_error"]

TOLERANCE = 1e-9
"""Largest relative difference that counts as rounding in float64."""

_SMALL = 64
_BLOCK = 131_071  # prime: where a large tensor repeats the block, no two rows are equal


def max_error(
    model: nn.Module,
    groups: Sequence[ChannelGroup],
    example_input: Tensor | tuple[Tensor, ...],
    keep: Mapping[str, np.ndarray],
) -> float:
    """Largest |sliced - masked| over the outputs, relative to the largest |masked|; ``keep`` as for slicing.

    ``example_input``: a tensor, or a tuple of the arguments of a model of several inputs, batch first.
    Infinite when an output is not finite. Whatever the sliced network's forward raises is passed on.
    """
    return Checker(model, groups, example_input).error(keep)


@dataclass(frozen=True)
class Failure:
    """Why groups cannot be cut together."""

    reason: str
    suspects: frozenset[str] = frozenset()
    """Groups near the module where the sliced network stopped; none when it ran to its end."""


class Checker:
    """Runs the check for many subsets of ``groups``; the model is copied and not touched."""

    def __init__(
        self,
        model: nn.Module,
        groups: Sequence[ChannelGroup],
        example_input: Tensor | tuple[Tensor, ...],
        seed: int = 0,
    ) -> None:
        self.groups = tuple(groups)
        self.model = _random_copy(model, seed)
        self._slicer = Slicer(self.model, self.groups)
        if any(map(is_standardising, self.model.modules())):
            self.model = clone(self.model)
            keep_standardised(self.model)
        example = example_input if isinstance(example_input, tuple) else (example_input,)
        inputs = tuple(_random_like(argument[:1], seed + number) for number, argument in enumerate(example))
        self._inputs = inputs if len(inputs) > 1 else (self._smallest_input(inputs[0]),)
        rng = np.random.default_rng(seed)
        self._keep = {group.name: _some_units(group.units, rng) for group in self.groups}

    def _smallest_input(self, full: Tensor) -> Tensor:
        """A corner of a large image, where the model takes any size: which channels meet does not depend on it."""
        if full.ndim != 4 or min(full.shape[2:]) < 2 * _SMALL:
            return full
        corner = full[..., :_SMALL, :_SMALL].contiguous()
        try:
            with torch.no_grad(), _float64():
                self.model(corner)
        except FORWARD_ERRORS:
            return full
        return corner

    def failure(self, names: Collection[str]) -> Failure | None:
        """Why the named groups cannot be cut together; None when the check passes."""
        try:
            error = self.error({name: self._keep[name] for name in names})
        except FORWARD_ERRORS as problem:
            reason = f"the sliced network does not run ({first_line(problem)})"
            return Failure(reason, self._near(_module_of(problem)).intersection(names))
        if error <= TOLERANCE:
            return None
        return Failure(f"the sliced network differs from the masked one (relative error {error:.2g})")

    def _near(self, path: str) -> frozenset[str]:
        """Groups that the module reads; where there are none, those with a tensor inside it."""
        inside = [(group.name, each) for group in self.groups for each in group.members]
        inside = [(name, each) for name, each in inside if each.parameter.startswith(f"{path}.")]
        reads = frozenset(name for name, each in inside if each.role == "consumer")
        return reads or frozenset(name for name, _ in inside)

    def error(self, keep: Mapping[str, np.ndarray]) -> float:
        """See :func:`max_error`."""
        with torch.no_grad(), _float64(), torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            sliced = self._slicer(keep)(*self._inputs)
            with self._masked(keep):
                torch.manual_seed(0)
                masked = self.model(*self._inputs)
        return _relative_error(list(_tensors(sliced)), list(_tensors(masked)))

    @contextmanager
    def _masked(self, keep: Mapping[str, np.ndarray]) -> Iterator[None]:
        """The consumers' weights are zero where they read a cut channel."""
        tensors: dict[str, Tensor] = dict(self.model.named_parameters(remove_duplicate=False))
        saved: list[tuple[Tensor, int, Tensor, Tensor]] = []
        for group in self.groups:
            cut = np.setdiff1d(np.arange(group.units), keep.get(group.name, np.arange(group.units)))
            for member in group.members:
                if member.role == "consumer" and len(cut):
                    weight = tensors[member.parameter]
                    positions = torch.from_numpy(member.index[cut].ravel()).to(weight.device)
                    saved.append((weight, member.dim, positions, weight.index_select(member.dim, positions)))
                    weight.index_fill_(member.dim, positions, 0.0)
        try:
            yield
        finally:
            for weight, dim, positions, values in reversed(saved):
                weight.index_copy_(dim, positions, values)


def _module_of(error: BaseException) -> str:
    """The innermost module that was running, by its name in the outermost; empty for that one itself."""
    running = []
    frame = error.__traceback__
    while frame is not None:
        module = frame.tb_frame.f_locals.get("self")
        if isinstance(module, nn.Module):
            running.append(module)
        frame = frame.tb_next
    names = {id(module): name for name, module in running[0].named_modules()} if running else {}
    return next((names[id(module)] for module in reversed(running) if id(module) in names), "")


def _relative_error(sliced: list[Tensor], masked: list[Tensor]) -> float:
    if len(sliced) != len(masked):
        return math.inf
    worst = 0.0
    for a, b in zip(sliced, masked, strict=True):
        if a.shape != b.shape:
            return math.inf
        if a.numel():
            error = float((a.double() - b.double()).abs().max() / b.double().abs().max().clamp_min(1e-300))
            worst = max(worst, error) if math.isfinite(error) else math.inf
    return worst


def _tensors(output: Any) -> Iterator[Tensor]:
    if isinstance(output, Tensor):
        yield output
    elif isinstance(output, Mapping):
        for value in output.values():
            yield from _tensors(value)
    elif isinstance(output, list | tuple):
        for value in output:
            yield from _tensors(value)


def _some_units(units: int, rng: np.random.Generator) -> np.ndarray:
    """Between 40 and 80 % of the units, never all: odd counts also find sizes that are halved by hand."""
    low, high = max(1, math.ceil(0.4 * units)), max(1, min(units - 1, math.floor(0.8 * units)))
    count = int(rng.integers(min(low, high), high + 1))
    return np.sort(rng.choice(units, count, replace=False))


def _random_copy(model: nn.Module, seed: int) -> nn.Module:
    """A float64 copy in eval mode with weights at He scale, so that signals neither die nor explode.

    Affine terms and running statistics are drawn away from 0 and 1. The original weights are not copied first.
    """
    draw = _Normal(seed)
    memo: dict[int, Any] = {}
    for buffer in model.buffers():
        if buffer.is_floating_point():
            memo[id(buffer)] = buffer.detach().to(torch.float64, copy=True)
    for module in model.modules():
        mean, variance = getattr(module, "running_mean", None), getattr(module, "running_var", None)
        if isinstance(mean, Tensor) and isinstance(variance, Tensor):
            memo[id(mean)] = draw(mean, 0.0, 0.5)
            memo[id(variance)] = draw(variance, 0.0, 0.3).exp_()
    for parameter in model.parameters():
        if parameter.is_floating_point():
            fan_in = parameter[0].numel() if parameter.ndim > 1 else 0
            values = draw(parameter, 0.0, math.sqrt(2.0 / fan_in)) if fan_in else draw(parameter, 0.7, 0.3)
            memo[id(parameter)] = nn.Parameter(values, requires_grad=False)
    copied: nn.Module = clone(model, memo)
    return copied.eval()


class _Normal:
    """Normal numbers from one random block, started at another place for each tensor: as good here, and much faster."""

    def __init__(self, seed: int) -> None:
        generator = torch.Generator().manual_seed(seed)
        self._block = torch.randn(_BLOCK, generator=generator, dtype=torch.float64)
        self._drawn = 0

    def __call__(self, like: Tensor, mean: float, std: float) -> Tensor:
        self._drawn += 1
        block = self._block.roll(7919 * self._drawn) * std + mean
        flat = torch.empty(like.numel(), dtype=torch.float64)
        for part in flat.split(_BLOCK):
            part.copy_(block[: len(part)])
        return flat.view(like.shape).to(like.device)


def _random_like(example: Tensor, seed: int) -> Tensor:
    if not example.is_floating_point():
        return example
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(example.shape, generator=generator, dtype=torch.float64).to(example.device)


@contextmanager
def _float64() -> Iterator[None]:
    """New tensors inside a forward pass are float64 too."""
    previous = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        yield
    finally:
        torch.set_default_dtype(previous)
