"""Removing units round by round, each time in the numbering of the network as it stands."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from autoprune.config.schema import BuiltinModel
from autoprune.cost.trace import trace
from autoprune.models.registry import build
from autoprune.procedures.network import Standing
from autoprune.pruning.groups import discover
from autoprune.pruning.slicing import slice_model
from autoprune.types import Candidate


class Branches(nn.Module):
    """A concatenation, a grouped convolution and a flattened map."""

    def __init__(self) -> None:
        super().__init__()
        self.left, self.right = nn.Conv2d(1, 6, 3, padding=1), nn.Conv2d(1, 5, 3, padding=1)
        self.norm = nn.BatchNorm2d(11)
        self.mixed = nn.Conv2d(11, 8, 1)
        self.depth = nn.Conv2d(8, 8, 3, padding=1, groups=8)
        self.head = nn.Linear(8 * 16, 3)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        joined = torch.relu(self.norm(torch.cat([self.left(images), self.right(images)], 1)))
        return self.head(torch.relu(self.depth(self.mixed(joined))).flatten(1))


def network(kind: str) -> tuple[nn.Module, torch.Tensor]:
    torch.manual_seed(0)
    if kind == "branches":
        return Branches().double().eval(), torch.randn(3, 1, 4, 4).double()
    model = build(BuiltinModel(name="resnet8"), num_classes=10, in_channels=1)
    return model.double().eval(), torch.randn(3, 1, 8, 8).double()


@pytest.mark.parametrize("kind", ["branches", "resnet8"])
def test_rounds_with_shifting_indices_equal_one_cut(kind: str) -> None:
    model, images = network(kind)
    groups = discover(model.float(), images.float()).groups
    model.double()
    rng, standing = np.random.default_rng(0), Standing.begin(model, groups)
    for _ in range(4):
        keep = {
            group.name: np.sort(rng.choice(group.units, max(1, group.units - int(rng.integers(0, 3))), replace=False))
            for group in standing.groups
            if rng.random() < 0.8
        }
        standing = standing.cut(keep)
    once = slice_model(model, groups, standing.kept)
    assert {name: tuple(item.shape) for name, item in once.state_dict().items()} == {
        name: tuple(item.shape) for name, item in standing.module.state_dict().items()
    }
    for name, tensor in once.state_dict().items():
        assert torch.equal(tensor, standing.module.state_dict()[name]), name
    assert torch.equal(once(images), standing.module(images))
    assert any(len(units) < group.units for group, units in zip(groups, standing.kept.values(), strict=True))
    full = trace(model.float(), images.float(), groups).measure

    now = trace(standing.module.float(), images.float(), standing.groups).baseline
    assert full(Candidate(standing.widths))["macs"] == now["macs"]


def test_removing_two_filters_one_after_the_other_shifts_the_second() -> None:
    """jacobgil's loop removes f1 < f2 one by one and has to remove f2 - 1."""
    model, images = network("resnet8")
    group = next(iter(discover(model.float(), images.float()).groups))
    standing = Standing.begin(model, [group])
    first = standing.cut({group.name: np.delete(np.arange(group.units), 3)})
    second = first.cut({group.name: np.delete(np.arange(group.units - 1), 6 - 1)})
    assert second.kept[group.name].tolist() == np.delete(np.arange(group.units), [3, 6]).tolist()
