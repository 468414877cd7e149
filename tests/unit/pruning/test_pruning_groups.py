"""Groups of small hand-made nets, with every index map worked out by hand."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from autoprune.errors import ConfigError
from autoprune.pruning.groups import Discovery, discover
from autoprune.types import ChannelGroup


def members(group: ChannelGroup) -> dict[tuple[str, int], list[list[int]]]:
    return {(member.parameter, member.dim): member.index.tolist() for member in group.members}


def roles(group: ChannelGroup) -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for member in group.members:
        found.setdefault(member.role, set()).add(member.parameter)
    return found


def column(count: int, start: int = 0) -> list[list[int]]:
    return [[start + i] for i in range(count)]


def found(model: nn.Module, *shape: int) -> Discovery:
    return discover(model, torch.randn(2, *shape))


def test_two_convolutions_flattened_into_a_linear_layer() -> None:
    model = nn.Sequential(
        nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 2, 3), nn.Flatten(), nn.Linear(8, 5)
    )
    first, second = found(model, 3, 4, 4).groups
    assert (first.name, first.channels, first.unit) == ("0", 4, 1)
    norm = {(f"1.{name}", 0): column(4) for name in ("weight", "bias", "running_mean", "running_var")}
    assert members(first) == {("0.weight", 0): column(4), ("0.bias", 0): column(4), ("3.weight", 1): column(4), **norm}
    assert roles(first)["producer"] == {"0.weight"}
    assert roles(first)["consumer"] == {"3.weight"}
    # 2 x 2 positions a channel in the linear layer
    assert members(second) == {
        ("3.weight", 0): column(2),
        ("3.bias", 0): column(2),
        ("5.weight", 1): [[0, 1, 2, 3], [4, 5, 6, 7]],
    }


class Concat(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Conv2d(3, 2, 1)
        self.b = nn.Conv2d(3, 4, 1)
        self.norm = nn.BatchNorm2d(8)
        self.head = nn.Conv2d(8, 5, 1)

    def forward(self, x: Tensor) -> Tensor:
        a = self.a(x)
        return self.head(self.norm(torch.cat([a, self.b(x), a], 1)))


def test_concatenation_shifts_and_repeats() -> None:
    a, b = found(Concat(), 3, 2, 2).groups
    assert members(a)["head.weight", 1] == members(a)["norm.running_var", 0] == [[0, 6], [1, 7]]
    assert members(b)["head.weight", 1] == members(b)["norm.bias", 0] == column(4, start=2)


class Residual(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 6, 1)
        self.inner = nn.Conv2d(6, 4, 1)
        self.outer = nn.Conv2d(4, 6, 1)
        self.head = nn.Linear(6, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.stem(x))
        x = x + self.outer(F.relu(self.inner(x)))
        return self.head(x.mean((2, 3)))


def test_residual_sum_ties_its_producers() -> None:
    stem, inner = found(Residual(), 3, 2, 2).groups
    assert (stem.name, inner.name) == ("stem", "inner")
    assert roles(stem) == {
        "producer": {"stem.weight", "outer.weight"},
        "consumer": {"inner.weight", "head.weight"},
        "through": {"stem.bias", "outer.bias"},
    }
    assert roles(inner)["consumer"] == {"outer.weight"}


def test_grouped_convolution_keeps_equal_counts_per_group() -> None:
    model = nn.Sequential(
        nn.Conv2d(3, 6, 1, bias=False), nn.Conv2d(6, 4, 1, groups=2, bias=False), nn.Conv2d(4, 2, 1, bias=False)
    )
    first, second = found(model, 3, 2, 2).groups
    assert (first.channels, first.unit, first.units) == (6, 2, 3)
    assert members(first) == {("0.weight", 0): [[0, 3], [1, 4], [2, 5]], ("1.weight", 1): column(3)}
    assert (second.channels, second.unit, second.units) == (4, 2, 2)
    assert members(second) == {("1.weight", 0): [[0, 2], [1, 3]], ("2.weight", 1): [[0, 2], [1, 3]]}


def test_depthwise_filters_ride_along() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.Conv2d(4, 4, 3, groups=4), nn.Conv2d(4, 2, 1))
    (group,) = found(model, 3, 3, 3).groups
    assert members(group)["1.weight", 0] == members(group)["1.bias", 0] == column(4)
    assert ("1.weight", 1) not in members(group)
    assert roles(group)["producer"] == {"0.weight"}


def test_depthwise_with_two_filters_a_channel() -> None:
    model = nn.Sequential(nn.Conv2d(3, 2, 1), nn.Conv2d(2, 4, 3, groups=2), nn.Conv2d(4, 2, 1))
    (group,) = found(model, 3, 3, 3).groups
    assert members(group)["1.weight", 0] == members(group)["2.weight", 1] == [[0, 1], [2, 3]]


def test_group_norm_loses_whole_groups_only() -> None:
    model = nn.Sequential(nn.Conv2d(3, 6, 1), nn.GroupNorm(3, 6), nn.Conv2d(6, 2, 1))
    (group,) = found(model, 3, 3, 3).groups
    assert group.unit == 2
    assert members(group)["1.weight", 0] == [[0, 1], [2, 3], [4, 5]]


class Scaled(nn.Module):
    """A plain parameter along the channels, and a PReLU with one slope a channel."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 1)
        self.scale = nn.Parameter(torch.ones(4, 1, 1))
        self.act = nn.PReLU(4)
        self.head = nn.ConvTranspose2d(4, 2, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.act(self.conv(x) * self.scale))


def test_plain_parameters_slopes_and_transposed_convolutions() -> None:
    (group,) = found(Scaled(), 3, 2, 2).groups
    assert (
        members(group)["scale", 0] == members(group)["act.weight", 0] == members(group)["head.weight", 0] == column(4)
    )
    assert roles(group)["consumer"] == {"head.weight"}


class Halves(nn.Module):
    """The two halves are added: channel i and i + 4 must leave together; chunk() wants an even number."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 1)
        self.head = nn.Conv2d(4, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        left, right = self.conv(x).chunk(2, 1)
        return self.head(left + right)


def test_channels_that_meet_are_one_unit() -> None:
    (group,) = found(Halves(), 3, 2, 2).groups
    assert group.unit == 2
    assert members(group)["conv.weight", 0] == [[0, 4], [1, 5], [2, 6], [3, 7]]
    assert members(group)["head.weight", 1] == column(4)


class PaddedShortcut(nn.Module):
    """Option A of the CIFAR ResNets: a fixed number of zero channels."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 1)
        self.inner = nn.Conv2d(4, 6, 1)
        self.outer = nn.Conv2d(6, 8, 1)
        self.head = nn.Linear(8, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        x = F.pad(x, (0, 0, 0, 0, 2, 2)) + self.outer(F.relu(self.inner(x)))
        return self.head(x.mean((2, 3)))


@pytest.mark.parametrize("check", [True, False])
def test_zero_padded_shortcut_is_left_out_but_not_what_is_inside(check: bool) -> None:
    discovery = discover(PaddedShortcut(), torch.randn(1, 3, 2, 2), check=check)
    assert [group.name for group in discovery.groups] == ["inner"]
    assert set(discovery.left_out) == {"stem", "outer"}
    assert "zero channels" in discovery.left_out["stem"]


class HardCoded(nn.Module):
    """``view(-1, 16)`` cannot follow the channels of ``conv``; ``other`` is fine."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 1)
        self.fc = nn.Linear(16, 6)
        self.other = nn.Linear(6, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.other(F.relu(self.fc(self.conv(x).view(-1, 16))))


def test_hard_coded_shapes_are_left_out_by_the_check_alone() -> None:
    model, example = HardCoded(), torch.randn(1, 3, 2, 2)
    assert [group.name for group in discover(model, example, check=False).groups] == ["conv", "fc"]
    discovery = discover(model, example)
    assert [group.name for group in discovery.groups] == ["fc"]
    assert "does not run" in discovery.left_out["conv"]


class Softmaxed(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 1)
        self.head = nn.Conv2d(4, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.conv(x).softmax(1))


def test_operations_across_channels_are_named() -> None:
    assert found(Softmaxed(), 3, 2, 2).left_out == {"conv": "softmax in Softmaxed runs across channels"}


def test_layer_norm_is_named() -> None:
    model = nn.Sequential(nn.Linear(4, 6), nn.LayerNorm(6), nn.Linear(6, 2))
    assert found(model, 4).left_out == {"0": "LayerNorm '1' normalises across channels"}


def test_outputs_are_never_groups() -> None:
    assert found(nn.Sequential(nn.Linear(4, 3)), 4) == Discovery((), {})
    softmaxed = nn.Sequential(nn.Conv2d(3, 4, 1), nn.ReLU(), nn.Conv2d(4, 5, 1), nn.Softmax(1))
    assert [group.name for group in found(softmaxed, 3, 2, 2).groups] == ["0"]


class TwoOutputs(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Linear(4, 6)
        self.a = nn.Linear(6, 3)
        self.b = nn.Linear(6, 3)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        hidden = F.relu(self.stem(x))
        return {"a": self.a(hidden), "b": self.b(hidden), "sum": self.a(hidden) + self.b(hidden)}


def test_every_output_of_several_is_kept() -> None:
    assert [group.name for group in found(TwoOutputs(), 4).groups] == ["stem"]


class AddsInput(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 1)
        self.head = nn.Conv2d(3, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(x + self.conv(x))


def test_channels_added_to_the_input_are_left_out() -> None:
    assert set(found(AddsInput(), 3, 2, 2).left_out) == {"conv"}


def test_depthwise_on_the_input_is_left_out() -> None:
    model = nn.Sequential(nn.Conv2d(3, 3, 1, groups=3), nn.Conv2d(3, 4, 1), nn.Conv2d(4, 2, 1))
    discovery = found(model, 3, 2, 2)
    assert [group.name for group in discovery.groups] == ["1"]
    assert "depthwise" in discovery.left_out["0"]


def test_computed_weights_make_channels_but_their_readers_are_named() -> None:
    """|v| of weight normalisation sums over what the layer reads: cutting there would change it."""
    model = nn.Sequential(nn.Linear(4, 6), nn.Linear(6, 5), nn.Linear(5, 2))
    torch.nn.utils.parametrizations.weight_norm(model[1])
    discovery = found(model, 4)
    (group,) = discovery.groups
    weight = "1.parametrizations.weight.original"
    assert group.name == "1"
    assert members(group)[f"{weight}0", 0] == members(group)[f"{weight}1", 0] == members(group)["2.weight", 1]
    assert discovery.left_out == {
        "0": "the weight of ParametrizedLinear '1', which reads its channels, is computed from other tensors "
        "(torch.nn.utils.parametrize.remove_parametrizations ends that)"
    }


def test_patterns_exclude_groups() -> None:
    discovery = discover(Residual(), torch.randn(1, 3, 2, 2), exclude=["in*"])
    assert [group.name for group in discovery.groups] == ["stem"]
    assert discovery.left_out == {"inner": "it is excluded"}


def test_a_model_that_does_not_run_is_an_error_that_says_so() -> None:
    with pytest.raises(ConfigError, match=r"does not run on the example input.*shape \(1, 3, 9, 9\)"):
        discover(HardCoded(), torch.randn(1, 3, 9, 9))


def test_frozen_training_and_no_grad_make_no_difference() -> None:
    model = Residual().train().requires_grad_(False)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    with torch.inference_mode():
        discovery = discover(model, torch.zeros(1, 3, 2, 2))
    assert [group.name for group in discovery.groups] == ["stem", "inner"]
    assert model.training
    assert not any(parameter.requires_grad for parameter in model.parameters())
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


def test_global_generator_and_default_dtype_are_left_alone() -> None:
    model = Residual()
    state = torch.get_rng_state()
    discover(model, torch.zeros(1, 3, 2, 2))
    assert torch.equal(state, torch.get_rng_state())
    assert torch.get_default_dtype() is torch.float32
