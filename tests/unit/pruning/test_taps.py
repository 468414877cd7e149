"""Gates against the network whose consumers ignore the cut channels, and maps against what activations really give."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from autoprune.pruning.equivalence import Checker
from autoprune.pruning.groups import discover
from autoprune.pruning.statistics.sources import find_sources
from autoprune.pruning.taps import evaluating, find_taps, gated


class Branches(nn.Module):
    """Concatenation, a residual stream, a product, depthwise and grouped convolutions, and a reader used twice."""

    def __init__(self) -> None:
        super().__init__()
        self.left, self.right = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(3, 6, 3, padding=1)
        self.mixed = nn.Conv2d(10, 8, 1)
        self.depthwise = nn.Conv2d(8, 8, 3, padding=1, groups=8)
        self.squeeze, self.excite = nn.Conv2d(8, 4, 1), nn.Conv2d(4, 8, 1)
        self.grouped = nn.Conv2d(8, 8, 3, padding=1, groups=2)
        self.twice = nn.Conv2d(8, 6, 1)
        self.up = nn.ConvTranspose2d(6, 5, 2, stride=2)
        self.head = nn.Linear(5, 3)

    def forward(self, images: Tensor) -> Tensor:
        joined = F.max_pool2d(torch.cat([F.relu(self.left(images)), F.silu(self.right(images))], 1), 2)
        stream = F.relu6(self.depthwise(self.mixed(joined)))
        scale = torch.sigmoid(self.excite(F.relu(self.squeeze(stream.mean((2, 3), keepdim=True)))))
        stream = F.relu(stream + self.grouped(stream * scale))
        both = self.twice(stream) + self.twice(stream.flip(3))
        logits: Tensor = self.head(F.relu(self.up(both)).mean((2, 3)))
        return logits


class Overwriting(nn.Module):
    """Adds to the stream in place, after it was read."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.inner, self.head = nn.Conv2d(3, 6, 3), nn.Conv2d(6, 6, 3, padding=1), nn.Linear(6, 3)

    def forward(self, images: Tensor) -> Tensor:
        stream = torch.relu(self.stem(images))
        stream += torch.relu(self.inner(stream))
        logits: Tensor = self.head(stream.mean((2, 3)))
        return logits


class Functional(nn.Module):
    """One layer is called, of the other only the weight is used."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.head = nn.Linear(3, 6), nn.Linear(6, 5), nn.Linear(5, 2)

    def forward(self, rows: Tensor) -> Tensor:
        logits: Tensor = self.head(torch.relu(F.linear(torch.relu(self.first(rows)), self.second.weight)))
        return logits


class Tied(nn.Module):
    """Two layers with one weight."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.a, self.b = nn.Linear(3, 6), nn.Linear(6, 4), nn.Linear(6, 4)
        self.b.weight = self.a.weight

    def forward(self, rows: Tensor) -> Tensor:
        hidden = torch.relu(self.first(rows))
        return self.a(hidden) - 2 * torch.tanh(self.b(hidden * hidden))


class Windows(nn.Module):
    """The inner layers see each example as four rows; ``mixing`` puts the rows of all examples side by side."""

    def __init__(self, mixing: bool = False) -> None:
        super().__init__()
        self.mixing = mixing
        self.first, self.second, self.head = nn.Conv2d(3, 6, 1), nn.Linear(6, 5), nn.Linear(5, 2)

    def forward(self, images: Tensor) -> Tensor:
        rows = torch.relu(self.first(images)).flatten(2).permute(2, 0, 1) if self.mixing else None
        if rows is None:
            rows = torch.relu(self.first(images)).flatten(2).transpose(1, 2).unflatten(1, (4, 16))
        hidden = torch.relu(self.second(rows.flatten(0, 1)))
        if self.mixing:
            return self.head(hidden.unflatten(0, (64, -1)).mean(0))
        return self.head(hidden.unflatten(0, (-1, 4)).mean((1, 2)))


IMAGES, ROWS = torch.randn(4, 3, 8, 8), torch.randn(4, 3)


@pytest.mark.parametrize(
    ("make", "inputs"),
    [(Branches, IMAGES), (Overwriting, IMAGES), (Tied, ROWS), (Windows, IMAGES)],
    ids=["branches", "overwriting", "tied", "windows"],
)
def test_gates_are_the_masks_of_the_equivalence_check(make: Callable[[], nn.Module], inputs: Tensor) -> None:
    model = make()
    groups = discover(model, inputs[:1]).groups
    assert groups
    checker, inputs = Checker(model, groups, inputs), inputs.double()
    taps = find_taps(checker.model, groups, inputs)
    assert not taps.untapped
    keep = checker._keep
    gates = torch.zeros(taps.units, dtype=torch.float64)
    for group in groups:
        gates[taps.spans[group.name]][keep[group.name]] = 1
    with torch.no_grad():
        whole = checker.model(inputs)
        with checker._masked(keep):
            masked = checker.model(inputs)
        with gated(checker.model, taps, gates):
            for_all = checker.model(inputs)
        with gated(checker.model, taps, torch.stack([gates, torch.ones_like(gates), gates, torch.ones_like(gates)])):
            by_row = checker.model(inputs)
    assert not torch.allclose(masked, whole, rtol=1e-3)
    torch.testing.assert_close(for_all, masked, rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(by_row[::2], masked[::2], rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(by_row[1::2], whole[1::2], rtol=1e-10, atol=1e-12)


def test_readers_that_cannot_be_seen_are_named() -> None:
    groups = discover(Functional(), ROWS[:1]).groups
    taps = find_taps(Functional(), groups, ROWS)
    assert taps.untapped == {"first": "'second', which reads it, is not called with a tensor of its own"}
    assert list(taps.spans) == ["second"]
    mixing = Windows(mixing=True)
    taps = find_taps(mixing, discover(mixing, IMAGES[:1]).groups, IMAGES)
    assert taps.untapped["first"] == "'second', which reads it, takes a tensor whose rows mix the examples"


def test_attention_is_named() -> None:
    model = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True, dropout=0.0).eval()
    rows = torch.randn(2, 5, 8)
    groups = discover(model, rows[:1]).groups
    taps = find_taps(model, groups, rows)
    assert "linear1" in taps.spans
    assert all("self_attn" in name and "out_proj" in reason for name, reason in taps.untapped.items())
    assert torch.backends.mha.get_fastpath_enabled()


def test_maps_lie_before_pooling_and_know_their_activation() -> None:
    model = Branches()
    with evaluating(model):
        taps = find_taps(model, discover(model, IMAGES[:1]).groups, IMAGES)
        sources = find_sources(model, taps, IMAGES)
    found = {name: [(each.place, each.kind) for each in sources.of(name)] for name in taps.spans}
    assert found["left"] == found["right"] == [(("op cat", 0), "smooth")]
    assert [kind for _, kind in found["squeeze"]] == ["rectified"]
    assert [kind for _, kind in found["up"]] == ["rectified"]
    assert sources.size("left") == 64
    assert sources.size("up") == 64
