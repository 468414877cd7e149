"""What makes a convolution's weights depend on the widths: a small perceptron a convolution, cropped as it multiplies.

Liu et al., "MetaPruning" (ICCV 2019), section 3.1: two linear layers with a ReLU between them, whose output is the
full kernel, of which the first channels are used. The bias of the second layer is the network's own weight, so what is
here is the part that depends on the encoding.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

__all__ = ["FactoredGenerator", "Generator", "crop"]

Kept = Mapping[int, Tensor]
"""Dimension -> positions that stay, ascending (int64, on the CPU); dimensions that it does not name stay whole."""


def crop(tensor: Tensor, kept: Kept) -> Tensor:
    """The kept positions; a view where they are the first ones.

    >>> crop(torch.arange(6).view(2, 3), {1: torch.tensor([0, 1])})
    tensor([[0, 1],
            [3, 4]])
    """
    for dim, positions in kept.items():
        tensor = _part(tensor, dim, positions)
    return tensor


class Generator(nn.Module):
    """The second layer is a full matrix: ``hidden`` numbers for each weight of the kernel."""

    def __init__(self, shape: Sequence[int], inputs: int, hidden: int, std: float) -> None:
        super().__init__()
        self.shape = tuple(shape)
        self.first = _first(inputs, hidden)
        self.second = nn.Parameter(torch.randn(shape[0], math.prod(shape[1:]), hidden) * std)
        """(C_out, C_in * kernel, hidden); with three dimensions, so that no memory format applies to it."""

    def forward(self, encoding: Tensor, kept: Kept) -> Tensor:
        """Encoding (inputs,) -> (C_out, C_in, *kernel), cut along the first two dimensions to what is kept."""
        return _Product.apply(self.second, _hidden(self.first, encoding), self.shape, kept)


class FactoredGenerator(nn.Module):
    """Each hidden unit's part of the kernel is a matrix (C_out, C_in * kernel) of low ``rank``.

    ``sum_j h_j U_j V_j`` with U_j (C_out, rank) and V_j (rank, C_in * kernel): hidden * rank * (C_out + C_in * kernel)
    numbers in place of hidden * C_out * C_in * kernel.
    """

    def __init__(self, shape: Sequence[int], inputs: int, hidden: int, std: float, rank: int) -> None:
        super().__init__()
        self.shape = tuple(shape)
        self.rank = rank
        self.first = _first(inputs, hidden)
        columns = math.prod(shape[1:])
        right = math.sqrt(hidden / columns)
        self.left = nn.Parameter(torch.randn(shape[0], hidden * rank) * (std / (right * math.sqrt(rank))))
        self.right = nn.Parameter(torch.randn(columns, hidden * rank) * right)

    def forward(self, encoding: Tensor, kept: Kept) -> Tensor:
        """See :meth:`Generator.forward`."""
        left = crop(self.left, {0: kept[0]} if 0 in kept else {})
        right = self.right.view(*self.shape[1:], -1)
        right = crop(right, {0: kept[1]} if 1 in kept else {})
        hidden = _hidden(self.first, encoding).repeat_interleave(self.rank)
        return ((left * hidden) @ right.flatten(0, -2).T).view(len(left), *right.shape[:-1])


def _first(inputs: int, hidden: int) -> nn.Linear:
    """Its outputs begin with a sum of squares of about one after the ReLU.

    A step of the second layer then moves a kernel as far as the same step of the network's own weight does.
    """
    layer = nn.Linear(inputs, hidden)
    bound = math.sqrt(6.0 / hidden)
    nn.init.uniform_(layer.weight, -bound / math.sqrt(inputs), bound / math.sqrt(inputs))
    nn.init.uniform_(layer.bias, -bound, bound)
    return layer


def _hidden(first: nn.Linear, encoding: Tensor) -> Tensor:
    return F.relu(first(encoding))


def _part(tensor: Tensor, dim: int, positions: Tensor) -> Tensor:
    if int(positions[-1]) + 1 == len(positions):
        return tensor.narrow(dim, 0, len(positions))
    return tensor.index_select(dim, positions.to(tensor.device))


class _Product(torch.autograd.Function):
    """The cropped part of ``second @ hidden``; the gradient is written once, into that part of zeros."""

    @staticmethod
    def forward(ctx: Any, second: Tensor, hidden: Tensor, shape: tuple[int, ...], kept: Kept) -> Tensor:
        ctx.shape, ctx.kept = shape, kept
        ctx.save_for_backward(second, hidden)
        part = crop(second.view(*shape[:2], -1, second.shape[2]), kept)
        rows, columns = part.shape[:2]
        product = torch.bmm(part.flatten(1, 2), hidden.view(1, -1, 1).expand(rows, -1, 1))
        return product.view(rows, columns, *shape[2:])

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, None, None]:
        second, hidden = ctx.saved_tensors
        shape, kept = ctx.shape, ctx.kept
        full = second.view(*shape[:2], -1, second.shape[2])
        part = crop(full, kept)
        gradient = gradients[0].reshape(*part.shape[:3])
        result = torch.zeros_like(second)
        target = result.view(full.shape)
        if all(int(positions[-1]) + 1 == len(positions) for positions in kept.values()):
            torch.mul(gradient.unsqueeze(-1), hidden, out=crop(target, kept))
        else:
            rows, columns = (kept.get(dim, torch.arange(shape[dim])).to(second.device) for dim in (0, 1))
            target[rows[:, None], columns] = gradient.unsqueeze(-1) * hidden
        flat = gradient.reshape(len(gradient), 1, -1)
        return result, torch.bmm(flat, part.flatten(1, 2)).sum((0, 1)), None, None
