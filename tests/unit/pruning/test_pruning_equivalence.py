"""The check itself must be able to fail: every way of writing an index map wrongly is caught."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from autoprune.pruning.equivalence import TOLERANCE, Checker, Failure, max_error
from autoprune.pruning.groups import discover
from autoprune.types import ChannelGroup, Slice

EXAMPLE = torch.zeros(1, 3, 4, 4)


def network() -> nn.Module:
    """All zero weights: the check must not depend on them."""
    model = nn.Sequential(
        nn.Conv2d(3, 6, 3, padding=1),
        nn.BatchNorm2d(6),
        nn.ReLU(),
        nn.Conv2d(6, 4, 3, padding=1),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(64, 5),
    )
    for parameter in model.parameters():
        nn.init.zeros_(parameter)
    return model


def changed(group: ChannelGroup, parameter: str, dim: int, change: Callable[[Slice], Slice]) -> ChannelGroup:
    members = tuple(
        change(member) if (member.parameter, member.dim) == (parameter, dim) else member for member in group.members
    )
    return replace(group, members=members)


def test_right_maps_pass() -> None:
    groups = discover(network(), EXAMPLE, check=False).groups
    assert max_error(network(), groups, EXAMPLE, {"0": np.array([0, 2, 5]), "3": np.array([1, 2])}) <= TOLERANCE
    assert max_error(network(), groups, EXAMPLE, {}) == 0.0


@pytest.mark.parametrize(
    ("parameter", "dim", "number"),
    [
        ("0.weight", 0, 0),
        ("0.bias", 0, 0),
        ("1.running_mean", 0, 0),
        ("1.weight", 0, 0),
        ("3.weight", 1, 0),
        ("3.bias", 0, 1),
        ("6.weight", 1, 1),
    ],
)
def test_a_wrong_map_is_caught(parameter: str, dim: int, number: int) -> None:
    groups = list(discover(network(), EXAMPLE, check=False).groups)
    keep = {"0": np.array([0, 2, 5]), "3": np.array([1, 2])}
    groups[number] = changed(
        groups[number], parameter, dim, lambda member: replace(member, index=np.roll(member.index, 1, axis=0))
    )
    assert max_error(network(), groups, EXAMPLE, keep) > 1e-3


def test_interleaved_instead_of_blocked_flatten_is_caught() -> None:
    groups = list(discover(network(), EXAMPLE, check=False).groups)
    groups[1] = changed(
        groups[1], "6.weight", 1, lambda member: replace(member, index=np.arange(64).reshape(16, 4).T.copy())
    )
    assert max_error(network(), groups, EXAMPLE, {"3": np.array([0, 3])}) > 1e-3


def test_a_missing_member_does_not_run() -> None:
    groups = list(discover(network(), EXAMPLE, check=False).groups)
    groups[0] = replace(groups[0], members=tuple(m for m in groups[0].members if m.parameter != "1.running_var"))
    with pytest.raises(RuntimeError):
        max_error(network(), groups, EXAMPLE, {"0": np.array([0, 1])})


def test_model_is_not_changed() -> None:
    model = network().train()
    max_error(model, discover(model, EXAMPLE).groups, EXAMPLE, {"0": np.array([1])})
    assert model.training
    assert all(not parameter.any() and parameter.dtype is torch.float32 for parameter in model.parameters())


class CountsOnFour(nn.Module):
    """Its code knows how many channels ``first`` has; the others are free."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.first = nn.Conv2d(3, 6, 1), nn.Conv2d(6, 8, 1)
        self.left, self.right = nn.Conv2d(4, 5, 1), nn.Conv2d(4, 5, 1)
        self.head = nn.Linear(5, 2)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        both = self.first(self.stem(image))
        return self.head((self.left(both[:, :4]) + self.right(both[:, 4:])).mean((2, 3)))


def test_where_the_network_stops_the_groups_read_there_are_suspected() -> None:
    model, example = CountsOnFour(), torch.zeros(1, 3, 4, 4)
    groups = discover(model, example, check=False).groups
    assert [group.name for group in groups] == ["stem", "first", "left"]
    checker = Checker(model, groups, example)
    assert checker.failure(["stem", "left"]) is None
    failure = checker.failure(["stem", "first", "left"])
    assert failure is not None
    assert "does not run" in failure.reason
    assert failure.suspects == {"first"}


def test_one_search_for_culprits_takes_few_checks(monkeypatch: pytest.MonkeyPatch) -> None:
    checked: list[set[str]] = []
    failure_of = Checker.failure

    def counted(self: Checker, names: Collection[str]) -> Failure | None:
        checked.append(set(names))
        return failure_of(self, names)

    monkeypatch.setattr(Checker, "failure", counted)
    discovery = discover(CountsOnFour(), torch.zeros(1, 3, 4, 4))
    assert [group.name for group in discovery.groups] == ["stem", "left"]
    assert set(discovery.left_out) == {"first"}
    assert checked == [{"stem", "first", "left"}, {"stem", "left"}, {"stem", "first", "left"}]
