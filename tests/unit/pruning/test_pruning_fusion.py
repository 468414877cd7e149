"""Which operations are found to be chains, in small networks where the answer is plain."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from autoprune.pruning.fusion import Step, find_program


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.norm1 = nn.Conv2d(3, 3, 3, padding=1), nn.BatchNorm2d(3)
        self.conv2, self.norm2 = nn.Conv2d(3, 3, 3, padding=1), nn.BatchNorm2d(3)

    def forward(self, images: Tensor) -> Tensor:
        hidden = functional.relu(self.norm1(self.conv1(images)))
        hidden = self.norm2(self.conv2(hidden))
        hidden += images
        return functional.relu(hidden)


class SeenTwice(Block):
    """What the first convolution gives is normalised, and added as it is."""

    def forward(self, images: Tensor) -> Tensor:
        hidden = self.conv1(images)
        return functional.relu(self.norm1(hidden)) + hidden


class SharedNorm(Block):
    def forward(self, images: Tensor) -> Tensor:
        return self.norm1(self.conv2(self.norm1(self.conv1(images))))


class Branching(Block):
    def forward(self, images: Tensor) -> Tensor:
        return self.norm1(images) if images.sum() > 0 else images


class TwoInputs(Block):
    def forward(self, images: Tensor, more: Tensor) -> Tensor:
        return self.norm1(images) + more


def parts(step: Step) -> tuple[str | None, str | None, str, bool]:
    return step.conv, step.norm, str(step.added), step.relu


def test_a_residual_block_is_two_chains() -> None:
    program = find_program(Block())
    assert program is not None
    assert [parts(step) for step in program.steps] == [
        ("conv1", "norm1", "None", True),
        ("conv2", "norm2", "images", True),
    ]
    assert program.output is program.steps[-1].node


def test_a_value_that_is_read_twice_is_kept() -> None:
    program = find_program(SeenTwice())
    assert program is not None
    assert [parts(step) for step in program.steps] == [
        ("conv1", None, "None", False),
        (None, "norm1", "None", True),
        (None, None, "None", False),  # a chain that has its ReLU is at its end
    ]


def test_values_are_freed_after_their_last_reader() -> None:
    program = find_program(Block())
    assert program is not None
    assert [[str(node) for node in step.frees] for step in program.steps] == [[], ["relu", "images"]]


@pytest.mark.parametrize("hooked", ["conv1", "norm1"])
def test_layers_with_hooks_run_themselves(hooked: str) -> None:
    model = Block()
    model.get_submodule(hooked).register_forward_hook(lambda *_: None)
    program = find_program(model)
    assert program is not None
    assert all(hooked not in (step.conv, step.norm) for step in program.steps)


@pytest.mark.parametrize(
    "model",
    [
        SharedNorm(),
        Branching(),
        TwoInputs(),
        nn.Sequential(nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3, track_running_stats=False)),
        nn.Sequential(nn.Conv2d(3, 3, 1), nn.SyncBatchNorm(3)),
    ],
    ids=["shared", "branching", "two inputs", "batch statistics", "unknown kind"],
)
def test_what_cannot_be_relied_on_has_no_program(model: nn.Module) -> None:
    model.train()
    assert find_program(model) is None
    assert all(module.training for module in model.modules())


def test_a_trace_leaves_no_mark() -> None:
    model = nn.Sequential(nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3), nn.Dropout()).train()
    model[2].eval()
    assert find_program(model) is not None
    assert [module.training for module in model] == [True, True, False]
    torch.testing.assert_close(model[1].running_mean, torch.zeros(3))
