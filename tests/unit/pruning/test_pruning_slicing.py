"""Slicing: identity at full width, the right numbers at less, and nothing shared with the base."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from autoprune.errors import ConfigError
from autoprune.pruning.groups import discover
from autoprune.pruning.slicing import Slicer, adopt_tensors, slice_model
from autoprune.types import ChannelGroup


@pytest.fixture
def model() -> nn.Module:
    torch.manual_seed(0)
    layers = nn.Sequential(
        nn.Conv2d(3, 4, 3, padding=1, bias=False),
        nn.BatchNorm2d(4),
        nn.Conv2d(4, 4, 3, groups=4),
        nn.PReLU(4),
        nn.Conv2d(4, 6, 1),
        nn.Flatten(),
        nn.Dropout(0.5),
        nn.Linear(24, 5),
    )
    layers[1].register_buffer("calls", torch.tensor(3), persistent=False)
    return layers


@pytest.fixture
def groups(model: nn.Module) -> tuple[ChannelGroup, ...]:
    return discover(model, example()).groups


def example() -> Tensor:
    return torch.randn(2, 3, 4, 4, generator=torch.Generator().manual_seed(1))


def test_hand_computed_slices(model: nn.Module, groups: tuple[ChannelGroup, ...]) -> None:
    sliced = slice_model(model, groups, {"0": np.array([1, 3]), "4": np.array([0, 5])})
    assert torch.equal(sliced[0].weight, model[0].weight[[1, 3]])
    assert torch.equal(sliced[1].running_var, model[1].running_var[[1, 3]])
    assert torch.equal(sliced[2].weight, model[2].weight[[1, 3]])
    assert torch.equal(sliced[3].weight, model[3].weight[[1, 3]])
    assert torch.equal(sliced[4].weight, model[4].weight[[0, 5]][:, [1, 3]])
    assert torch.equal(sliced[7].weight, model[7].weight[:, [0, 1, 2, 3, 20, 21, 22, 23]])
    assert (sliced[0].out_channels, sliced[1].num_features, sliced[3].num_parameters) == (2, 2, 2)
    assert (sliced[2].in_channels, sliced[2].out_channels, sliced[2].groups) == (2, 2, 2)
    assert (sliced[4].in_channels, sliced[4].out_channels, sliced[7].in_features) == (2, 2, 8)
    assert sliced(example()).shape == (2, 5)


@pytest.mark.parametrize("full", [True, False])
def test_full_width_is_the_identity_bit_for_bit(model: nn.Module, groups: tuple[ChannelGroup, ...], full: bool) -> None:
    keep = {group.name: np.arange(group.units) for group in groups} if full else {}
    sliced = slice_model(model.eval(), groups, keep)
    assert torch.equal(sliced(example()), model(example()))
    assert sliced.state_dict().keys() == model.state_dict().keys()


def test_nothing_is_shared_with_the_base(model: nn.Module, groups: tuple[ChannelGroup, ...]) -> None:
    before = copy.deepcopy(model.state_dict())
    for keep in ({}, {"0": np.array([2])}):
        sliced = slice_model(model, groups, keep)
        with torch.no_grad():
            for tensor in [*sliced.parameters(), *sliced.buffers()]:
                tensor.zero_()
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


def test_properties_of_tensors_and_modules_stay(model: nn.Module, groups: tuple[ChannelGroup, ...]) -> None:
    model.to(torch.float64).train()
    model[1].eval()
    model[4].weight.requires_grad_(False)
    sliced = slice_model(model, groups, {"0": np.array([0, 1, 2])})
    assert {tensor.dtype for tensor in sliced.parameters()} == {torch.float64}
    assert [p.requires_grad for p in sliced.parameters()] == [p.requires_grad for p in model.parameters()]
    assert [module.training for module in sliced.modules()] == [module.training for module in model.modules()]
    assert sliced[1].calls.item() == 3
    assert "1.calls" not in sliced.state_dict()


def test_channels_last_stays(model: nn.Module, groups: tuple[ChannelGroup, ...]) -> None:
    model.to(memory_format=torch.channels_last)
    sliced = slice_model(model, groups, {"0": np.array([0, 1, 3])})
    assert sliced[0].weight.is_contiguous(memory_format=torch.channels_last)
    assert not sliced[0].weight.is_contiguous()


def test_slicer_sees_changed_weights(model: nn.Module, groups: tuple[ChannelGroup, ...]) -> None:
    slicer = Slicer(model, groups)
    with torch.no_grad():
        model[0].weight.fill_(7.0)
    assert (slicer({"0": np.array([1])})[0].weight == 7.0).all()


@pytest.mark.parametrize("units", [[], [1, 0], [1, 1], [-1, 2], [3, 4]])
def test_bad_units_are_refused(model: nn.Module, groups: tuple[ChannelGroup, ...], units: list[int]) -> None:
    with pytest.raises(ConfigError, match="group '0': units to keep"):
        slice_model(model, groups, {"0": np.array(units)})


def test_unknown_group_and_foreign_groups(model: nn.Module, groups: tuple[ChannelGroup, ...]) -> None:
    with pytest.raises(ConfigError, match="no group 'x'"):
        slice_model(model, groups, {"x": np.array([0])})
    with pytest.raises(ConfigError, match="another model"):
        Slicer(nn.Linear(2, 2), groups)


def test_hooks_and_references_between_modules_survive(model: nn.Module, groups: tuple[ChannelGroup, ...]) -> None:
    seen: list[int] = []
    model[0].register_forward_hook(lambda module, inputs, output: seen.append(output.shape[1]))
    model.first = [model[0]]
    sliced = slice_model(model, groups, {"0": np.array([1, 2])})
    assert sliced.first[0] is sliced[0]
    sliced.eval()(example())
    assert seen == [2]


def test_tied_weights_stay_tied() -> None:
    model = nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 3), nn.ReLU(), nn.Linear(3, 3))
    model[4].weight, model[4].bias = model[4].weight, model[2].bias
    sliced = slice_model(model, discover(model, torch.zeros(1, 4)).groups, {"0": np.array([0, 4])})
    assert sliced[4].bias is sliced[2].bias
    assert sliced[0].weight.shape == (2, 4)


def test_adopting_a_sliced_state_rebuilds_the_network(model: nn.Module, groups: tuple[ChannelGroup, ...]) -> None:
    sliced = slice_model(model.eval(), groups, {"0": np.array([1, 3]), "4": np.array([2])})
    rebuilt = copy.deepcopy(model)
    adopt_tensors(rebuilt, sliced.state_dict())
    assert torch.equal(rebuilt(example()), sliced(example()))
    assert (rebuilt[2].groups, rebuilt[4].out_channels, rebuilt[7].in_features) == (2, 1, 4)


def test_adopting_the_wrong_tensors_names_them(model: nn.Module) -> None:
    state = model.state_dict()
    state["other"] = state.pop("7.bias")
    with pytest.raises(KeyError, match=r"missing \['7.bias'\], left over \['other'\]"):
        adopt_tensors(model, state)
