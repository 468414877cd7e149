from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypernet_nets import NETS, made
from torch import nn
from torch.nn.modules.conv import _ConvNd

from autoprune.errors import ConfigError
from autoprune.hypernet.network import PruningNet
from autoprune.hypernet.ordering import ordered
from autoprune.pruning.slicing import slice_model
from autoprune.space.space import SearchSpace
from autoprune.types import Candidate, ChannelGroup

WIDTHS = (0.3, 0.6, 1.0)


def hypernet(name: str, **settings: object) -> tuple[PruningNet, SearchSpace]:
    network, space = made(name)
    torch.manual_seed(1)
    return PruningNet(network, space.groups, **{"hidden": 4, "varying": 0.5, **settings}), space


def drawn(space: SearchSpace, seed: int) -> Candidate:
    random = np.random.default_rng(seed)
    return Candidate({item.name: int(random.choice(item.allowed)) for item in space.dimensions})


def first_positions(
    size: int, groups: tuple[ChannelGroup, ...], name: str, dim: int, candidate: Candidate
) -> list[int]:
    """What is left of a dimension when each group keeps its first units."""
    gone: set[int] = set()
    for group in groups:
        for member in group.members:
            if (member.parameter, member.dim) == (name, dim):
                gone.update(member.index[candidate.widths[group.name] // group.unit :].ravel().tolist())
    return [position for position in range(size) if position not in gone]


@pytest.mark.parametrize("rank", [None, 2])
@pytest.mark.parametrize("name", NETS)
def test_a_candidates_weights_are_the_first_channels_of_what_is_generated(name: str, rank: int | None) -> None:
    net, space = hypernet(name, rank=rank)
    modules = {n: m for n, m in net.network.named_modules() if isinstance(m, _ConvNd)}
    for seed in range(3):
        candidate = drawn(space, seed)
        built = net.build(candidate)
        ratios = torch.tensor([candidate.widths[group.name] / group.channels for group in space.groups])
        for key, generator in net.generators.items():
            path = key.replace("/", ".")
            layer = modules[path.removesuffix(".weight")]
            _, encoded, reads = net._plans[id(layer.weight)]
            full = layer.weight + generator(ratios[encoded], {})
            rows, columns = (first_positions(full.shape[d], space.groups, path, d, candidate) for d in (0, 1))
            expected = full[rows][:, columns]
            expected = expected * math.sqrt(full.shape[reads] / expected.shape[reads])
            torch.testing.assert_close(built.get_parameter(path), expected.detach())


@pytest.mark.parametrize("name", NETS)
def test_training_runs_the_network_that_build_gives(name: str) -> None:
    net, space = hypernet(name)
    net = net.double()
    images = torch.randn(5, 1, 8, 8, dtype=torch.float64)
    for candidate in (*(drawn(space, seed) for seed in range(3)), space.full(), space.minimum()):
        net.widths = candidate
        logits = net.train()(images)
        torch.testing.assert_close(logits, net.build(candidate).train()(images))
        gradients = torch.autograd.grad(logits.sum(), list(net.parameters()), allow_unused=True)
        assert all(gradient is not None for gradient in gradients)


@pytest.mark.parametrize("name", NETS)
def test_nothing_generated_and_full_width_is_the_network_itself(name: str) -> None:
    network, space = made(name)
    net = PruningNet(network, space.groups, varying=0.0)
    images = torch.randn(4, 1, 8, 8)
    torch.testing.assert_close(net.build(space.full())(images), network(images))
    assert sum(p.numel() for p in net.network.parameters()) == sum(p.numel() for p in network.parameters())


@pytest.mark.parametrize("name", NETS)
def test_ordering_channels_changes_no_output_and_puts_the_best_first(name: str) -> None:
    network, space = made(name)
    network, images = network.double(), torch.randn(4, 1, 8, 8, dtype=torch.float64)
    random = np.random.default_rng(0)
    ranking = {group.name: random.permutation(group.units) for group in space.groups}
    turned = ordered(network, space.groups, ranking)
    torch.testing.assert_close(turned(images), network(images))
    kept = {group.name: group.units - group.units // 3 for group in space.groups}
    first = slice_model(turned, space.groups, {name: np.arange(units) for name, units in kept.items()})
    best = slice_model(network, space.groups, {name: np.sort(ranking[name][:units]) for name, units in kept.items()})
    torch.testing.assert_close(first(images), best(images))


def test_blocks_share_their_encoding() -> None:
    net, space = hypernet("resnet8")
    names = [group.name for group in space.groups]
    encodings = {key: [names[at] for at in encoded] for key, encoded, _ in net._plans.values()}
    block = ["layer2.0.downsample.0", "layer2.0.conv1"]
    assert encodings["layer2/0/conv1/weight"] == ["conv1", *block]
    assert encodings["layer2/0/conv2/weight"] == ["conv1", *block]
    assert encodings["layer2/0/downsample/0/weight"] == ["conv1", block[0]]
    assert encodings["conv1/weight"] == ["conv1"]


def test_weights_depend_on_the_widths_of_the_block_and_on_no_others() -> None:
    net, space = hypernet("resnet8", hidden=32)
    full, narrow = space.full(), dict(space.full().widths)
    narrow["layer2.0.conv1"] = 8
    before, after = net.build(full), net.build(Candidate(narrow))
    kept = before.layer2[0].conv1.weight[:8]
    assert not torch.allclose(after.layer2[0].conv1.weight, kept)
    torch.testing.assert_close(after.layer3[0].conv1.weight, before.layer3[0].conv1.weight)


@pytest.mark.parametrize("ratio", WIDTHS)
def test_weights_begin_at_the_scale_of_their_width(ratio: float) -> None:
    """Kaiming: the variance is inversely proportional to the number of inputs."""
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(1, 64, 3, padding=1), nn.ReLU(), nn.Conv2d(64, 64, 3, padding=1))
    network.append(nn.Flatten()).append(nn.Linear(64 * 16, 10))
    for layer in (network[0], network[2]):
        nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
    space = SearchSpace.from_module(network, torch.zeros(1, 1, 4, 4), ())
    net = PruningNet(network, space.groups, varying=0.1)
    weight = net.build(space.uniform(ratio))[2].weight
    assert float(weight.std()) == pytest.approx(math.sqrt(2 / (9 * weight.shape[1])), rel=0.15)


@pytest.mark.parametrize("rank", [None, 2])
def test_state_round_trip(rank: int | None) -> None:
    net, space = hypernet("grouped", rank=rank)
    again = PruningNet.from_state(made("grouped")[0], space.groups, net.state_dict())
    candidate = drawn(space, 3)
    for name, tensor in net.build(candidate).state_dict().items():
        torch.testing.assert_close(again.build(candidate).state_dict()[name], tensor)
    assert not any(parameter.requires_grad for parameter in again.parameters())


def test_a_state_of_another_space_does_not_fit() -> None:
    net, _ = hypernet("grouped")
    network, space = made("dense")
    with pytest.raises(RuntimeError, match="Missing key"):
        PruningNet.from_state(network, space.groups, net.state_dict())


def test_memory_format_leaves_generators_alone() -> None:
    net, space = hypernet("resnet8")
    before = net.build(drawn(space, 0)).state_dict()
    after = net.to(memory_format=torch.channels_last).build(drawn(space, 0)).state_dict()
    for name, tensor in before.items():
        assert torch.equal(tensor, after[name])


@pytest.mark.parametrize(
    ("widths", "message"),
    [
        ({"layer9": 4}, "no group 'layer9'"),
        ({"conv1": 0}, "width 0 is not allowed"),
        ({"conv1": 99}, "width 99 is not allowed"),
        ({"conv1": -3}, "width -3 is not allowed"),
    ],
)
def test_an_encoding_that_does_not_fit(widths: dict[str, int], message: str) -> None:
    net, _ = hypernet("resnet8")
    with pytest.raises(ConfigError, match=message):
        net.build(Candidate(widths))
    net.widths = Candidate(widths)
    with pytest.raises(ConfigError, match=message):
        net(torch.zeros(2, 1, 8, 8))


def test_a_built_candidate_is_its_own() -> None:
    net, space = hypernet("resnet8")
    candidate = space.full()
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    for parameter in net.build(candidate).parameters():
        parameter.zero_()
    assert all(torch.equal(tensor, net.state_dict()[name]) for name, tensor in before.items())
