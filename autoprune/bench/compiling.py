"""What finding groups, cutting a candidate and costing a million of them take."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from autoprune.bench.repeats import seconds
from autoprune.cost.trace import trace
from autoprune.pruning.groups import discover
from autoprune.pruning.slicing import Slicer

__all__ = ["Compiling", "measure_compiling"]

CANDIDATES = 1_000_000


@dataclass(frozen=True)
class Compiling:
    """Seconds of each repeat."""

    groups: int
    discover: tuple[float, ...]
    """Groups found and each checked to be exact."""
    unchecked: tuple[float, ...]
    """Groups found only."""
    trace: tuple[float, ...]
    plan: tuple[float, ...]
    slice: tuple[float, ...]
    million: tuple[float, ...]
    """MACs of a million candidates."""


def measure_compiling(
    model: nn.Module, size: int, *, repeats: int = 3, clock: Callable[[], float] = time.perf_counter
) -> Compiling:
    """A model for images of 3 x ``size`` x ``size``; candidates keep every second unit."""
    model = model.eval()
    example = torch.randn(1, 3, size, size)
    groups = discover(model, example).groups
    slicer, table = Slicer(model, groups), trace(model, example, groups)
    half = {group.name: np.arange(group.units)[::2] for group in groups}
    widths = np.random.default_rng(0).integers(1, table.channels + 1, (CANDIDATES, len(groups)))

    def taken(call: Callable[[], object], times: int = repeats) -> tuple[float, ...]:
        return tuple(seconds(call, times, clock, warm_up=False))

    return Compiling(
        groups=len(groups),
        discover=taken(lambda: discover(model, example)),
        unchecked=taken(lambda: discover(model, example, check=False)),
        trace=taken(lambda: trace(model, example, groups)),
        plan=taken(lambda: Slicer(model, groups)),
        slice=taken(lambda: slicer(half), 20),
        million=taken(lambda: table.macs(widths)),
    )
