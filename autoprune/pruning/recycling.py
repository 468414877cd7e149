"""Memory that is used again: what a sliced network costs is otherwise mostly the first touch of fresh pages."""

from __future__ import annotations

import sys
from collections.abc import Hashable, Sequence

import numpy as np
import torch
from torch import Tensor

__all__ = ["RecycledMemory"]

_ALIGNMENT = 64
_UNSHARED = 2
"""What ``sys.getrefcount`` counts for a block that only its caller refers to."""


class RecycledMemory:
    """Makes processor tensors by key. A key's memory is used again once no tensor, view or array refers to it.

    At most the largest tensor of each key stays allocated. Safe to use from several threads.
    """

    def __init__(self) -> None:
        self._blocks: dict[Hashable, np.ndarray] = {}

    def empty(self, key: Hashable, shape: Sequence[int], dtype: torch.dtype) -> Tensor:
        """A contiguous tensor with a storage of its own of just its size; the values are arbitrary."""
        size = dtype.itemsize
        for extent in shape:
            size *= extent
        block = self._blocks.pop(key, None)  # taken out: no other thread has it
        if block is None or len(block) < size + _ALIGNMENT or sys.getrefcount(block) > _UNSHARED:
            block = np.empty(size + _ALIGNMENT, np.uint8)
        start = -block.ctypes.data % _ALIGNMENT
        tensor = torch.from_numpy(block[start : start + size]).view(dtype).view(*shape)
        self._blocks[key] = block
        return tensor
