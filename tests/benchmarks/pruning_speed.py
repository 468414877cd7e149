"""Times of discovery, tracing, slicing and costing: ``OMP_NUM_THREADS=1 python tests/benchmarks/pruning_speed.py``."""

from __future__ import annotations

from torch import nn

from autoprune.bench.compiling import measure_compiling
from autoprune.config.schema import BuiltinModel
from autoprune.models.registry import build
from autoprune.models.torchvision_shim import torchvision

PARTS = ("discover", "unchecked", "trace", "plan", "slice", "million")


def best_ms(model: nn.Module, size: int) -> dict[str, float]:
    """The least of the repeats, in milliseconds."""
    found = measure_compiling(model, size)
    times = {name: 1e3 * min(getattr(found, name)) for name in PARTS}
    return {"groups": found.groups, **times}


def main() -> None:
    for name in ("resnet20", "vgg16_bn"):
        print(name, best_ms(build(BuiltinModel(name=name), num_classes=10, in_channels=3), 32))
    for name in ("resnet50", "densenet201"):
        print(name, best_ms(torchvision.models.get_model(name, weights=None), 224))


if __name__ == "__main__":
    main()
