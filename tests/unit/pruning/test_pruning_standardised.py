"""Convolutions that standardise their filters are pruned with the filters of the full network."""

from __future__ import annotations

import importlib
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from autoprune.cost.trace import trace
from autoprune.pruning.criteria.magnitude import MagnitudeCriterion
from autoprune.pruning.equivalence import TOLERANCE, max_error
from autoprune.pruning.groups import discover
from autoprune.pruning.ranking import rank
from autoprune.pruning.slicing import adopt_tensors, slice_model
from autoprune.pruning.standardised import (
    StandardisedConv2d,
    effective_weights,
    is_standardising,
    keep_standardised,
)

KINDS = ["StdConv2d", "StdConv2dSame", "ScaledStdConv2d", "ScaledStdConv2dSame"]
EXAMPLE = torch.zeros(1, 3, 9, 9)


@pytest.fixture(scope="module")
def layers() -> Any:
    importlib.import_module("autoprune.models.torchvision_shim")  # timm imports torchvision
    return pytest.importorskip("timm").layers


def network(layers: Any, kind: str) -> nn.Sequential:
    torch.manual_seed(0)
    convolution = getattr(layers, kind)
    model = nn.Sequential(
        convolution(3, 8, 3, stride=2, bias=True),
        nn.ReLU(),
        convolution(8, 12, 3, groups=2),
        nn.ReLU(),
        convolution(12, 6, 1),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(6, 4),
    )
    for name, parameter in model.named_parameters():
        if name.endswith("gain"):
            nn.init.uniform_(parameter, 0.5, 2.0)
    return model.double().eval()


@pytest.mark.parametrize("kind", KINDS)
def test_filters_are_standardised_over_all_that_the_full_network_reads(layers: Any, kind: str) -> None:
    model = network(layers, kind)
    example = EXAMPLE.double()
    discovery = discover(model, example)
    assert not discovery.left_out
    assert [(group.name, group.unit) for group in discovery.groups] == [("0", 2), ("2", 2), ("4", 1)]
    keep = {"0": np.array([1, 3]), "2": np.array([0, 2, 5])}
    assert max_error(model, discovery.groups, example, keep) <= TOLERANCE

    sliced = slice_model(model, discovery.groups, keep)
    assert [type(layer) is StandardisedConv2d for layer in sliced[:5:2]] == [False, True, True]
    image = torch.randn(2, 3, 9, 9, dtype=torch.float64)
    with (
        torch.no_grad()
    ):  # the same by hand: what the second reads of the cut channels is taken away after standardising
        full = network(layers, kind)
        assert keep_standardised(full)
        torch.testing.assert_close(full(image), model(image))
        full[2].weight[:, [0, 2]] = 0
        full[4].weight[:, [1, 3, 4, 7, 9, 10]] = 0
        torch.testing.assert_close(sliced(image), full(image))

    macs = trace(model, example, discovery.groups).macs(np.array([[4, 6, 6]]))[0]
    assert macs == trace(sliced, example, ()).baseline["macs"]
    adopted = network(layers, kind)
    adopt_tensors(adopted, sliced.state_dict())
    torch.testing.assert_close(adopted(image), sliced(image))


def test_where_only_filters_are_cut_the_rest_go_on_standardising(layers: Any) -> None:
    model = network(layers, "ScaledStdConv2d")
    groups = discover(model, EXAMPLE.double()).groups
    sliced = slice_model(model, groups, {"4": np.array([0, 5])})
    assert all(map(is_standardising, sliced[:5:2]))


def test_a_filters_size_is_that_of_what_it_multiplies_with(layers: Any) -> None:
    """Raw weights say nothing: only the gain survives standardising."""
    model = network(layers, "ScaledStdConv2d")
    groups = discover(model, EXAMPLE.double()).groups
    with torch.no_grad():
        model[4].gain.copy_(torch.tensor([1.0, 6.0, 2.0, 5.0, 3.0, 4.0]).reshape(-1, 1, 1, 1))
        model[4].weight *= torch.tensor([9.0, 1.0, 1.0, 1.0, 1.0, 1.0], dtype=torch.float64).reshape(-1, 1, 1, 1)
    assert effective_weights(model)["4.weight"].shape == model[4].weight.shape
    assert rank(model, groups, MagnitudeCriterion("l2", 2))["4"].tolist() == [1, 3, 5, 4, 2, 0]
