"""The quick copy against copy.deepcopy."""

from __future__ import annotations

import copy
import functools
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from autoprune.pruning.cloning import clone


class Odd(nn.Module):
    """What users put on modules: lists of modules, bound methods, partials, plain tensors, shared objects."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 1)
        self.again = self.conv
        self.mine = [self.conv]
        self.bound = self.helper
        self.partial = functools.partial(torch.add, torch.ones(1))
        self.plain = torch.ones(3)
        self.window = self.plain[:2]
        self.settings: dict[str, Any] = {"sizes": [1, 2]}
        self.same_settings = self.settings
        self.norm = nn.BatchNorm2d(4)

    def helper(self, x: Tensor) -> Tensor:
        return self.norm(self.conv(x)) * self.plain[0]

    def forward(self, x: Tensor) -> Tensor:
        return self.bound(x)


def test_copies_behave_and_share_nothing() -> None:
    model, x = Odd().eval(), torch.randn(1, 3, 2, 2)
    copied = clone(model)
    expected = model(x)
    with torch.no_grad():
        model.conv.weight.zero_()
        model.plain.zero_()
    model.settings["sizes"].append(3)
    assert torch.equal(copied(x), expected)
    assert copied.again is copied.conv is copied.mine[0]
    assert copied.bound.__self__ is copied
    assert copied.settings is copied.same_settings
    assert copied.settings == {"sizes": [1, 2]}
    copied.plain[0] = 5.0
    assert copied.window[0] == 5.0  # views of one storage stay so, as in deepcopy


@pytest.mark.parametrize(
    "model",
    [
        nn.LSTM(3, 4, batch_first=True),
        nn.utils.parametrizations.weight_norm(nn.Linear(3, 4)),
        nn.TransformerEncoderLayer(3, 1, 5, batch_first=True),
        nn.Sequential(nn.Conv1d(3, 4, 1, padding_mode="circular"), nn.BatchNorm1d(4)),
    ],
    ids=lambda model: type(model).__name__,
)
def test_same_as_deepcopy(model: nn.Module) -> None:
    model.eval()
    x = torch.randn(2, 3, 3)
    ours, theirs = clone(model), copy.deepcopy(model)
    assert ours.state_dict().keys() == theirs.state_dict().keys()
    expected = theirs(x)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.fill_(9.0)
    torch.testing.assert_close(ours(x), expected, rtol=0, atol=0)
    assert [p.requires_grad for p in ours.parameters()] == [p.requires_grad for p in theirs.parameters()]


class Stubborn(nn.Linear):
    def __deepcopy__(self, memo: dict[int, Any]) -> Stubborn:
        made = Stubborn(self.in_features, self.out_features)
        memo[id(self)] = made
        made.load_state_dict(self.state_dict())
        made.note = "my own"
        return made


def test_classes_that_copy_themselves_are_asked() -> None:
    copied = clone(nn.Sequential(Stubborn(2, 2)))
    assert copied[0].note == "my own"
