"""How a sliced model is run: fused and in chunks where that was seen to give the model's own numbers, else plainly."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Protocol

import torch
from torch import Tensor, nn

from autoprune.evaluators.fast import FastNetwork, chunk_size
from autoprune.pruning.calibration import calibrate
from autoprune.pruning.fusion import Program, find_program
from autoprune.training.precision import autocast_dtype

__all__ = ["Network", "Networks", "PlainNetwork"]

_SAMPLE = 4
_TOP1_TOLERANCE = 0.005
_TOLERANCE = 1e-3
"""Of the largest logit. Rounding stays far below it; a wrong program does not."""


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
        calibrate(self._model, batches)

    def fold(self) -> None:
        self._model.eval()

    @torch.no_grad()
    def __call__(self, images: Tensor) -> Tensor:
        logits: Tensor = self._model(images)
        return logits


class Networks:
    """Runs the slices of one base model. ``sliced`` makes one of them, to see on a few of the ``images`` (N, C, H, W)
    that the fast way gives the plain one's numbers; ``batch`` images are the most that it is called with."""

    def __init__(
        self, base: nn.Module, sliced: Callable[[], nn.Module], images: Tensor, labels: Tensor, batch: int
    ) -> None:
        self.program = find_program(base)
        self.chunk = batch
        self.dtype: torch.dtype | None = None
        if self.program is not None and not _agrees(self.program, sliced, images[:_SAMPLE]):
            self.program = None
        if self.program is not None:
            self.chunk = chunk_size(self.program, base, images[:1], batch)
            self.dtype = self._checked_dtype(base, images[:batch], labels[:batch])

    def network(self, model: nn.Module) -> Network:
        if self.program is None:
            return PlainNetwork(model)
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


def _agrees(program: Program, sliced: Callable[[], nn.Module], sample: Tensor) -> bool:
    """Whether both ways calibrate and score alike; chunks of half the sample, so that crossing them is seen."""
    plain_model, fast_model = sliced(), sliced()
    plain = PlainNetwork(plain_model)
    fast = FastNetwork(program, fast_model, -(-len(sample) // 2))
    try:
        expected, got = (_measured(network, sample) for network in (plain, fast))
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
