"""Slimming's pull on BatchNorm scales, and filters that are set to zero while they are trained."""

from __future__ import annotations

import io

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from autoprune.config.recipes import Recipe
from autoprune.data.dataset import Dataset, Split
from autoprune.models.checkpoint import state_digest
from autoprune.training.sparsity import Chosen, FilterZeroing, SparseScales, ZeroingTrainer, l1_pull, scales


def net() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 10, 3, padding=1, bias=False),
        nn.BatchNorm2d(10),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(10, 2),
    )


@pytest.fixture(scope="module")
def data() -> Dataset:
    rng = np.random.default_rng(0)
    split = Split(rng.integers(0, 256, (64, 1, 8, 8), dtype=np.uint8), rng.integers(0, 2, 64))
    return Dataset(split, split, 2, ("a", "b"), (0.5,), (0.25,), read_test=lambda: split)


def recipe(**settings: object) -> Recipe:
    return Recipe(**{"epochs": 1, "batch_size": 16, "lr": 0.1, "augment": "none", "dtype": "float32", **settings})


def smallest(model: nn.Module) -> Chosen:
    """The three filters of the least L2 norm; BatchNorm's constants behind them."""
    norms = model[0].weight.detach().flatten(1).norm(dim=1)
    chosen = torch.argsort(norms)[:3]
    return Chosen({"0": chosen}, [("0.weight", 0, chosen)], [("1.bias", 0, chosen), ("1.running_mean", 0, chosen)])


# --- slimming --------------------------------------------------------------------------------------------------------


def test_the_extra_gradient_is_lambda_times_the_sign() -> None:
    model, images = net(), torch.randn(8, 1, 8, 8)
    with torch.no_grad():
        model[1].weight.copy_(torch.tensor([0.5, -0.5, 0.0, 1e-9, -2.0, 3.0, 0.0, 1.0, -1.0, 0.1]))
    labels = torch.arange(8) % 2

    def gradients() -> dict[str, torch.Tensor]:
        model.zero_grad()
        F.cross_entropy(model(images), labels).backward()
        return {name: parameter.grad.clone() for name, parameter in model.named_parameters()}

    plain = gradients()
    with l1_pull(scales(model), 0.25):
        pulled = gradients()
    after = gradients()
    signs = torch.tensor([1.0, -1.0, 0.0, 1.0, -1.0, 1.0, 0.0, 1.0, -1.0, 1.0])
    assert torch.equal(pulled["1.weight"], plain["1.weight"] + 0.25 * signs)
    for name, gradient in plain.items():
        assert torch.equal(after[name], gradient), "no pull outside of the block"
        if name != "1.weight":
            assert torch.equal(pulled[name], gradient)


def test_the_trainer_steps_along_loss_and_pull(data: Dataset) -> None:
    """One step of plain SGD moves a scale by -lr (gradient + lambda sign)."""
    settings = recipe(batch_size=64, momentum=0.0, weight_decay=0.0, schedule="constant", warmup=0.0, lr=0.5)
    start = net()[1].weight.detach().clone()
    moved = []
    for strength in (0.0, 0.125):
        trainer = SparseScales(net(), data, settings, strength=strength)
        list(trainer.run())
        moved.append(trainer.model[1].weight.detach())
    torch.testing.assert_close(moved[1], moved[0] - 0.5 * 0.125 * torch.sign(start), rtol=0, atol=1e-7)


def test_a_strong_pull_leaves_small_scales(data: Dataset) -> None:
    ends = []
    for strength in (0.0, 0.1):
        trainer = SparseScales(net(), data, recipe(epochs=5), strength=strength)
        list(trainer.run())
        ends.append(float(scales(trainer.model)[0].detach().abs().mean()))
    assert ends[1] < ends[0] - 0.2


# --- zeroed filters --------------------------------------------------------------------------------------------------


def zeros(model: nn.Module) -> list[int]:
    return [at for at, row in enumerate(model[0].weight.detach()) if not row.any()]


@pytest.mark.parametrize("mode", ["soft", "hard"])
def test_three_filters_are_zero_after_each_epoch(data: Dataset, mode: str) -> None:
    trainer = ZeroingTrainer(net(), data, recipe(epochs=3), zeroing=FilterZeroing(smallest), mode=mode)
    for _ in trainer.run():
        assert len(zeros(trainer.model)) == 3


def test_one_more_step_revives_soft_zeros_and_leaves_hard_ones(data: Dataset) -> None:
    """Momentum is on: without being forgotten it would move hard zeros, too."""
    for mode, left in (("soft", 0), ("hard", 3)):
        trainer = ZeroingTrainer(net(), data, recipe(epochs=2), zeroing=FilterZeroing(smallest), mode=mode)
        next(iter(trainer.run()))
        assert len(zeros(trainer.model)) == 3
        images, labels = torch.randn(16, 1, 8, 8), torch.arange(16) % 2
        trainer.model.train()
        trainer._step(images, labels, 4)
        assert len(zeros(trainer.model)) == left, mode


def test_hard_zeros_emit_nothing_and_silence_makes_soft_ones_so(data: Dataset) -> None:
    images = torch.randn(4, 1, 8, 8)
    for mode in ("soft", "hard"):
        zeroing = FilterZeroing(smallest)
        trainer = ZeroingTrainer(net(), data, recipe(epochs=2), zeroing=zeroing, mode=mode)
        list(trainer.run())
        model, cut = trainer.model.eval(), zeros(trainer.model)
        if mode == "soft":
            assert model[:2](images)[:, cut].any(), "BatchNorm's bias passes on"
            zeroing.apply(model)
        assert not model[:2](images)[:, cut].any()


def test_a_cut_training_goes_on_to_the_same_bits(data: Dataset) -> None:
    def trainer() -> ZeroingTrainer:
        return ZeroingTrainer(net(), data, recipe(epochs=3), zeroing=FilterZeroing(smallest), mode="hard")

    whole, part, rest = trainer(), trainer(), trainer()
    list(whole.run())
    next(iter(part.run()))
    file = io.BytesIO()
    torch.save(part.state(), file)
    file.seek(0)
    rest.load_state(torch.load(file, weights_only=True))
    list(rest.run())
    assert state_digest(rest.model.state_dict()) == state_digest(whole.model.state_dict())
