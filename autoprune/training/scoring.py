"""From uint8 images to accuracy and loss."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from autoprune.data.dataset import Split

__all__ = ["normalise", "score"]


def normalise(images: Tensor, mean: Sequence[float], std: Sequence[float]) -> Tensor:
    """(N, C, H, W) uint8 -> float32 of the same shape, device and memory format: ``(pixel / 255 - mean) / std``.

    >>> normalise(torch.tensor([[[[0, 255]]]], dtype=torch.uint8), [0.5], [0.25]).flatten().tolist()
    [-2.0, 2.0]
    """
    shape = (1, -1, 1, 1)
    shift = torch.tensor(mean, dtype=torch.float32, device=images.device).view(shape) * 255
    scale = 1 / (torch.tensor(std, dtype=torch.float32, device=images.device).view(shape) * 255)
    return images.float().sub_(shift).mul_(scale)


@torch.inference_mode()
def score(
    model: nn.Module,
    split: Split,
    *,
    mean: Sequence[float],
    std: Sequence[float],
    batch_size: int,
    run: Callable[[Tensor], Tensor] | None = None,
) -> dict[str, float]:
    """``top1`` (share of the images whose largest logit is the label) and ``loss`` (mean cross-entropy, nats).

    The model is run in evaluation mode where it lies and left in the mode it had; ``run`` is another way to put
    images (N, C, H, W) through it. Both metrics are NaN when a logit is not finite. Raises ValueError for an empty
    split.
    """
    if not len(split):
        raise ValueError("cannot score on no images")
    device = next((tensor.device for tensor in model.parameters()), torch.device("cpu"))
    training = model.training
    model.eval()
    correct, loss = 0, 0.0
    try:
        for start in range(0, len(split), batch_size):
            # torch.tensor copies: arrays from a memory map or Ray's object store are read-only, which torch warns of.
            images = torch.tensor(split.images[start : start + batch_size], device=device)
            labels = torch.tensor(split.labels[start : start + batch_size], device=device)
            images = images.contiguous(memory_format=torch.channels_last)
            logits = (run or model)(normalise(images, mean, std)).float()
            if not bool(torch.isfinite(logits).all()):
                return {"top1": math.nan, "loss": math.nan}
            correct += int((logits.argmax(1) == labels).sum())
            loss += float(F.cross_entropy(logits, labels, reduction="sum"))
    finally:
        model.train(training)
    return {"top1": correct / len(split), "loss": loss / len(split)}
