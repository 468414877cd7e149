"""The rows of a layer's problem are what its filters multiply, for every kind of layer; and which layers there are."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from autoprune.pruning.groups import discover
from autoprune.pruning.reconstruction import consumers
from autoprune.pruning.reconstruction.consumers import find_consumers
from autoprune.pruning.reconstruction.patches import map_sizes, outputs_at, patches_at, sample_places

LAYERS = [
    (nn.Conv2d(4, 6, 1), (4, 7, 5)),
    (nn.Conv2d(4, 6, 3, padding=1), (4, 7, 5)),
    (nn.Conv2d(4, 6, (3, 2), stride=(2, 1), padding=(1, 0)), (4, 8, 5)),
    (nn.Conv2d(4, 6, 3, padding="same", dilation=2), (4, 7, 6)),
    (nn.Conv2d(4, 6, 3, stride=2, padding=2, dilation=2), (4, 9, 9)),
    (nn.Conv2d(4, 6, 3, padding=1, padding_mode="reflect"), (4, 5, 5)),
    (nn.Conv2d(4, 6, 3, padding=1, padding_mode="circular"), (4, 5, 5)),
    (nn.Conv2d(4, 6, 3, padding=1, groups=2), (4, 5, 5)),
    (nn.Conv1d(4, 6, 3, padding=1), (4, 9)),
    (nn.Conv3d(4, 6, 3, stride=2, padding=1), (4, 5, 4, 3)),
    (nn.Linear(5, 6), (5,)),
    (nn.Linear(5, 6), (7, 5)),
]


@pytest.mark.parametrize(("layer", "shape"), LAYERS, ids=lambda item: str(item))
@pytest.mark.parametrize("per_image", [3, 1000])
def test_filters_times_rows_are_the_layers_outputs(layer: nn.Module, shape: tuple[int, ...], per_image: int) -> None:
    layer = layer.double()
    inputs = torch.rand(5, *shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        outputs = layer(inputs)
        places = sample_places(0, 5, map_sizes(layer, outputs), per_image)
        rows = patches_at(layer, inputs, places)
        weight = layer.weight.reshape(rows.shape[1], -1, rows.shape[2])
        expected = outputs_at(layer, outputs, places) - layer.bias
    torch.testing.assert_close(torch.einsum("rgp,gnp->rgn", rows, weight).reshape(expected.shape), expected)


def test_places_do_not_depend_on_how_images_are_split() -> None:
    whole = sample_places(0, 10, (8, 6), 7)
    first, second = sample_places(0, 4, (8, 6), 7), sample_places(4, 6, (8, 6), 7)
    second[:, 0] += 4
    assert torch.equal(torch.cat([first, second]), whole)


def test_places_cover_a_map_evenly() -> None:
    places = sample_places(0, 640, (4, 4), 10)
    counts = torch.bincount(places[:, 1] * 4 + places[:, 2], minlength=16)
    assert counts.sum() == 6400
    assert counts.min() > 390
    assert counts.max() < 410


def test_all_places_of_a_small_map() -> None:
    assert sample_places(3, 2, (2,), 5).tolist() == [[0, 0], [0, 1], [1, 0], [1, 1]]
    assert sample_places(0, 2, (), 5).tolist() == [[0], [1]]


class Odd(nn.Module):
    """A readable layer, one that is used twice, one with tied weights, and one that is no plain convolution."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 8, 3, padding=1)
        self.depthwise = nn.Conv2d(8, 8, 3, padding=1, groups=8)
        self.up = nn.ConvTranspose2d(8, 8, 2, stride=2)
        self.tied = nn.Conv2d(8, 6, 1)
        self.also = nn.Conv2d(8, 6, 1)
        self.also.weight = self.tied.weight
        self.head = nn.Linear(6, 2)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        hidden = self.up(self.depthwise(self.first(images)).relu()).relu()
        return self.head((self.tied(hidden) + self.also(hidden)).relu().mean((2, 3)))


def test_layers_that_cannot_be_fitted_are_named_with_the_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    model = Odd().eval()
    groups = discover(model, torch.zeros(1, 3, 6, 6)).groups
    found, skipped = find_consumers(model, groups)
    assert [item.name for item in found] == ["head"]
    assert "ConvTranspose2d is no plain convolution" in skipped["up"]
    assert "shares its weight" in skipped["tied"]
    assert "depthwise" not in skipped, "it reads no channel that is cut without its own filter"
    monkeypatch.setattr(consumers, "MOST_UNKNOWNS", 5)
    assert find_consumers(model, groups)[1]["head"] == "its filters have 6 weights, more than 5"
