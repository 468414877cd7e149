"""``torch.compile`` for a training, tried before it is relied on."""

from __future__ import annotations

import warnings
from collections.abc import Callable

import torch
from torch import Tensor, nn

__all__ = ["compiled"]


def compiled(model: nn.Module, images: Tensor, dtype: torch.dtype | None) -> Callable[[Tensor], Tensor]:
    """``model`` compiled for training on batches like ``images``; ``model`` itself, with a warning, where that fails.

    One step is run forwards and backwards, since half of what is compiled is compiled only then; it leaves weights,
    buffers and random numbers as they were. ``dtype`` is that of autocast.
    """
    buffers = [buffer.clone() for buffer in model.buffers()]
    try:
        run: Callable[[Tensor], Tensor] = torch.compile(model, dynamic=False)
        with torch.random.fork_rng([images.device] if images.is_cuda else []):
            with torch.autocast(images.device.type, dtype, enabled=dtype is not None):
                logits = run(images)
            logits.float().sum().backward()
    except Exception as error:  # noqa: BLE001 (compilers fail in their own ways: no C++ compiler, no Triton, a graph they cannot take)
        reason = next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
        warnings.warn(
            f"torch.compile failed, training goes on without it: {reason} Set recipe.compile to false to skip the try.",
            stacklevel=2,
        )
        run = model
    with torch.no_grad():
        for buffer, before in zip(model.buffers(), buffers, strict=True):
            buffer.copy_(before)
    model.zero_grad(set_to_none=True)
    return run
