"""Random crops and flips of a whole batch at once, from uint8 and on any device; every image draws its own."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

__all__ = ["EpochPlan", "augment", "padding_for", "plan_epoch", "resized_crop"]

_AREA = (0.08, 1.0)
_LOG_RATIO = (math.log(3 / 4), math.log(4 / 3))
_TRIES = 10
"""Of torchvision's RandomResizedCrop, with its usual ranges of area and of width to height."""


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
    boxes: Tensor | None = None
    """(N, 4) float32: top, left, height, width of a part of each image, as shares of its height and width."""


def plan_epoch(
    n: int,
    padding: int,
    *,
    seed: int,
    epoch: int,
    device: torch.device | str = "cpu",
    shape: tuple[int, int] | None = None,
) -> EpochPlan:
    """A function of (seed, epoch): an interrupted training goes on exactly as it would have.

    With ``shape``, the images' height and width, it has boxes too.

    >>> bool((plan_epoch(5, 4, seed=0, epoch=3).order == plan_epoch(5, 4, seed=0, epoch=3).order).all())
    True
    """
    random = np.random.default_rng((seed, epoch))
    order = torch.from_numpy(random.permutation(n))
    rows, columns = torch.from_numpy(random.integers(0, 2 * padding + 1, (2, n)))
    flips = torch.from_numpy(random.random(n) < 0.5)
    boxes = None if shape is None else torch.from_numpy(_boxes(n, shape[0] / shape[1], random)).to(device)
    return EpochPlan(order.to(device), rows.to(device), columns.to(device), flips.to(device), boxes)


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


def resized_crop(images: Tensor, boxes: Tensor, flips: Tensor) -> Tensor:
    """(N, C, H, W) uint8 -> float32 of the same shape in 0 to 255: each image's box, enlarged bilinearly to the whole.

    Boxes are (N, 4) shares as in :class:`EpochPlan` and need not lie on pixels; ``flips`` (N,) bool mirror.
    """
    top, left, height, width = boxes.unbind(1)
    # affine_grid's coordinates run from -1 to 1 over the image
    maps = boxes.new_zeros(len(boxes), 2, 3)
    maps[:, 0, 0], maps[:, 0, 2] = torch.where(flips, -width, width), 2 * left + width - 1
    maps[:, 1, 1], maps[:, 1, 2] = height, 2 * top + height - 1
    grid = F.affine_grid(maps, list(images.shape), align_corners=False)
    return F.grid_sample(images.float(), grid, mode="bilinear", padding_mode="border", align_corners=False)


def _boxes(n: int, aspect: float, random: np.random.Generator) -> np.ndarray:
    """(n, 4) float32; ``aspect`` is the images' height by width. What does not fit in ten tries is the whole image."""
    size = np.ones((n, 2))
    open_ = np.arange(n)
    for _ in range(_TRIES):
        area = random.uniform(*_AREA, len(open_))
        ratio = np.exp(random.uniform(*_LOG_RATIO, len(open_)))
        drawn = np.sqrt(np.stack([area / (ratio * aspect), area * ratio * aspect], axis=1))
        fits = (drawn <= 1).all(axis=1)
        size[open_[fits]] = drawn[fits]
        open_ = open_[~fits]
    corner = random.random((n, 2)) * (1 - size)
    return np.concatenate([corner, size], axis=1).astype(np.float32)
