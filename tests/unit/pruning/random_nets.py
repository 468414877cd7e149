"""Random small networks as data: a list of blocks that hypothesis draws, shrinks and prints."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from hypothesis import strategies as st
from torch import Tensor, nn

__all__ = ["KINDS", "SIZE", "Block", "Plan", "build", "plans"]

SIZE = 6
"""Height and width of the images; nothing changes them before the head."""


@dataclass(frozen=True)
class Block:
    kind: str
    width: int
    """Channels that the block gives; what couples them to its input ignores it."""
    norm: bool = False


@dataclass(frozen=True)
class Plan:
    blocks: tuple[Block, ...]
    head: str
    hidden: int
    """Width of a hidden linear layer; 0: none."""


KINDS = (
    "conv",
    "grouped",
    "depthwise",
    "residual",
    "projected",
    "concat",
    "dense",
    "split",
    "cut",
    "gate",
    "attention",
)


def plans(kinds: tuple[str, ...] = KINDS, most: int = 4) -> st.SearchStrategy[Plan]:
    """Networks of up to ``most`` blocks after a first convolution."""
    block = st.builds(Block, st.sampled_from(kinds), st.integers(1, 4).map(lambda half: 2 * half), st.booleans())
    return st.builds(
        Plan,
        st.lists(block, min_size=1, max_size=most).map(tuple),
        st.sampled_from(["pool", "flatten", "map"]),
        st.sampled_from([0, 5]),
    )


def build(plan: Plan) -> nn.Module:
    """The network in eval mode, float64, weights and statistics random."""
    torch.manual_seed(0)
    net = _Net(plan).double()
    for layer in net.modules():
        if isinstance(layer, nn.BatchNorm2d):
            nn.init.uniform_(layer.weight, 0.5, 1.5)
            nn.init.normal_(layer.bias)
            layer.running_mean = torch.randn_like(layer.weight)
            layer.running_var = torch.rand_like(layer.weight) + 0.5
    return net.eval()


class _Net(nn.Module):
    def __init__(self, plan: Plan) -> None:
        super().__init__()
        channels = 4
        self.stem = nn.Conv2d(2, channels, 3, padding=1)
        self.blocks = nn.ModuleList()
        for block in plan.blocks:
            layer = _LAYERS[block.kind](channels, block.width, block.norm)
            self.blocks.append(layer)
            channels = layer.channels
        self.head = _Head(channels, plan.head, plan.hidden)

    def forward(self, images: Tensor) -> Tensor:
        values = torch.relu(self.stem(images))
        for block in self.blocks:
            values = block(values)
        return self.head(values)


class _Head(nn.Module):
    def __init__(self, channels: int, kind: str, hidden: int) -> None:
        super().__init__()
        self.kind = kind
        if kind == "map":
            self.last: nn.Module = nn.Conv2d(channels, 3, 1)
            return
        features = channels if kind == "pool" else channels * SIZE * SIZE
        layers = [nn.Linear(features, hidden), nn.ReLU(), nn.Linear(hidden, 3)] if hidden else [nn.Linear(features, 3)]
        self.last = nn.Sequential(*layers)

    def forward(self, values: Tensor) -> Tensor:
        if self.kind == "pool":
            values = values.mean((2, 3))
        return self.last(values.flatten(1) if self.kind == "flatten" else values)


def _conv(before: int, after: int, norm: bool, groups: int = 1) -> nn.Sequential:
    layers: list[nn.Module] = [nn.Conv2d(before, after, 3, padding=1, groups=groups, bias=not norm)]
    return nn.Sequential(*layers, nn.BatchNorm2d(after)) if norm else nn.Sequential(*layers)


class _Conv(nn.Module):
    def __init__(self, before: int, width: int, norm: bool) -> None:
        super().__init__()
        self.channels = width
        self.conv = _conv(before, width, norm)

    def forward(self, values: Tensor) -> Tensor:
        return torch.relu(self.conv(values))


class _Grouped(_Conv):
    """Two groups where the channels allow it."""

    def __init__(self, before: int, width: int, norm: bool) -> None:
        super().__init__(before, width, norm)
        self.conv = _conv(before, width, norm, groups=2 if before % 2 == 0 else 1)


class _Depthwise(nn.Module):
    def __init__(self, before: int, width: int, norm: bool) -> None:
        super().__init__()
        self.channels = before
        self.conv = _conv(before, before, norm, groups=before)

    def forward(self, values: Tensor) -> Tensor:
        return torch.relu(self.conv(values))


class _Residual(nn.Module):
    def __init__(self, before: int, width: int, norm: bool) -> None:
        super().__init__()
        self.channels = before
        self.first, self.second = _conv(before, width, norm), _conv(width, before, norm)

    def forward(self, values: Tensor) -> Tensor:
        return torch.relu(self.second(torch.relu(self.first(values))) + values)


class _Projected(nn.Module):
    def __init__(self, before: int, width: int, norm: bool) -> None:
        super().__init__()
        self.channels = width
        self.body, self.shortcut = _conv(before, width, norm), nn.Conv2d(before, width, 1)

    def forward(self, values: Tensor) -> Tensor:
        return torch.relu(self.body(values) + self.shortcut(values))


class _Concat(nn.Module):
    def __init__(self, before: int, width: int, norm: bool) -> None:
        super().__init__()
        self.channels = width + 2
        self.left, self.right = _conv(before, width, norm), nn.Conv2d(before, 2, 1)

    def forward(self, values: Tensor) -> Tensor:
        return torch.relu(torch.cat([self.left(values), self.right(values)], 1))


class _Dense(nn.Module):
    """The input goes on beside what is made of it."""

    def __init__(self, before: int, width: int, norm: bool) -> None:
        super().__init__()
        self.channels = before + width
        self.conv = _conv(before, width, norm)

    def forward(self, values: Tensor) -> Tensor:
        return torch.cat([values, torch.relu(self.conv(values))], 1)


class _Split(nn.Module):
    """One half is changed, the other goes on: both must stay halves."""

    def __init__(self, before: int, width: int, norm: bool) -> None:
        super().__init__()
        self.channels = before
        self.conv = _conv(before // 2, before // 2, norm)

    def forward(self, values: Tensor) -> Tensor:
        kept, changed = values.chunk(2, 1)
        return torch.cat([kept, torch.relu(self.conv(changed))], 1)


class _Cut(nn.Module):
    """The first two channels go one way whatever the width: a number in ``forward`` that slicing cannot change."""

    def __init__(self, before: int, width: int, norm: bool) -> None:
        super().__init__()
        self.channels = width
        self.few, self.rest = nn.Conv2d(2, width, 1), _conv(before - 2, width, norm) if before > 2 else None

    def forward(self, values: Tensor) -> Tensor:
        few = self.few(values[:, :2])
        return torch.relu(few if self.rest is None else few + self.rest(values[:, 2:]))


class _Gate(nn.Module):
    """Squeeze and excitation."""

    def __init__(self, before: int, width: int, norm: bool) -> None:
        super().__init__()
        self.channels = before
        self.down, self.up = nn.Conv2d(before, width, 1), nn.Conv2d(width, before, 1)

    def forward(self, values: Tensor) -> Tensor:
        squeezed = values.mean((2, 3), keepdim=True)
        return values * torch.sigmoid(self.up(torch.relu(self.down(squeezed))))


class _Attention(nn.Module):
    """Pixels attend to each other, with two heads where the channels allow it."""

    def __init__(self, before: int, width: int, norm: bool) -> None:
        super().__init__()
        self.channels = before
        self.returns_weights = norm
        self.attention = nn.MultiheadAttention(before, 2 if before % 2 == 0 else 1, batch_first=width > 4)

    def forward(self, values: Tensor) -> Tensor:
        if self.attention.batch_first:
            pixels = values.flatten(2).transpose(1, 2)
            mixed = self.attention(pixels, pixels, pixels, need_weights=self.returns_weights)[0].transpose(1, 2)
        else:
            pixels = values.flatten(2).permute(2, 0, 1)
            mixed = self.attention(pixels, pixels, pixels, need_weights=self.returns_weights)[0].permute(1, 2, 0)
        return values + mixed.reshape(values.shape)


_LAYERS: dict[str, type] = {
    "conv": _Conv,
    "grouped": _Grouped,
    "depthwise": _Depthwise,
    "residual": _Residual,
    "projected": _Projected,
    "concat": _Concat,
    "dense": _Dense,
    "split": _Split,
    "cut": _Cut,
    "gate": _Gate,
    "attention": _Attention,
}
