"""Memory that is used again: what a sliced network costs is otherwise mostly the first touch of fresh pages."""

from __future__ import annotations

import weakref
from collections.abc import Hashable, Sequence

import numpy as np
import torch
from torch import Tensor

__all__ = ["RecycledMemory"]

_ALIGNMENT = 64


class RecycledMemory:
    """Makes processor tensors by key. A key's memory is used again once no tensor, view or array refers to it.

    At most the last block of each key stays allocated. Safe to use from several threads.
    """

    def __init__(self) -> None:
        self._blocks: dict[Hashable, tuple[np.ndarray, weakref.ref[np.ndarray]]] = {}
        """Key -> a block, and the part of it that a tensor's storage holds on to as long as it lives."""

    def empty(self, key: Hashable, shape: Sequence[int], dtype: torch.dtype) -> Tensor:
        """A contiguous tensor with a storage of its own of just its size; the values are arbitrary."""
        size = dtype.itemsize
        for extent in shape:
            size *= extent
        block = self._free_block(key, size + _ALIGNMENT)
        start = -block.ctypes.data % _ALIGNMENT
        part = block[start : start + size]
        self._blocks[key] = (block, weakref.ref(part))
        return torch.from_numpy(part).view(dtype).view(*shape)

    def _free_block(self, key: Hashable, least: int) -> np.ndarray:
        block, part = self._blocks.pop(key, (None, None))  # taken out: no other thread has it
        if block is None or part is None or part() is not None or len(block) < least:
            return np.empty(least, np.uint8)
        return block
