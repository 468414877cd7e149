"""Where runs start: inherited, initial and new weights of the same small network."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from autoprune.config.schema import BuiltinModel
from autoprune.errors import ConfigError
from autoprune.hypernet.network import PruningNet
from autoprune.models.registry import build
from autoprune.pruning.groups import discover
from autoprune.retraining.weights import Origins, new_weights, starting_module
from autoprune.types import Candidate

MODEL = BuiltinModel(name="resnet8")


@pytest.fixture(scope="module")
def origins() -> Origins:
    """A "trained" base model: its initial weights, moved; the ranking takes every second channel first."""
    torch.manual_seed(3)
    base = build(MODEL, num_classes=10, in_channels=1)
    groups = discover(base, torch.zeros(1, 1, 8, 8), check=False).groups
    with torch.no_grad():
        for tensor in base.state_dict().values():
            if tensor.is_floating_point():
                tensor.add_(0.5 + torch.rand_like(tensor))
    state = {name: tensor.numpy() for name, tensor in base.state_dict().items()}
    ranking = {g.name: np.concatenate([np.arange(1, g.units, 2), np.arange(0, g.units, 2)]) for g in groups}
    return Origins(MODEL, 10, 1, groups, state, ranking, initial_seed=3)


@pytest.fixture(scope="module")
def candidate(origins: Origins) -> Candidate:
    return Candidate({group.name: group.channels // 2 for group in origins.groups})


def floats(module: nn.Module) -> dict[str, torch.Tensor]:
    return {name: tensor for name, tensor in module.state_dict().items() if tensor.is_floating_point()}


def test_arms_have_one_architecture(origins, candidate):
    shapes = [
        {
            name: tuple(tensor.shape)
            for name, tensor in starting_module(start, candidate, 1, origins).state_dict().items()
        }
        for start in ("inherit", "initial", "scratch")
    ]
    assert shapes[0] == shapes[1] == shapes[2]


def test_scratch_holds_nothing_of_the_base(origins, candidate):
    """Neither its memory nor its values, nor those that its training began with: what is drawn is drawn anew.

    A float32 may be met by chance, so single values count only when they are many.
    """
    initial = floats(starting_module("initial", candidate, 0, origins))
    began = np.concatenate([tensor.numpy().ravel() for tensor in initial.values() if tensor.ndim > 1])
    trained = np.concatenate([array.ravel() for array in origins.state.values()])
    owned = {array.ctypes.data for array in origins.state.values()}
    for seed in range(4):  # 3 is the seed that the base model's own weights came from
        for name, tensor in floats(starting_module("scratch", candidate, seed, origins)).items():
            assert tensor.data_ptr() not in owned
            if tensor.ndim > 1:
                assert np.isin(tensor.numpy(), trained).mean() < 0.01, name
                assert np.isin(tensor.numpy(), began).mean() < 0.01, name
            else:  # BatchNorm begins with ones and zeros
                assert not np.isin(origins.state[name], tensor.numpy()).any(), name


def test_scratch_is_a_function_of_the_seed(origins, candidate):
    one, same, other = (floats(starting_module("scratch", candidate, seed, origins)) for seed in (0, 0, 1))
    assert all(torch.equal(one[name], same[name]) for name in one)
    assert not torch.equal(one["conv1.weight"], other["conv1.weight"])


def test_inherited_and_initial_weights_are_cut_alike(origins, candidate):
    """The same channels: every second one, of the base's weights and of those that it began with."""
    torch.manual_seed(3)
    began = floats(build(MODEL, num_classes=10, in_channels=1))
    inherited = floats(starting_module("inherit", candidate, 0, origins))
    initial = floats(starting_module("initial", candidate, 5, origins))
    name = next(
        m.parameter for g in origins.groups for m in g.members if m.role == "producer" and "conv1" in m.parameter
    )
    full = torch.from_numpy(origins.state[name])
    rows = slice(1, None, 2)
    reads_all = inherited[name].shape[1] == full.shape[1]
    columns = slice(None) if reads_all else rows
    assert torch.equal(inherited[name], full[rows, columns])
    assert torch.equal(initial[name], began[name][rows, columns])


def test_starting_modules_share_nothing(origins, candidate):
    module = starting_module("inherit", candidate, 0, origins)
    before = {name: array.copy() for name, array in origins.state.items()}
    with torch.no_grad():
        for tensor in floats(module).values():
            tensor.zero_()
    assert all(np.array_equal(before[name], origins.state[name]) for name in before)


def test_new_weights_are_scaled_to_the_narrow_network():
    """He et al. 2015, fan out: the variance of a convolution with a quarter of the filters is four times as large."""
    full = build(MODEL, num_classes=10, in_channels=1)
    groups = discover(full, torch.zeros(1, 1, 8, 8), check=False).groups
    cut = Candidate({group.name: group.channels // 4 for group in groups})
    stds: dict[str, list[float]] = {}
    for seed in range(8):
        made = new_weights(lambda: build(MODEL, num_classes=10, in_channels=1), groups, cut, seed)
        for name, layer in made.named_modules():
            if isinstance(layer, nn.Conv2d):
                expected = math.sqrt(2 / (layer.out_channels * layer.kernel_size[0] * layer.kernel_size[1]))
                stds.setdefault(name, []).append(float(layer.weight.detach().std()) / expected)
    for name, found in stds.items():
        assert np.mean(found) == pytest.approx(1.0, abs=0.12), name


def test_new_weights_follow_pytorchs_own_rule():
    """Uniform within 1 / sqrt(inputs): the cut layer's bound is that of a layer that was built narrow."""

    def make() -> nn.Module:
        return nn.Sequential(nn.Conv2d(3, 64, 3), nn.ReLU(), nn.Conv2d(64, 32, 3), nn.ReLU(), nn.Conv2d(32, 8, 3))

    groups = discover(make(), torch.zeros(1, 3, 12, 12), check=False).groups
    made = new_weights(make, groups, Candidate({group.name: group.channels // 4 for group in groups}), 0)
    for layer in (made[2], made[4]):
        bound = 1 / math.sqrt(layer.weight[0].numel())
        assert 0.85 * bound < float(layer.weight.detach().abs().max()) <= bound * 1.0001
        assert float(layer.bias.detach().abs().max()) <= bound * 1.0001


def test_a_hypernetworks_weights_come_in_the_same_architecture(origins, candidate):
    full = origins.build()
    state = {name: tensor.numpy() for name, tensor in PruningNet(full, origins.groups, hidden=4).state_dict().items()}
    made = starting_module("hypernet", candidate, 0, replace(origins, hypernet=state, ranking={}))
    scratch = starting_module("scratch", candidate, 0, origins)
    assert [tuple(p.shape) for p in made.parameters()] == [tuple(p.shape) for p in scratch.parameters()]


def test_an_arm_without_its_start_is_refused(origins, candidate):
    with pytest.raises(ConfigError, match="needs a hypernetwork"):
        starting_module("hypernet", candidate, 0, origins)
    with pytest.raises(ConfigError, match="checkpoint"):
        starting_module("initial", candidate, 0, replace(origins, initial_seed=None))
    with pytest.raises(ConfigError, match="no ranking"):
        starting_module("inherit", candidate, 0, replace(origins, ranking={}))
