from __future__ import annotations

import pytest
import torch
from torch import Tensor

from autoprune.hypernet.generators import FactoredGenerator, Generator, crop

SHAPE = (6, 4, 3, 3)
CROPS = {
    "whole": {},
    "first": {0: torch.arange(4), 1: torch.arange(2)},
    "rows": {0: torch.arange(5)},
    "columns": {1: torch.arange(3)},
    "scattered": {0: torch.tensor([0, 2, 5]), 1: torch.tensor([1, 3])},
    "scattered rows": {0: torch.tensor([1, 2])},
}


def generators() -> dict[str, torch.nn.Module]:
    torch.manual_seed(0)
    return {
        "full": Generator(SHAPE, inputs=3, hidden=5, std=0.3).double(),
        "rank 2": FactoredGenerator(SHAPE, inputs=3, hidden=5, std=0.3, rank=2).double(),
    }


def by_hand(generator: torch.nn.Module, encoding: Tensor) -> Tensor:
    """The full kernel, weight by weight from the definition."""
    hidden = torch.relu(generator.first.weight @ encoding + generator.first.bias)
    if isinstance(generator, Generator):
        return (generator.second * hidden).sum(-1).view(SHAPE)
    kernel = torch.zeros(SHAPE[0], 36, dtype=torch.float64)
    for unit in range(5):
        part = slice(unit * generator.rank, (unit + 1) * generator.rank)
        kernel = kernel + hidden[unit] * generator.left[:, part] @ generator.right[:, part].T
    return kernel.view(SHAPE)


@pytest.mark.parametrize("kind", ["full", "rank 2"])
@pytest.mark.parametrize("name", CROPS)
def test_a_crop_is_that_part_of_the_full_kernel_and_so_are_its_gradients(kind: str, name: str) -> None:
    generator, kept = generators()[kind], CROPS[name]
    encoding = torch.tensor([0.3, 1.0, 0.6], dtype=torch.float64)
    got, expected = generator(encoding, kept), crop(by_hand(generator, encoding), kept)
    torch.testing.assert_close(got, expected)
    weighting = torch.randn(got.shape, dtype=torch.float64)
    gradients = [
        torch.autograd.grad((made * weighting).sum(), list(generator.parameters())) for made in (got, expected)
    ]
    for mine, reference in zip(*gradients, strict=True):
        torch.testing.assert_close(mine, reference)


@pytest.mark.parametrize("kind", ["full", "rank 2"])
def test_weights_begin_with_the_deviation_asked_for(kind: str) -> None:
    torch.manual_seed(1)
    shape = (64, 32, 3, 3)
    generator = Generator(shape, 3, 32, 0.3) if kind == "full" else FactoredGenerator(shape, 3, 32, 0.3, rank=2)
    for encoding in (torch.ones(3), torch.full((3,), 0.5)):
        assert 0.15 < float(generator(encoding, {}).detach().std()) < 0.6


def test_zero_deviation_leaves_gradients_to_learn_from() -> None:
    generator = FactoredGenerator(SHAPE, 3, 5, 0.0, rank=1)
    made = generator(torch.ones(3), {})
    assert float(made.detach().abs().max()) == 0
    made.sum().backward()
    assert float(generator.left.grad.abs().max()) > 0


def test_first_positions_are_a_view_and_others_a_copy() -> None:
    tensor = torch.arange(12).view(3, 4)
    assert crop(tensor, {0: torch.arange(2)}).data_ptr() == tensor.data_ptr()
    assert crop(tensor, {0: torch.tensor([0, 2])}).tolist() == [[0, 1, 2, 3], [8, 9, 10, 11]]
