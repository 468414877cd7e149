"""Ablation by gates against zeroed weights and against slicing, in float64; many at once against one by one."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.modules.module import register_module_forward_pre_hook

from autoprune.config.schema import BuiltinModel
from autoprune.models import registry
from autoprune.pruning import criteria
from autoprune.pruning.ablation import Ablator
from autoprune.pruning.groups import discover
from autoprune.pruning.slicing import slice_model
from autoprune.pruning.statistics import collect
from autoprune.types import ChannelGroup

CLASSES = 4


class Branching(nn.Module):
    """Concatenation, a grouped convolution, a flattened map, and a branch that no trace can follow."""

    def __init__(self, *, traceable: bool) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 6, 3, padding=1)
        self.bn = nn.BatchNorm2d(6)
        self.left = nn.Conv2d(6, 4, 1)
        self.right = nn.Conv2d(6, 6, 3, padding=1, groups=2)
        self.head = nn.Linear(10 * 4, CLASSES)
        self._traceable = traceable

    def forward(self, x: Tensor) -> Tensor:
        x = functional.relu(self.bn(self.stem(x)))
        if not self._traceable and x.sum() < -1e9:
            return x
        x = torch.cat([self.left(x), functional.relu(self.right(x))], 1)
        return self.head(functional.adaptive_avg_pool2d(x, 2).flatten(1))


def randomised(model: nn.Module) -> nn.Module:
    """In float64, with BatchNorm statistics that are not 0 and 1."""
    generator = torch.Generator().manual_seed(1)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean = torch.randn(module.num_features, generator=generator) * 0.2
            module.running_var = torch.rand(module.num_features, generator=generator) + 0.5
    return model.double().eval()


def made(name: str) -> nn.Module:
    torch.manual_seed(0)
    if name.startswith("branching"):
        return randomised(Branching(traceable=name == "branching"))
    return randomised(registry.build(BuiltinModel(name=name), num_classes=CLASSES, in_channels=3))


def examples(count: int = 5) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(2)
    images = torch.randn(count, 3, 8, 8, generator=generator, dtype=torch.float64)
    return images, torch.arange(count) % CLASSES


def groups_of(model: nn.Module) -> tuple[ChannelGroup, ...]:
    return discover(model, torch.zeros(1, 3, 8, 8, dtype=torch.float64)).groups


def losses(model: nn.Module) -> np.ndarray:
    images, labels = examples()
    with torch.no_grad():
        found: np.ndarray = functional.cross_entropy(model(images), labels, reduction="none").numpy()
    return found


def zeroed(model: nn.Module, group: ChannelGroup, unit: int) -> np.ndarray:
    """Losses while the consumers' weights for the unit are zero."""
    state = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    for member in group.members:
        if member.role == "consumer":
            positions = torch.from_numpy(member.index[unit])
            model.get_parameter(member.parameter).data.index_fill_(member.dim, positions, 0.0)
    found = losses(model)
    model.load_state_dict(state)
    return found


def sliced(model: nn.Module, groups: tuple[ChannelGroup, ...], group: ChannelGroup, unit: int) -> np.ndarray:
    keep = np.setdiff1d(np.arange(group.units), [unit])
    return losses(slice_model(model, groups, {group.name: keep}))


@pytest.mark.parametrize("name", ["resnet8", "branching", "branching, not traceable"])
def test_a_gate_is_zeroed_weights_and_a_sliced_unit(name: str) -> None:
    model = made(name)
    groups = groups_of(model)
    ablator = Ablator(model, groups, *examples())
    whole = losses(model)
    for group in groups:
        changes = ablator.changes(group)
        assert changes.shape == (group.units, 5)
        assert np.abs(changes).max() > 1e-6, "no unit does anything: nothing is tested"
        for unit in range(min(group.units, 2)):
            np.testing.assert_allclose(changes[unit], zeroed(model, group, unit) - whole, rtol=0, atol=1e-9)
            np.testing.assert_allclose(changes[unit], sliced(model, groups, group, unit) - whole, rtol=0, atol=1e-9)


@pytest.mark.parametrize("samples", [1, 3, 7, 64])
def test_many_at_once_are_what_one_by_one_gives(samples: int) -> None:
    """5 images: in parts of 1, of 3 and 2, whole, and whole with many units at once."""
    model = made("resnet8")
    group = groups_of(model)[2]
    expected = Ablator(model, [group], *examples(), samples=5).changes(group)
    np.testing.assert_allclose(
        Ablator(model, [group], *examples(), samples=samples).changes(group), expected, atol=1e-12
    )


def test_what_comes_before_the_consumers_is_computed_once() -> None:
    model = made("resnet8")
    groups = {group.name: group for group in groups_of(model)}
    ablator = Ablator(model, groups.values(), *examples())  # type: ignore[arg-type]

    def stem_rows(group: ChannelGroup) -> int:
        rows: list[int] = []

        def count(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            if isinstance(module, nn.Conv2d) and module.in_channels == 3:
                rows.append(len(inputs[0]))

        handle = register_module_forward_pre_hook(count)  # type: ignore[arg-type]
        try:
            ablator.changes(group)
        finally:
            handle.remove()
        return sum(rows)

    assert stem_rows(groups["layer3.0.conv1"]) == 2 * 5, "for the check, and for all units"
    unseen = Ablator(made("branching, not traceable"), [], *examples())
    group = groups_of(made("branching, not traceable"))[0]
    assert unseen.steps(group) == group.units


def test_a_dead_unit_changes_nothing_at_all() -> None:
    model = made("resnet8").float()
    group = groups_of(made("resnet8"))[1]
    for member in group.members:
        if member.role == "consumer":
            model.get_parameter(member.parameter).data.index_fill_(member.dim, torch.from_numpy(member.index[3]), 0.0)
    images, labels = examples()
    changes = Ablator(model, [group], images.float(), labels).changes(group)
    assert (changes[3] == 0).all()
    assert (changes[4] != 0).any()


def test_progress_and_an_untouched_model() -> None:
    model = made("resnet8").train()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    group = groups_of(model)[0]
    ablator = Ablator(model, [group], *examples(), samples=2)
    steps: list[int] = []
    first = ablator.changes(group, steps.append)
    assert sum(steps) == ablator.steps(group) == 3 * group.units
    np.testing.assert_array_equal(first, ablator.changes(group))
    assert model.training
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert not any(module._forward_pre_hooks for module in model.modules())


def test_taylor_is_the_oracle_where_all_behind_the_channel_is_linear() -> None:
    """The loss included; with the sign of each example's change, as the oracle has it."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 7, 3), nn.ReLU(), nn.Flatten(), nn.Linear(7 * 36, CLASSES)).double()
    group = groups_of(model)[0]
    images, labels = examples()
    linear: Callable[[Tensor, Tensor], Tensor] = lambda logits, _: logits @ logits.new_tensor([0.3, -1.0, 2.0, 0.5])  # noqa: E731
    criterion = criteria.get("taylor", reduce="abs_of_sum")
    known = collect(model, [group], criterion.needs, [(images, labels)], loss=linear)
    taylor = criterion.score(group, model.state_dict(), known) * 36
    oracle = np.abs(Ablator(model, [group], images, labels, loss=linear).changes(group).mean(axis=1))
    np.testing.assert_allclose(taylor, oracle, atol=1e-12)


def test_a_group_whose_readers_cannot_be_seen_is_named() -> None:
    torch.manual_seed(0)

    class Functional(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first = nn.Linear(8, 6)
            self.second = nn.Linear(6, CLASSES)

        def forward(self, x: Tensor) -> Tensor:
            return functional.linear(self.first(x.mean((1, 2))), self.second.weight, self.second.bias)

    model = Functional().double()
    groups = groups_of(model)
    assert [group.name for group in groups] == ["first"]
    assert "'second'" in Ablator(model, groups, *examples()).untapped["first"]
