"""Times of discovery, tracing, slicing and costing: ``OMP_NUM_THREADS=1 python tests/benchmarks/pruning_speed.py``."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
import torch
from torch import nn

from autoprune.config.schema import BuiltinModel
from autoprune.cost.trace import trace
from autoprune.models.registry import build
from autoprune.models.torchvision_shim import torchvision
from autoprune.pruning.groups import discover
from autoprune.pruning.slicing import Slicer

_CANDIDATES = 1_000_000


def best_ms(run: Callable[[], object], repeats: int) -> float:
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        run()
        times.append(time.perf_counter() - start)
    return min(times) * 1e3


def measure(model: nn.Module, size: int) -> dict[str, float]:
    example = torch.randn(1, 3, size, size)
    groups = discover(model, example).groups
    slicer, table = Slicer(model, groups), trace(model, example, groups)
    half = {group.name: np.arange(group.units)[::2] for group in groups}
    widths = np.random.default_rng(0).integers(1, table.channels + 1, (_CANDIDATES, len(groups)))
    return {
        "groups": len(groups),
        "discover": best_ms(lambda: discover(model, example), 3),
        "unchecked": best_ms(lambda: discover(model, example, check=False), 3),
        "trace": best_ms(lambda: trace(model, example, groups), 3),
        "plan": best_ms(lambda: Slicer(model, groups), 3),
        "slice": best_ms(lambda: slicer(half), 20),
        "macs_of_1M": best_ms(lambda: table.macs(widths), 2),
    }


def main() -> None:
    for name in ("resnet20", "vgg16_bn"):
        print(name, measure(build(BuiltinModel(name=name), num_classes=10, in_channels=3), 32))
    for name in ("resnet50", "densenet201"):
        print(name, measure(torchvision.models.get_model(name, weights=None), 224))


if __name__ == "__main__":
    main()
