"""A moving average of the weights, which is scored and kept in place of the last weights."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

__all__ = ["MovingAverage"]


class MovingAverage:
    """Exponential moving average of a model's floating-point parameters and buffers (BatchNorm's statistics).

    After update number t (from 1) the average is ``d * average + (1 - d) * weights`` with
    ``d = min(decay, (1 + t) / (10 + t))``: a short training is not held back by its random start.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self._decay = decay
        self._updates = 0
        self._live = [
            tensor.detach() for tensor in (*model.parameters(), *model.buffers()) if tensor.is_floating_point()
        ]
        self._kept = [tensor.clone() for tensor in self._live]

    @torch.no_grad()
    def update(self) -> None:
        """Take in the weights as they are after a step."""
        self._updates += 1
        decay = min(self._decay, (1 + self._updates) / (10 + self._updates))
        torch._foreach_lerp_(self._kept, self._live, 1 - decay)

    @torch.no_grad()
    def swap(self) -> None:
        """Exchange average and weights; the model then computes with the average, until this is called again."""
        for live, kept in zip(self._live, self._kept, strict=True):
            before = live.clone()
            live.copy_(kept)
            kept.copy_(before)

    def state(self) -> dict[str, Any]:
        return {"updates": self._updates, "tensors": list(self._kept)}

    @torch.no_grad()
    def load_state(self, state: Mapping[str, Any]) -> None:
        """Raises KeyError, ValueError or RuntimeError when it is of another model."""
        for kept, tensor in zip(self._kept, state["tensors"], strict=True):
            kept.copy_(tensor)
        self._updates = int(state["updates"])
