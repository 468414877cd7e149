"""Folding BatchNorm changes no output, and happens only where nothing else reads what lies between."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from autoprune.errors import ConfigError
from autoprune.exporters.folding import fold_batchnorm


def trained(model: nn.Module, *shape: int) -> nn.Module:
    """With statistics and affine parameters that are not the initial ones."""
    torch.manual_seed(1)
    for layer in model.modules():
        if isinstance(layer, nn.BatchNorm1d | nn.BatchNorm2d) and layer.affine:
            nn.init.uniform_(layer.weight, 0.5, 2.0)
            nn.init.normal_(layer.bias)
    model.train()
    model(torch.randn(16, *shape) * 3 + 1)
    return model.eval()


@pytest.mark.parametrize(
    ("layers", "shape"),
    [
        ([nn.Conv2d(4, 6, 3, bias=False), nn.BatchNorm2d(6)], (4, 8, 8)),
        ([nn.Conv2d(4, 6, 3, padding=1, groups=2, padding_mode="reflect"), nn.BatchNorm2d(6)], (4, 8, 8)),
        ([nn.Conv2d(4, 4, 3, groups=4), nn.BatchNorm2d(4, affine=False)], (4, 8, 8)),
        ([nn.ConvTranspose2d(4, 6, 3, groups=2), nn.BatchNorm2d(6)], (4, 8, 8)),
        ([nn.ConvTranspose2d(3, 6, 3, bias=False), nn.BatchNorm2d(6)], (3, 8, 8)),
        ([nn.Linear(5, 7), nn.BatchNorm1d(7)], (5,)),
    ],
    ids=["conv", "grouped", "depthwise", "transposed-grouped", "transposed", "linear"],
)
def test_the_folded_layer_computes_the_same(layers: list[nn.Module], shape: tuple[int, ...]) -> None:
    model = trained(nn.Sequential(*layers, nn.ReLU()), *shape)
    images = torch.randn(3, *shape)
    folded, count = fold_batchnorm(model, (images,))
    assert count == 1
    assert isinstance(folded.get_submodule("1"), nn.Identity)
    assert isinstance(model.get_submodule("1"), nn.BatchNorm1d | nn.BatchNorm2d)  # the model itself is not touched
    with torch.no_grad():
        torch.testing.assert_close(folded(images), model(images), rtol=1e-4, atol=1e-5)
    assert next(folded.parameters()).dtype is torch.float32


def test_what_has_another_reader_stays() -> None:
    class Branch(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.norm = nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3)
            self.shared, self.after = nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3)

        def forward(self, images: Tensor) -> Tensor:
            between = self.conv(images)
            once = self.after(self.shared(self.norm(between) + between))
            return self.shared(once)  # the same layer without its BatchNorm

    model = trained(Branch(), 3, 4, 4)
    folded, count = fold_batchnorm(model, (torch.randn(2, 3, 4, 4),))
    assert count == 0
    assert isinstance(folded.get_submodule("norm"), nn.BatchNorm2d)


def test_a_model_that_cannot_be_traced_is_named() -> None:
    class Branching(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            return images if images.sum() > 0 else -images

    with pytest.raises(ConfigError, match=r"Branching\.forward cannot be traced"):
        fold_batchnorm(Branching(), (torch.ones(1, 3),))
