"""Every model family: sliced = masked in float64, and costs = what torch counts on the sliced net, at random widths."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from autoprune.config.schema import BuiltinModel
from autoprune.cost.trace import trace
from autoprune.models.registry import build
from autoprune.pruning.equivalence import TOLERANCE, max_error
from autoprune.pruning.groups import Discovery, discover
from autoprune.pruning.slicing import slice_model
from autoprune.types import Candidate, ChannelGroup

BUILTIN = {  # name -> (input shape, groups); every group is prunable
    "lenet300_100": ((1, 28, 28), 2),
    "lenet5": ((1, 28, 28), 3),
    "vgg16_bn": ((3, 32, 32), 13),
    "resnet20": ((3, 32, 32), 12),
    "mobilenet_v1": ((3, 64, 64), 14),
    "mobilenet_v2": ((3, 64, 64), 25),
}
TORCHVISION = {
    "resnet18": 12,
    "resnext50_32x4d": 37,
    "mobilenet_v2": 25,
    "googlenet": 57,
    "squeezenet1_1": 25,
    "mobilenet_v3_small": 27,
    "efficientnet_b0": 40,
    "regnet_y_400mf": 53,
    "densenet121": 120,
    "resnet50": 37,
}
SLOW = {"vgg11_bn": 10}


def torchvision_model(name: str) -> nn.Module:
    from autoprune.models.torchvision_shim import torchvision

    args = {"aux_logits": False, "init_weights": False} if name == "googlenet" else {}
    model: nn.Module = torchvision.models.get_model(name, weights=None, num_classes=10, **args)
    return model


def random_keep(groups: tuple[ChannelGroup, ...], seed: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    return {g.name: np.sort(rng.choice(g.units, rng.integers(1, g.units + 1), replace=False)) for g in groups}


def wrongly_mapped(groups: tuple[ChannelGroup, ...], seed: int) -> tuple[ChannelGroup, ...]:
    """One consumer index of one group, turned by one unit."""
    number = int(np.random.default_rng(seed).integers(len(groups)))
    group = groups[number]
    at = next(i for i, member in enumerate(group.members) if member.role == "consumer")
    member = group.members[at]
    turned = replace(member, index=np.roll(member.index, 1, axis=0))
    broken = replace(group, members=(*group.members[:at], turned, *group.members[at + 1 :]))
    return (*groups[:number], broken, *groups[number + 1 :])


def check_family(model: nn.Module, shape: tuple[int, ...], expected_groups: int) -> Discovery:
    example = torch.randn(1, *shape)
    discovery = discover(model, example)
    groups = discovery.groups
    assert len(groups) == expected_groups
    keep = random_keep(groups, seed=1)
    assert max_error(model, groups, example, keep) <= TOLERANCE
    half = {group.name: np.arange(group.units)[group.units // 2 :] for group in groups}
    try:
        broken = max_error(model, wrongly_mapped(groups, seed=2), example, half)
    except RuntimeError:
        broken = np.inf
    assert broken > 1e-6
    sliced = slice_model(model, groups, keep).eval()
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        sliced(example)
    table = trace(model, example, groups)
    metrics = table.measure(Candidate({group.name: len(keep[group.name]) * group.unit for group in groups}))
    assert metrics["flops"] == counter.get_total_flops()
    assert metrics["params"] == sum(parameter.numel() for parameter in sliced.parameters())
    assert table.uncounted == ()
    return discovery


@pytest.mark.parametrize("name", BUILTIN)
def test_builtin(name: str) -> None:
    shape, groups = BUILTIN[name]
    model = build(BuiltinModel(name=name), num_classes=10, in_channels=shape[0])
    assert not check_family(model, shape, groups).left_out


@pytest.mark.parametrize("name", TORCHVISION)
def test_torchvision(name: str) -> None:
    assert not check_family(torchvision_model(name), (3, 64, 64), TORCHVISION[name]).left_out


@pytest.mark.slow
@pytest.mark.parametrize("name", SLOW)
def test_torchvision_large(name: str) -> None:
    assert not check_family(torchvision_model(name), (3, 64, 64), SLOW[name]).left_out


def test_padded_shortcuts_leave_the_inside_of_blocks() -> None:
    model = build(BuiltinModel(name="resnet20", args={"shortcut": "A"}), num_classes=10, in_channels=3)
    discovery = check_family(model, (3, 32, 32), 9)
    assert {name.rpartition(".")[2] for name in (group.name for group in discovery.groups)} == {"conv1"}
    assert set(discovery.left_out) == {"conv1", "layer2.0.conv2", "layer3.0.conv2"}
    assert all("zero channels" in reason for reason in discovery.left_out.values())


def test_shufflenet_loses_only_what_one_stage_shuffles() -> None:
    """Seven halvings and shuffles of the 48 channels of stage 3 tie all of them together."""
    model = torchvision_model("shufflenet_v2_x0_5")
    discovery = discover(model, torch.randn(1, 3, 64, 64))
    assert len(discovery.groups) == 20
    units = {group.name: group.unit for group in discovery.groups if group.unit > 1}
    assert units == {"stage2.0.branch1.2": 8, "stage4.0.branch1.2": 8}  # three shuffles
    assert discovery.left_out == {"stage3.0.branch1.2": "all its 48 channels must stay together"}


def test_convnext_names_its_layer_norms() -> None:
    discovery = check_family(torchvision_model("convnext_tiny"), (3, 64, 64), 18)
    assert all("normalises across channels" in reason for reason in discovery.left_out.values())
