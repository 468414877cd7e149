"""Small networks of every kind of coupling, with what their spaces are searched on."""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import cache

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from autoprune.config.schema import BuiltinModel, RuleConfig
from autoprune.models import registry
from autoprune.space.space import SearchSpace

RULES = (RuleConfig(multiple=1, floor=0.2),)


class Dense(nn.Module):
    """Two layers that add to what they read, then a transition."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, 6, 3, padding=1)
        self.one = nn.Conv2d(6, 4, 3, padding=1, bias=False)
        self.two = nn.Conv2d(10, 4, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(14)
        self.transition = nn.Conv2d(14, 8, 1)
        self.head = nn.Linear(8, 10)

    def forward(self, images: Tensor) -> Tensor:
        hidden = self.stem(images)
        hidden = torch.cat([hidden, F.relu(self.one(hidden))], 1)
        hidden = torch.cat([hidden, F.relu(self.two(hidden))], 1)
        return self.head(F.relu(self.transition(self.norm(hidden))).mean((2, 3)))


class Grouped(nn.Module):
    """A ResNeXt block with four groups."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, 8, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(8)
        self.one = nn.Conv2d(8, 16, 1, bias=False)
        self.two = nn.Conv2d(16, 16, 3, padding=1, groups=4, bias=False)
        self.three = nn.Conv2d(16, 8, 1, bias=False)
        self.head = nn.Linear(8, 10)

    def forward(self, images: Tensor) -> Tensor:
        hidden = F.relu(self.norm(self.stem(images)))
        inner = F.relu(self.two(F.relu(self.one(hidden))))
        return self.head(F.relu(hidden + self.three(inner)).mean((2, 3)))


class Upsampled(nn.Module):
    """A transposed convolution, and two layers that share one weight."""

    def __init__(self) -> None:
        super().__init__()
        self.one = nn.Conv2d(1, 6, 3, padding=1)
        self.up = nn.ConvTranspose2d(6, 8, 2, 2)
        self.two = nn.Conv2d(8, 8, 3, padding=1)
        self.again = nn.Conv2d(8, 8, 3, padding=1)
        self.again.weight = self.two.weight
        self.head = nn.Linear(8, 10)

    def forward(self, images: Tensor) -> Tensor:
        hidden = F.relu(self.up(F.relu(self.one(images))))
        return self.head(self.again(F.relu(self.two(hidden))).mean((2, 3)))


def _builtin(name: str, **args: object) -> Callable[[], nn.Module]:
    return lambda: registry.build(BuiltinModel(name=name, args=args), num_classes=10, in_channels=1)


NETS: dict[str, Callable[[], nn.Module]] = {
    "resnet8": _builtin("resnet8", width=8),
    "mobilenet_v1": _builtin("mobilenet_v1", width=0.125, small_images=True, dropout=0.0),
    "mobilenet_v2": _builtin("mobilenet_v2", width=0.25, small_images=True, dropout=0.0),
    "dense": Dense,
    "grouped": Grouped,
    "upsampled": Upsampled,
}


def made(name: str) -> tuple[nn.Module, SearchSpace]:
    """The network, in eval mode with random BatchNorm, and its space on images of 1 x 8 x 8; equal in every call."""
    network, space = _made(name)
    return copy.deepcopy(network), space


@cache
def _made(name: str) -> tuple[nn.Module, SearchSpace]:
    torch.manual_seed(0)
    network = NETS[name]().eval()
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias)
            module.running_mean.normal_()
            module.running_var.uniform_(0.5, 2.0)
    return network, SearchSpace.from_module(network, torch.zeros(1, 1, 8, 8), RULES)
