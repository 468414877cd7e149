"""What operations do to channels, in nets of two or three layers; every group also passes the numerical check."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from autoprune.config.schema import BuiltinModel
from autoprune.models.registry import build
from autoprune.pruning.equivalence import TOLERANCE, max_error
from autoprune.pruning.groups import Discovery, discover

IMAGE = (1, 3, 8, 8)


class Between(nn.Module):
    """A convolution of ``made`` channels, something, and a convolution that reads ``read`` channels."""

    def __init__(self, made: int = 8, read: int = 8) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, made, 3, padding=1)
        self.last = nn.Conv2d(read, 4, 1)

    def between(self, x: Tensor) -> Tensor:
        raise NotImplementedError

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.between(self.first(x))).mean((2, 3))


def found(model: nn.Module, shape: tuple[int, ...] = IMAGE) -> Discovery:
    torch.manual_seed(0)
    example = torch.randn(shape)
    discovery = discover(model, example)
    rng = np.random.default_rng(0)
    keep = {g.name: np.sort(rng.permutation(g.units)[: max(1, g.units // 2)]) for g in discovery.groups}
    if keep:
        assert max_error(model, discovery.groups, example, keep) <= TOLERANCE
    return discovery


def units(model: nn.Module, shape: tuple[int, ...] = IMAGE) -> dict[str, int]:
    """Group -> unit; nothing is left out."""
    discovery = found(model, shape)
    assert not discovery.left_out
    return {group.name: group.unit for group in discovery.groups}


def index(discovery: Discovery, parameter: str, dim: int) -> list[list[int]]:
    (member,) = (m for g in discovery.groups for m in g.members if (m.parameter, m.dim) == (parameter, dim))
    return member.index.tolist()


class Shuffle(Between):
    def between(self, x: Tensor) -> Tensor:
        batch, channels, height, width = x.shape
        grid = x.view(batch, 2, channels // 2, height, width)
        return grid.transpose(1, 2).reshape(batch, channels, height, width)


def test_a_channel_shuffle_moves_pairs() -> None:
    discovery = found(Shuffle())
    assert index(discovery, "first.weight", 0) == [[0, 4], [1, 5], [2, 6], [3, 7]]
    assert index(discovery, "last.weight", 1) == [[0, 1], [2, 3], [4, 5], [6, 7]]


class Radix(Between):
    """Split attention: two halves, a softmax over the halves, and their weighted sum."""

    def between(self, x: Tensor) -> Tensor:
        halves = x.reshape(len(x), 2, x.shape[1] // 2, *x.shape[2:])
        return (halves * halves.mean((3, 4), keepdim=True).softmax(1)).sum(1)


def test_split_attention_keeps_its_halves_together() -> None:
    assert units(Radix(8, 4)) == {"first": 2}


class PixelShuffle(Between):
    def between(self, x: Tensor) -> Tensor:
        return F.pixel_unshuffle(F.pixel_shuffle(x, 2), 4)


def test_pixels_and_channels_change_places() -> None:
    discovery = found(PixelShuffle(8, 32))
    assert index(discovery, "first.weight", 0) == [[0, 1, 2, 3], [4, 5, 6, 7]]
    assert index(discovery, "last.weight", 1) == [list(range(16)), list(range(16, 32))]


class Blur(Between):
    """A fixed filter, expanded to as many channels as there are."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("kernel", torch.ones(1, 1, 3, 3) / 9)

    def between(self, x: Tensor) -> Tensor:
        return F.conv2d(x, self.kernel.expand(x.shape[1], -1, -1, -1), padding=1, groups=x.shape[1])


class SqueezeExcite(Between):
    def __init__(self) -> None:
        super().__init__()
        self.down, self.up = nn.Linear(8, 6), nn.Linear(6, 8)

    def between(self, x: Tensor) -> Tensor:
        gate = torch.sigmoid(self.up(F.relu(self.down(x.mean((2, 3))))))
        return x * gate[:, :, None, None]


class LayerScale(Between):
    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(8))

    def between(self, x: Tensor) -> Tensor:
        return (x.permute(0, 2, 3, 1) * self.scale).permute(0, 3, 1, 2)


class Filled(Between):
    """The result is written into a tensor of zeros, half of the rows at a time."""

    def between(self, x: Tensor) -> Tensor:
        filled = x.new_zeros(x.shape)
        filled[:, :, :4] = x[:, :, :4]
        filled[:, :, 4:] = x[:, :, 4:]
        return filled + torch.zeros(x.shape[1], 1, 1)


class Raw(Between):
    """Weights that no layer owns."""

    def __init__(self) -> None:
        super().__init__()
        self.kernel = nn.Parameter(torch.randn(8, 8, 1, 1))

    def between(self, x: Tensor) -> Tensor:
        return F.relu(F.conv2d(x, self.kernel))


class Asks(Between):
    """Control flow that depends on the numbers of the image."""

    def forward(self, x: Tensor) -> Tensor:
        made = self.first(x)
        return self.last(F.relu(made) if float(x.abs().sum()) > 0 else made).mean((2, 3))


class Einsum(Between):
    def __init__(self) -> None:
        super().__init__()
        self.mix = nn.Parameter(torch.randn(8, 8))

    def between(self, x: Tensor) -> Tensor:
        return torch.einsum("nchw,cd->ndhw", x, self.mix)


class Gain(Between):
    """A weight that is scaled on the fly may still be cut."""

    def __init__(self) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.ones(4, 1, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(self.first(x), self.last.weight * self.gain).mean((2, 3))


@pytest.mark.parametrize(
    ("model", "groups"),
    [
        (Blur(), {"first": 1}),
        (SqueezeExcite(), {"first": 1, "down": 1}),
        (LayerScale(), {"first": 1}),
        (Filled(), {"first": 1}),
        (Raw(), {"first": 1, "kernel": 1}),
        (Asks(), {"first": 1}),
        (Einsum(), {"first": 1, "mix": 1}),
        (Gain(), {"first": 1}),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, nn.Module) else "",
)
def test_channels_are_followed_through(model: nn.Module, groups: dict[str, int]) -> None:
    assert units(model) == groups


class GlobalNorm(Between):
    """Global response normalisation (ConvNeXt V2): the mean of the channels' norms."""

    def between(self, x: Tensor) -> Tensor:
        norms = x.norm(dim=(2, 3), keepdim=True)
        return x * norms / norms.mean(1, keepdim=True)


class Standardised(Between):
    """The reader's weight is normalised over what it reads."""

    def forward(self, x: Tensor) -> Tensor:
        weight = F.layer_norm(self.last.weight, self.last.weight.shape[1:])
        return F.conv2d(self.first(x), weight).mean((2, 3))


class Inverse(Between):
    def between(self, x: Tensor) -> Tensor:
        rows = x.mean((2, 3))
        return x + torch.linalg.inv(rows[:, :, None] * rows[:, None] + torch.eye(8)).sum((1, 2))[:, None, None, None]


class AcrossChannels(Between):
    """Efficient channel attention: a convolution along the channels."""

    def __init__(self) -> None:
        super().__init__()
        self.along = nn.Conv1d(1, 1, 3, padding=1)

    def between(self, x: Tensor) -> Tensor:
        gate = self.along(x.mean((2, 3))[:, None])
        return x * gate.sigmoid().transpose(1, 2)[..., None]


@pytest.mark.parametrize(
    ("model", "reason"),
    [
        (GlobalNorm(), "mean in GlobalNorm runs across channels"),
        (Standardised(), "the weight of Standardised, which reads its channels, is also used where it cannot be cut"),
        (Inverse(), "linalg_inv_ex in Inverse is not known to keep channels apart"),
        (AcrossChannels(), "Conv1d 'along' convolves along its channels"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, nn.Module) else "",
)
def test_what_mixes_channels_is_named(model: nn.Module, reason: str) -> None:
    assert found(model).left_out["first"] == reason


class Attention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Conv2d(3, 12, 2, stride=2)
        self.norm, self.qkv, self.out = nn.LayerNorm(12), nn.Linear(12, 36), nn.Linear(12, 12)
        self.up, self.down, self.head = nn.Linear(12, 20), nn.Linear(20, 12), nn.Linear(12, 5)

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.embed(x).flatten(2).transpose(1, 2)
        q, k, v = self.qkv(self.norm(tokens)).reshape(len(x), -1, 3, 2, 6).permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(tokens.shape)
        tokens = tokens + self.out(mixed)
        return self.head((tokens + self.down(F.gelu(self.up(tokens)))).mean(1))


def test_a_transformer_block_keeps_its_stream_and_heads_and_loses_hidden_channels() -> None:
    discovery = found(Attention())
    assert [group.name for group in discovery.groups] == ["up"]
    assert discovery.left_out == {
        "embed": "LayerNorm 'norm' normalises across channels",
        "qkv": "bmm in Attention multiplies two activations",
    }


def test_timm_families_are_pruned_through_their_own_layers() -> None:
    """Split attention, blur pooling, and a stem of the same; every group passes the check."""
    from autoprune.config.schema import TimmModel
    from autoprune.models.torchvision_shim import torchvision  # noqa: F401 - timm imports it

    pytest.importorskip("timm")
    for name, args in (("resnest14d", {"stem_width": 8}), ("resnetblur18", {})):
        model = build(TimmModel(name=name, args=args), num_classes=5, in_channels=3)
        assert not found(model, (1, 3, 64, 64)).left_out


def coupled_layers(model: nn.Module, example: Tensor, layer: str) -> set[str]:
    """Layers that torch-pruning cuts together with the layer's output channels."""
    tp = pytest.importorskip("torch_pruning")
    graph = tp.DependencyGraph().build_dependency(model, example, verbose=False)
    module = model.get_submodule(layer)
    group = graph.get_pruning_group(module, tp.prune_conv_out_channels, [0])
    names = {module: name for name, module in model.named_modules()}
    return {names[part.dep.target.module] for part in group if part.dep.target.module in names}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", ["resnet20", "mobilenet_v2", "vgg16_bn"])
def test_groups_are_those_of_torch_pruning(name: str) -> None:
    model = build(BuiltinModel(name=name), num_classes=10, in_channels=3).eval()
    example = torch.randn(1, 3, 32, 32)
    for group in discover(model, example, check=False).groups:
        ours = {member.parameter.rpartition(".")[0] for member in group.members}
        assert ours == coupled_layers(model, example, group.name)
