"""What a layer multiplies its filters with, at sampled places: the rows of its least-squares problem."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.modules.conv import _ConvNd

__all__ = ["map_sizes", "outputs_at", "patches_at", "sample_places"]


def map_sizes(layer: nn.Module, output: Tensor) -> tuple[int, ...]:
    """The places of a layer's output: spatial sizes of a convolution, what lies between batch and features else."""
    return tuple(output.shape[2:] if isinstance(layer, _ConvNd) else output.shape[1:-1])


def sample_places(first: int, images: int, sizes: Sequence[int], per_image: int) -> Tensor:
    """Places of an output (images, sizes...): ``per_image`` of each image, or all that there are: (rows, 1 +
    dimensions) int64, the image first.

    ``first`` is the number of images that came before in other batches: how images are split changes nothing. Places
    follow the additive recurrence of the generalised golden ratio, which fills the map evenly from image to image.
    """
    available = math.prod(sizes)
    image = torch.arange(images).repeat_interleave(min(per_image, available))
    if available <= per_image:
        return torch.cat([image[:, None], torch.ones(tuple(sizes)).nonzero().repeat(images, 1)], 1)
    number = torch.arange(1, len(image) + 1, dtype=torch.float64) + first * per_image
    root = 2.0
    for _ in range(64):  # the root of x^(d+1) = x + 1
        root = (1 + root) ** (1 / (len(sizes) + 1))
    spread = [((number * root ** -(dim + 1)) % 1 * size).long() for dim, size in enumerate(sizes)]
    return torch.stack([image, *spread], 1)


def patches_at(layer: nn.Module, inputs: Tensor, places: Tensor) -> Tensor:
    """The part of ``inputs`` that the layer's filters see at each place of its output, padding included.

    ``inputs`` is (N, channels, spatial...) for a convolution and (N, ..., features) for a linear layer. The result is
    (rows, groups, channels of a group * kernel positions), ordered like a flattened filter.
    """
    image, *where = places.to(inputs.device).unbind(1)
    if not isinstance(layer, _ConvNd):
        return inputs[(image, *where)][:, None, :]
    if any(layer._reversed_padding_repeated_twice):
        mode = "constant" if layer.padding_mode == "zeros" else layer.padding_mode
        inputs = F.pad(inputs, list(layer._reversed_padding_repeated_twice), mode)
    rank = len(where)
    index = [image.view(-1, *[1] * rank)]
    for dim, position in enumerate(where):
        taps = torch.arange(layer.kernel_size[dim], device=inputs.device) * layer.dilation[dim]
        shape = [1] * (rank + 1)
        shape[dim + 1] = -1
        index.append(position.view(-1, *[1] * rank) * layer.stride[dim] + taps.view(shape))
    found = inputs.movedim(1, -1)[tuple(index)].movedim(-1, 1)  # (rows, channels, kernel...)
    return found.reshape(len(places), layer.groups, -1)


def outputs_at(layer: nn.Module, outputs: Tensor, places: Tensor) -> Tensor:
    """What the layer gives there: (rows, filters)."""
    last = outputs.movedim(1, -1) if isinstance(layer, _ConvNd) else outputs
    return last[tuple(places.to(outputs.device).unbind(1))]
