"""Published MACs of whole families, reached by discovering groups on our models and reading the cost table."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from autoprune.config.schema import BuiltinModel, TorchvisionModel
from autoprune.cost.table import CostTable
from autoprune.cost.trace import trace
from autoprune.models.registry import build
from autoprune.models.torchvision_source import build_torchvision
from autoprune.pruning.groups import discover
from autoprune.retraining.arms import scratch_b_epochs
from autoprune.types import Candidate


def cost_table(name: str, size: int, classes: int, **args: object) -> CostTable:
    model = build(BuiltinModel(name=name, args=args), num_classes=classes, in_channels=3)
    example = torch.zeros(1, 3, size, size)
    return trace(model, example, discover(model, example, check=False).groups)


@pytest.fixture(scope="module")
def mobilenet_v1() -> CostTable:
    return cost_table("mobilenet_v1", 224, 1000)


def measure(table: CostTable, widths: list[int]) -> dict[str, float]:
    return table.measure(Candidate(dict(zip(table.groups, widths, strict=True))))


@pytest.mark.parametrize(
    ("ratio", "macs"), [(1.0, 568_740_352), (0.75, 325_400_448), (0.5, 149_497_088), (0.25, 41_030_272)]
)
def test_mobilenet_v1_width_multipliers(mobilenet_v1: CostTable, ratio: float, macs: int) -> None:
    """Howard et al. 2017, table 6, to the last digit (569 / 325 / 149 / 41 million there)."""
    assert measure(mobilenet_v1, (mobilenet_v1.channels * ratio).astype(int).tolist())["macs"] == macs


def test_amc_published_mobilenet_v1_is_52_percent(mobilenet_v1: CostTable) -> None:
    """The channel list that AMC (He et al. 2018) released as its 50 % FLOPs model counts 293.87 M MACs.

    The list was written down from memory; that its total is the known one is what vouches for it.
    """
    widths = [24, 48, 96, 80, 192, 200, 328, 352, 368, 360, 328, 400, 736, 752]
    assert measure(mobilenet_v1, widths)["macs"] == pytest.approx(293.87e6, abs=5e3)


def test_vgg16_a() -> None:
    """Li et al. 2017, table 1: VGG-16-A saves 34.2 % of the FLOPs and 64.0 % of the parameters on CIFAR-10."""
    table = cost_table("vgg16_bn", 32, 10)
    metrics = measure(table, [32, 64, 128, 128, *[256] * 9])
    assert metrics["macs"] / table.baseline["macs"] - 1 == pytest.approx(-0.342, abs=5e-4)
    assert metrics["params"] / table.baseline["params"] - 1 == pytest.approx(-0.640, abs=5e-3)
    assert scratch_b_epochs(160, table.baseline["macs"] / metrics["macs"]) == 243, "Liu et al. 2019"


@pytest.mark.parametrize(
    ("depth", "rates", "kept", "saved", "epochs"),
    [
        (56, (0.1, 0.1, 0.1), {16, 20, 38, 54}, 0.104, 178),
        (56, (0.6, 0.3, 0.1), {16, 18, 20, 34, 38, 54}, 0.275, 220),
        (110, (0.5, 0.0, 0.0), {36}, 0.159, 190),
        (110, (0.5, 0.4, 0.3), {36, 38, 74}, 0.385, 260),
    ],
    ids=["56-A", "56-B", "110-A", "110-B"],
)
def test_resnets_of_the_l1_paper(
    depth: int, rates: tuple[float, ...], kept: set[int], saved: float, epochs: int
) -> None:
    """Li et al. 2017, table 1: only first convolutions of blocks shrink; ``kept`` are convolution numbers, from 1.

    The paper rounds to 0.1 points and counts small terms beside convolutions: within 0.2 points. ``epochs``: of
    Scratch-B after 160 (Liu et al. 2019).
    """
    table = cost_table(f"resnet{depth}", 32, 10, shortcut="A")
    widths = {}
    for group, channels in zip(table.groups, table.channels.tolist(), strict=True):
        stage, block = int(group[len("layer")]) - 1, int(group.split(".")[1])
        number = 2 + 2 * (stage * (depth - 2) // 6 + block)
        if number not in kept:
            widths[group] = int(channels * (1 - rates[stage]))
    macs = table.measure(Candidate(widths))["macs"]
    assert 1 - macs / table.baseline["macs"] == pytest.approx(saved, abs=2e-3)
    assert scratch_b_epochs(160, 1 / (1 - saved)) == epochs
    assert scratch_b_epochs(160, table.baseline["macs"] / macs) == pytest.approx(epochs, abs=1), "by our MACs"


@pytest.mark.parametrize(
    ("rates", "saved", "epochs"), [((0.3, 0.3, 0.3), 0.154, 106), ((0.5, 0.6, 0.4), 0.24, 118)], ids=["34-A", "34-B"]
)
def test_resnet34_of_the_l1_paper(rates: tuple[float, ...], saved: float, epochs: int) -> None:
    """Li et al. 2017, table 1, on ImageNet; Scratch-B after 90 epochs (Liu et al. 2019). The first block of each stage,
    the last of the second and third and the whole fourth stage keep their widths."""
    model = build_torchvision(TorchvisionModel(kind="torchvision", name="resnet34"), num_classes=1000, in_channels=3)
    example = torch.zeros(1, 3, 224, 224)
    table = trace(model, example, discover(model, example, check=False).groups)
    kept = {"layer1.0", "layer2.0", "layer2.3", "layer3.0", "layer3.5"}
    widths = {}
    for group, channels in zip(table.groups, table.channels.tolist(), strict=True):
        block, _, layer = group.rpartition(".")
        if block and layer == "conv1" and block not in kept and not block.startswith("layer4"):
            widths[group] = int(channels * (1 - rates[int(block[len("layer")]) - 1]))
    macs = table.measure(Candidate(widths))["macs"]
    assert 1 - macs / table.baseline["macs"] == pytest.approx(saved, abs=2e-3)
    assert scratch_b_epochs(90, 1 / (1 - saved)) == epochs
    assert scratch_b_epochs(90, table.baseline["macs"] / macs) == pytest.approx(epochs, abs=1), "by our MACs"


def test_resnet56_baseline() -> None:
    """He et al. 2016, section 4.2 (125.5 million multiply-adds), and Li et al. 2017 (1.25e8)."""
    assert cost_table("resnet56", 32, 10, shortcut="A").baseline["macs"] == pytest.approx(1.25e8, rel=5e-3)


def test_mobilenet_v2_full() -> None:
    """Sandler et al. 2018, table 4: 300 million multiply-adds, 3.4 million parameters."""
    table = cost_table("mobilenet_v2", 224, 1000)
    assert table.baseline["macs"] == pytest.approx(300.77e6, abs=1e4)
    assert table.baseline["params"] == 3_504_872
    assert np.all(table.unit == 1)
