"""Random crops and flips of a whole batch at once, on uint8 and on any device; every image draws its own."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

__all__ = ["EpochPlan", "augment", "padding_for", "plan_epoch"]


@dataclass(frozen=True, eq=False)
class EpochPlan:
    """What one epoch draws at random, for each image in the order of visiting."""

    order: Tensor
    """(N,) int64: indices of the images."""
    rows: Tensor
    """(N,) int64: first row of the crop, 0 to 2 * padding."""
    columns: Tensor
    flips: Tensor
    """(N,) bool."""


def plan_epoch(n: int, padding: int, *, seed: int, epoch: int, device: torch.device | str = "cpu") -> EpochPlan:
    """A function of (seed, epoch): an interrupted training goes on exactly as it would have.

    >>> bool((plan_epoch(5, 4, seed=0, epoch=3).order == plan_epoch(5, 4, seed=0, epoch=3).order).all())
    True
    """
    random = np.random.default_rng((seed, epoch))
    order = torch.from_numpy(random.permutation(n))
    rows, columns = torch.from_numpy(random.integers(0, 2 * padding + 1, (2, n)))
    flips = torch.from_numpy(random.random(n) < 0.5)
    return EpochPlan(order.to(device), rows.to(device), columns.to(device), flips.to(device))


def padding_for(image_size: int) -> int:
    """Pixels of zeros around an image before the crop: 4 for 32 pixels, in proportion, at least 1."""
    return max(1, image_size // 8)


def augment(images: Tensor, rows: Tensor, columns: Tensor, flips: Tensor | None, padding: int) -> Tensor:
    """(N, C, H, W) uint8 -> the same shape: pad with zeros, cut each image at its row and column, mirror where told."""
    height, width = images.shape[2:]
    # All windows as a view, of which each image picks one: no copy but the result.
    windows = F.pad(images, (padding,) * 4).unfold(2, height, 1).unfold(3, width, 1)
    cut = windows[torch.arange(len(images), device=images.device), :, rows, columns]
    return cut if flips is None else torch.where(flips.view(-1, 1, 1, 1), cut.flip(-1), cut)
