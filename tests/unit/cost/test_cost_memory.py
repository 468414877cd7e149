"""Memory by hand on small nets, and against watching sliced nets run."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from autoprune.config.schema import BuiltinModel
from autoprune.cost.memory import MemoryModel, Peaks
from autoprune.cost.memory_trace import observe, trace_memory
from autoprune.cost.trace import trace
from autoprune.errors import ConfigError
from autoprune.models.registry import build
from autoprune.pruning.groups import discover
from autoprune.pruning.slicing import slice_model
from autoprune.space.decoding import Decoder
from autoprune.space.space import SearchSpace
from autoprune.types import ChannelGroup, Constraint, Slice

IMAGE = torch.zeros(1, 3, 8, 8)
PLANE = 8 * 8 * 4
"""Bytes of one channel."""


def peak(*layers: nn.Module) -> float:
    return observe(nn.Sequential(*layers).eval(), IMAGE).peak


class Residual(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 4, 1), nn.Conv2d(4, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        return torch.cat([x, self.second(x).relu_() + x], 1)


def test_peaks_by_hand() -> None:
    conv = nn.Conv2d(3, 16, 1)
    assert peak(conv) == (3 + 16) * PLANE  # the input beside the output
    assert peak(conv, nn.ReLU(inplace=True)) == (3 + 16) * PLANE
    assert peak(conv, nn.ReLU()) == (16 + 16) * PLANE
    assert peak(conv, nn.BatchNorm2d(16), nn.ReLU(inplace=True)) == 32 * PLANE
    assert peak(conv, nn.Flatten(), nn.Linear(16 * 64, 5)) == (3 + 16) * PLANE  # a view is no copy
    assert peak(conv, nn.MaxPool2d(2)) == 16 * PLANE + 16 * PLANE // 4 * 3  # the pool's indices take 8 bytes each
    assert peak(nn.Conv2d(3, 2, 1), nn.Conv2d(2, 1, 1)) == (3 + 2) * PLANE
    # at the concatenation: x (4), the sum (4), the result (8); relu_ is in place
    assert observe(Residual().eval(), IMAGE).peak == 16 * PLANE


def test_the_input_lives_to_its_last_reader_and_the_output_to_the_end() -> None:
    class Early(nn.Module):
        def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
            y = x + 1  # an output
            return y, (y * 2).sum()

    lives = observe(Early(), IMAGE)
    assert lives.read.tolist() == [1, 4, 3, 4]
    assert lives.made.tolist() == [0, 1, 2, 3]


def test_several_inputs_count_all() -> None:
    class Sum(nn.Module):
        def forward(self, x: Tensor, y: Tensor) -> Tensor:
            return torch.relu(x).sum() + y

    assert observe(Sum(), (IMAGE, torch.zeros(1, 5, 8, 8))).peak == (3 + 3 + 5) * PLANE


def test_half_precision_takes_half() -> None:
    conv = nn.Conv2d(3, 16, 1).bfloat16()
    assert observe(conv.eval(), IMAGE.bfloat16()).peak == (3 + 16) * PLANE / 2


@pytest.mark.parametrize(("name", "size"), [("resnet8", 32), ("mobilenet_v1", 32), ("lenet5", 28)])
def test_predictions_are_what_sliced_nets_take(name: str, size: int) -> None:
    image = torch.zeros(1, 3, size, size)
    model = build(BuiltinModel(name=name), num_classes=10, in_channels=3).eval()
    groups = discover(model, image, check=False).groups
    memory = trace_memory(model, image, groups, trace(model, image, groups))
    rng = np.random.default_rng(0)
    kept = [[int(rng.integers(1, group.units + 1)) for group in groups] for _ in range(12)]
    widths = np.array(kept) * [group.unit for group in groups]
    found = pickle.loads(pickle.dumps(memory)).metrics(widths)  # noqa: S301 - our own
    for row, units in enumerate(kept):
        keep = {group.name: np.arange(count) for group, count in zip(groups, units, strict=True)}
        sliced = slice_model(model, groups, keep)
        assert found["peak_activation_bytes"][row] == observe(sliced, image).peak
        saved = sum(tensor.nbytes for tensor in sliced.state_dict().values())
        assert found["weight_bytes"][row] == saved


def test_the_worst_moments_decide() -> None:
    rng = np.random.default_rng(0)
    units = np.array([5.0, 7.0, 3.0])
    peaks = Peaks(rng.integers(0, 9, 60).astype(float), rng.integers(0, 5, (60, 3)).astype(float))
    fewer = peaks.worst(units)
    assert len(fewer.constant) < 30
    kept = rng.integers(0, units.astype(int) + 1, (500, 3))
    expected = (peaks.constant + kept @ peaks.linear.T).max(axis=1)
    assert fewer.most(kept).tolist() == expected.tolist()


def test_other_operations_at_other_widths_are_refused() -> None:
    class Moody(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 8, 1)

        def forward(self, x: Tensor) -> Tensor:
            x = self.conv(x)
            return (x.relu() if x.shape[1] > 4 else x).mean((1, 2, 3))

    model, every = Moody().eval(), np.arange(8)[:, None]
    groups = (ChannelGroup("conv", 8, (Slice("conv.weight", 0, every), Slice("conv.bias", 0, every))),)
    with pytest.raises(ConfigError, match="other operations run at other widths"):
        trace_memory(model, IMAGE, groups, trace(model, IMAGE, groups))


def test_a_budget_for_memory_is_met() -> None:
    model = build(BuiltinModel(name="resnet8"), num_classes=10, in_channels=3).eval()
    image = torch.zeros(1, 3, 32, 32)
    space = extended(SearchSpace.from_module(model, image, check=False), model, image)
    bounds = [Constraint("peak_activation_bytes", "<=", 0.5, True), Constraint("weight_bytes", "<=", 100_000.0)]
    decoder = Decoder(space, bounds)
    baseline = space.cost.baseline
    assert baseline["weight_bytes"] == sum(tensor.nbytes for tensor in model.state_dict().values())
    for keep_ratio in (0.1, 0.4, 0.7, 1.0):
        measured = space.cost.measure(decoder.decode(space.uniform(keep_ratio)))
        assert measured["peak_activation_bytes"] <= 0.5 * baseline["peak_activation_bytes"]
        assert measured["weight_bytes"] <= 100_000
    assert space.cost.measure(decoder.decode(space.full()))["peak_activation_bytes"] > 0


def extended(space: SearchSpace, model: nn.Module, image: Tensor) -> SearchSpace:
    from dataclasses import replace

    memory: MemoryModel = trace_memory(model, image, space.groups, space.cost)
    return replace(space, cost=replace(space.cost, extras=(memory,)))
