"""A random pruned candidate of many families in every format, verified by running it.

``save_program`` and ``save_bundle`` refuse what does not reproduce the module; here they must succeed, and a batch of
a size that nothing was traced with is run once more. BatchNorm statistics are random, so that folding shows.
"""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import autoprune
from autoprune.config.schema import TorchvisionModel
from autoprune.exporters.bundle import load_model, save_bundle
from autoprune.exporters.description import Description
from autoprune.exporters.formats import read_metadata, save_program
from autoprune.models import registry
from autoprune.pruning.equivalence import max_error
from autoprune.pruning.groups import discover
from autoprune.pruning.slicing import slice_model
from autoprune.space.space import SearchSpace

SHAPE = (3, 64, 64)
PROGRAMS = ("onnx", "torch_export", "torchscript")
QUICK = ("squeezenet1_1", "shufflenet_v2_x0_5")
"""A family for each of: no BatchNorm and concatenation; splits, shuffles and depthwise layers."""
SLOW = (
    "resnet18",
    "densenet121",
    "googlenet",
    "efficientnet_b0",
    "shufflenet_v2_x1_0",
    "mobilenet_v2",
    "mobilenet_v3_small",
    "mnasnet1_0",
    "regnet_y_400mf",
    "resnext50_32x4d",
    "convnext_tiny",
    "swin_t",
)
VARIANTS = (*((format, False) for format in PROGRAMS), ("onnx", True))


def pruned(config: TorchvisionModel) -> tuple[nn.Module, dict[str, int]]:
    torch.manual_seed(0)
    model = registry.build(config, num_classes=10, in_channels=3).eval()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.8, 1.2)
            nn.init.normal_(module.running_mean, std=0.1)
            nn.init.uniform_(module.running_var, 0.8, 1.2)
    groups = discover(model, torch.zeros(1, *SHAPE), check=False).groups
    assert groups
    rng = np.random.default_rng(1)
    keep = {g.name: np.sort(rng.choice(g.units, rng.integers(1, g.units + 1), replace=False)) for g in groups}
    return slice_model(model, groups, keep).eval(), {group.name: len(keep[group.name]) * group.unit for group in groups}


def reproduces(folder: Path, format: str, model: nn.Module) -> None:
    backend: Any = import_module(f"autoprune.exporters.{format}")
    images = torch.randn(7, *SHAPE)
    (got,) = backend.load(folder / backend.FILE)((images,))
    with torch.no_grad():
        expected = model(images)
    assert got.shape == (7, 10)
    assert float((got - expected).abs().max()) < 1e-4 * float(expected.abs().max())


def check_family(name: str, tmp_path: Path, variants: tuple[tuple[str, bool], ...]) -> None:
    config = TorchvisionModel(kind="torchvision", name=name)
    model, widths = pruned(config)
    norms = sum(isinstance(module, nn.BatchNorm2d) for module in model.modules())
    for format, fold in variants:
        folder = tmp_path / f"{format}-{fold}"
        save_program(folder, model, (torch.zeros(1, *SHAPE),), format=format, metadata={}, fold_bn=fold)
        reproduces(folder, format, model)
        facts = read_metadata(folder)
        assert facts is not None
        assert (int(facts["folded_batchnorms"]) > 0) == (fold and norms > 0)
    described = Description(config, 10, SHAPE, (0.0,) * 3, (1.0,) * 3, (), widths, {}, {})
    loaded = load_model(save_bundle(tmp_path / "bundle", model, described))
    assert {key: item.shape for key, item in loaded.state_dict().items()} == {
        key: item.shape for key, item in model.state_dict().items()
    }


@pytest.mark.parametrize("name", QUICK)
def test_a_family(name: str, tmp_path: Path) -> None:
    check_family(name, tmp_path, (("torchscript", False), ("onnx", True)))


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("name", SLOW)
def test_a_large_family(name: str, tmp_path: Path) -> None:
    check_family(name, tmp_path, VARIANTS)


@pytest.mark.slow
def test_heads_that_only_training_runs_are_exported_without(tmp_path: Path) -> None:
    """GoogLeNet's auxiliary classifiers read channels that are cut, and eval mode never calls them."""
    config = TorchvisionModel(kind="torchvision", name="googlenet", args={"aux_logits": True})
    model, _ = pruned(config)
    save_program(tmp_path / "out", model, (torch.zeros(1, *SHAPE),), format="onnx", metadata={}, fold_bn=True)
    reproduces(tmp_path / "out", "onnx", model)


class Pair(nn.Module):
    """An image and facts about it, two outputs."""

    def __init__(self) -> None:
        super().__init__()
        self.left = nn.Sequential(nn.Conv2d(3, 12, 3), nn.BatchNorm2d(12), nn.ReLU())
        self.right = nn.Linear(5, 8)
        self.head = nn.Linear(20, 4)

    def forward(self, images: Tensor, facts: Tensor) -> tuple[Tensor, Tensor]:
        logits = self.head(torch.cat([self.left(images).mean((2, 3)), self.right(facts)], 1))
        return logits, logits.softmax(1)


@pytest.mark.parametrize("format", PROGRAMS)
def test_a_pruned_model_of_two_inputs(format: str, tmp_path: Path) -> None:
    model, example = Pair().eval(), (torch.rand(1, 3, 8, 8), torch.rand(1, 5))
    groups = SearchSpace.from_module(model, example).groups
    keep = {group.name: np.arange(group.units)[1::2] for group in groups}
    assert max_error(model, groups, example, keep) <= 1e-9
    small = slice_model(model, groups, keep).eval()
    folder = autoprune.export_module(small, example, tmp_path / "out", format=format, fold_bn=format == "onnx")
    backend: Any = import_module(f"autoprune.exporters.{format}")
    inputs = (torch.rand(4, 3, 8, 8), torch.rand(4, 5))
    with torch.no_grad():
        expected = small(*inputs)
    for got, wanted in zip(backend.load(folder / backend.FILE)(inputs), expected, strict=True):
        torch.testing.assert_close(got, wanted, rtol=1e-4, atol=1e-5)
