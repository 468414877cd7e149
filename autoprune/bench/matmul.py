"""The most that this machine multiplies: the product of two square matrices on one thread."""

from __future__ import annotations

import time
from collections.abc import Callable

import torch

from autoprune.bench.repeats import seconds

__all__ = ["matmul_gflops"]


def matmul_gflops(
    dtype: torch.dtype = torch.float32,
    *,
    size: int = 1024,
    repeats: int = 10,
    clock: Callable[[], float] = time.perf_counter,
) -> list[float]:
    """GFLOP/s (2 a multiply-accumulate) of each repeat, on as many threads as torch has now."""
    left, right = torch.randn(size, size).to(dtype), torch.randn(size, size).to(dtype)
    return [2 * size**3 / each / 1e9 for each in seconds(lambda: torch.mm(left, right), repeats, clock)]
