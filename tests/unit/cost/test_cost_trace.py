"""Traced costs against torch's own flop counter and against numbers worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from autoprune.cost.trace import trace
from autoprune.pruning.groups import discover
from autoprune.pruning.slicing import slice_model
from autoprune.types import Candidate


def counted_flops(model: nn.Module, example: Tensor) -> int:
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(example)
    return int(counter.get_total_flops())


def test_hand_computed() -> None:
    model = nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 4, 3, stride=2), nn.Flatten(), nn.Linear(4 * 9, 10)
    )
    example = torch.zeros(5, 3, 8, 8)
    table = trace(model, example, discover(model, example).groups)
    full = 64 * 8 * 27 + 9 * 4 * 72 + 36 * 10
    assert table.baseline["macs"] == full
    assert table.baseline["params"] == (8 * 27 + 8) + (4 * 72 + 4) + 370
    half = table.measure(Candidate({"0": 4, "2": 3}))
    assert half["macs"] == 64 * 4 * 27 + 9 * 3 * 36 + 27 * 10
    assert half["params"] == (4 * 27 + 4) + (3 * 36 + 3) + 280
    assert table.uncounted == ()


class Mixed(nn.Module):
    """Grouped, depthwise (two filters a channel), transposed, dilated; a layer called twice; a linear on sequences."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 12, 3, padding=1)
        self.grouped = nn.Conv2d(12, 18, 3, padding=2, dilation=2, groups=3, bias=False)
        self.depthwise = nn.Conv2d(18, 36, 3, padding=1, groups=18)
        self.up = nn.ConvTranspose2d(36, 10, 2, stride=2)
        self.twice = nn.Conv2d(10, 10, 1)
        self.token = nn.Linear(10, 7)

    def forward(self, x: Tensor) -> Tensor:
        x = self.up(F.relu(self.depthwise(F.relu(self.grouped(F.relu(self.stem(x)))))))
        x = F.relu(self.twice(F.relu(self.twice(x))))
        return self.token(x.flatten(2).transpose(1, 2)).mean(1)


def test_every_kind_of_layer_as_the_flop_counter_counts_it() -> None:
    model, example = Mixed().eval(), torch.randn(1, 3, 6, 6)
    found = discover(model, example)
    table = trace(model, example, found.groups)
    assert table.baseline["flops"] == counted_flops(model, example)
    assert table.baseline["params"] == sum(parameter.numel() for parameter in model.parameters())
    units = {group.name: group.unit for group in found.groups}
    assert units == {"stem": 3, "grouped": 3, "up": 1}
    for seed in range(5):
        rng = np.random.default_rng(seed)
        keep = {g.name: np.sort(rng.choice(g.units, rng.integers(1, g.units + 1), replace=False)) for g in found.groups}
        sliced = slice_model(model, found.groups, keep)
        metrics = table.measure(Candidate({name: len(kept) * units[name] for name, kept in keep.items()}))
        assert metrics["flops"] == counted_flops(sliced, example)
        assert metrics["params"] == sum(parameter.numel() for parameter in sliced.parameters())


class Attention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Linear(8, 8)

    def forward(self, x: Tensor) -> Tensor:
        keys = self.inner(x)
        return torch.bmm(keys, keys.transpose(1, 2))


def test_products_of_activations_are_listed() -> None:
    model = nn.Sequential(nn.Linear(8, 8), Attention())
    table = trace(model, torch.zeros(2, 5, 8), ())
    assert table.uncounted == ("1: bmm",)
    assert table.baseline["macs"] == 2 * 5 * 64


def test_fused_attention_is_listed_and_its_linear_layers_count() -> None:
    model = nn.TransformerEncoderLayer(16, 2, 32, batch_first=True)
    table = trace(model, torch.zeros(1, 6, 16), ())
    assert table.baseline["macs"] == 6 * (16 * 48 + 16 * 16 + 2 * 16 * 32)
    assert len(table.uncounted) == 1
    assert "attention" in table.uncounted[0]


def test_model_is_left_as_it_was() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(16, 2)).train()
    model[1].eval()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    trace(model, torch.randn(3, 3, 4, 4), ())
    assert [module.training for module in model] == [True, False, True, True]
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


def test_tied_weights_count_once_in_parameters_and_twice_in_macs() -> None:
    model = nn.Sequential(nn.Linear(6, 6, bias=False), nn.ReLU(), nn.Linear(6, 6, bias=False))
    model[2].weight = model[0].weight
    table = trace(model, torch.zeros(1, 6), ())
    assert table.baseline["params"] == 36
    assert table.baseline["macs"] == 72


@pytest.mark.parametrize("batch", [1, 4])
def test_batch_size_of_the_example_does_not_matter(batch: int) -> None:
    assert trace(nn.Linear(4, 3), torch.zeros(batch, 4), ()).baseline["macs"] == 12


class Standardised(nn.Conv2d):
    """Weight standardisation, as NFNets have it: the weight of every filter is normalised on the fly."""

    def forward(self, x: Tensor) -> Tensor:
        flat = F.batch_norm(self.weight.reshape(1, len(self.weight), -1), None, None, training=True)
        return F.conv2d(x, flat.reshape_as(self.weight) * 0.5, self.bias)


@pytest.mark.parametrize(
    "layer", [Standardised(3, 8, 3), nn.utils.parametrizations.weight_norm(nn.Conv2d(3, 8, 3))], ids=["std", "norm"]
)
def test_computed_weights_count_for_the_parameter_that_they_come_from(layer: nn.Module) -> None:
    table = trace(layer, torch.zeros(1, 3, 6, 6), ())
    (term,) = (term for term in table.terms if term.applications)
    assert term.shape == (8, 3, 3, 3)
    assert term.applications == 16
    assert table.uncounted == ()
