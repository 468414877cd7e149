"""How a sliced model is run: fused and in chunks where that was seen to give the model's own numbers, else plainly."""

from __future__ import annotations

import statistics
import threading
from collections.abc import Callable, Iterable
from functools import partial
from typing import Protocol

import torch
from torch import Tensor, nn

from autoprune.evaluators.fast import FastNetwork, channels_last, chunk_size
from autoprune.evaluators.native.build import Library, load_library
from autoprune.evaluators.native.layers import Arena
from autoprune.evaluators.native.network import NativeNetwork
from autoprune.evaluators.native.pieces import supports
from autoprune.evaluators.native.plan import chunk_groups
from autoprune.pruning.calibration import calibrate
from autoprune.pruning.fusion import Program, find_program
from autoprune.training.precision import autocast_dtype

__all__ = ["Network", "Networks", "PlainNetwork"]

_SAMPLE = 4
_TOP1_TOLERANCE = 0.005
_TOLERANCE = 1e-3
"""Of the largest logit. Rounding stays far below it; a wrong program does not."""
_NARROW = 64
"""Channels up to which float32 kernels of our own beat torch's in bfloat16, where the processor has both: candidates of
ResNet-20 (median 32) took 0.58 of its time, of VGG-16 (median 256) 1.5 times as long."""


class Network(Protocol):
    def calibrate(self, batches: Iterable[Tensor]) -> None:
        """Replace the model's BatchNorm statistics by their average over ``batches``."""
        ...

    def fold(self) -> None:
        """Statistics are final: get ready for calls."""
        ...

    def __call__(self, images: Tensor) -> Tensor:
        """(N, C, H, W) float -> logits (N, classes)."""
        ...


class PlainNetwork:
    """The model as it is."""

    def __init__(self, model: nn.Module) -> None:
        self._model = model

    def calibrate(self, batches: Iterable[Tensor]) -> None:
        calibrate(self._model, map(channels_last, batches))

    def fold(self) -> None:
        self._model.eval()

    @torch.no_grad()
    def __call__(self, images: Tensor) -> Tensor:
        logits: Tensor = self._model(channels_last(images))
        return logits


class Networks:
    """Runs the slices of one base model. ``sliced`` makes one of them, to see on a few of the ``images`` (N, C, H, W)
    that the fast way gives the plain one's numbers; ``batch`` images are the most that it is called with.

    ``program`` is None where the plain way runs, ``native`` where torch's convolutions do; ``chunk`` is the number of
    images that go through a layer at once, ``dtype`` that of the multiplications in calls (None: the model's own).
    """

    def __init__(
        self, base: nn.Module, sliced: Callable[[], nn.Module], images: Tensor, labels: Tensor, batch: int
    ) -> None:
        self.program = find_program(base)
        self.chunk = batch
        self.dtype: torch.dtype | None = None
        self.native: NativeMaker | None = None
        if self.program is None:
            return
        if autocast_dtype("auto", images.device.type) is None or _is_narrow(base):
            self.native = _checked_native(self.program, base, sliced, images, batch)
        if self.native is not None:
            self.chunk = self.native.chunk
        elif _agrees(partial(_halves, self.program), sliced, images[:_SAMPLE]):
            self.chunk = chunk_size(self.program, base, images[:1], batch)
            self.dtype = self._checked_dtype(base, images[:batch], labels[:batch])
        else:
            self.program = None

    def network(self, model: nn.Module) -> Network:
        if self.program is None:
            return PlainNetwork(model)
        if self.native is not None:
            return self.native(model)
        return FastNetwork(self.program, model, self.chunk, self.dtype)

    def _checked_dtype(self, base: nn.Module, images: Tensor, labels: Tensor) -> torch.dtype | None:
        """bfloat16 where the processor multiplies it and the base model scores as in float32, else None."""
        dtype = autocast_dtype("auto", images.device.type)
        if dtype is None:
            return None
        scores = []
        for tried in (None, dtype):
            network = FastNetwork(self.program, base, self.chunk, tried)  # type: ignore[arg-type]
            network.fold()
            scores.append(float((network(images).argmax(1) == labels).double().mean()))
        return dtype if abs(scores[0] - scores[1]) <= _TOP1_TOLERANCE else None


class NativeMaker:
    """Makes native networks, which share what memory one of them needs for calibration at a time."""

    def __init__(self, program: Program, library: Library, groups: int) -> None:
        self._program = program
        self._library = library
        self._groups = groups
        self._arenas = threading.local()
        self.chunk = groups * int(library.lanes())

    def __call__(self, model: nn.Module) -> NativeNetwork:
        if not hasattr(self._arenas, "arena"):
            self._arenas.arena = Arena()
        return NativeNetwork(self._program, model, self._library, self._groups, self._arenas.arena)


def _is_narrow(base: nn.Module) -> bool:
    """By the network alone: a timing would let two workers of a search choose differently."""
    channels = [module.in_channels for module in base.modules() if isinstance(module, nn.Conv2d)]
    return bool(channels) and statistics.median(channels) <= _NARROW


def _checked_native(
    program: Program, base: nn.Module, sliced: Callable[[], nn.Module], images: Tensor, batch: int
) -> NativeMaker | None:
    """None where the kernels are not to be had, do not know a convolution, or do not give the plain way's numbers."""
    if images.device.type != "cpu" or not supports(program, base):
        return None
    library = load_library()
    if library is None:
        return None
    lanes = int(library.lanes())
    if not _agrees(NativeMaker(program, library, 1), sliced, images[: lanes + 1]):  # two groups, one of them not full
        return None
    return NativeMaker(program, library, chunk_groups(program, base, images[:1], batch, lanes))


def _halves(program: Program, model: nn.Module) -> FastNetwork:
    """In chunks of half the sample, so that crossing them is seen."""
    return FastNetwork(program, model, -(-_SAMPLE // 2))


def _agrees(make: Callable[[nn.Module], Network], sliced: Callable[[], nn.Module], sample: Tensor) -> bool:
    """Whether this and the plain way calibrate and score alike."""
    plain_model, fast_model = sliced(), sliced()
    try:
        expected, got = (_measured(network, sample) for network in (PlainNetwork(plain_model), make(fast_model)))
    except (RuntimeError, ValueError, TypeError, AttributeError, IndexError):
        return False  # the model's own way will say what is wrong, if it is to blame
    pairs = [(expected, got), *zip(plain_model.buffers(), fast_model.buffers(), strict=True)]
    return all(_close(one, other) for one, other in pairs)


@torch.inference_mode()
def _measured(network: Network, sample: Tensor) -> Tensor:
    network.calibrate([sample])
    network.fold()
    return network(sample)


def _close(expected: Tensor, got: Tensor) -> bool:
    if expected.shape != got.shape:
        return False
    finite = expected[torch.isfinite(expected)]
    scale = float(finite.abs().max()) if finite.numel() else 1.0
    return torch.allclose(expected.double(), got.double(), rtol=_TOLERANCE, atol=_TOLERANCE * scale, equal_nan=True)
