"""Cumulative BatchNorm statistics against the mean of the batches' own statistics."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor, nn

from autoprune.pruning.calibration import calibrate


def test_statistics_are_the_plain_average_over_batches() -> None:
    norm = nn.BatchNorm1d(3, momentum=0.3)
    norm.running_mean.fill_(50.0)
    batches = [torch.randn(8, 3) * (i + 1) + i for i in range(4)]
    calibrate(norm, batches)
    torch.testing.assert_close(norm.running_mean, torch.stack([b.mean(0) for b in batches]).mean(0))
    torch.testing.assert_close(norm.running_var, torch.stack([b.var(0) for b in batches]).mean(0))
    assert norm.momentum == 0.3
    assert norm.num_batches_tracked == 4


def test_second_layer_sees_what_the_first_normalises_by_its_batch() -> None:
    model = nn.Sequential(nn.BatchNorm1d(3, affine=False), nn.Dropout(0.9), nn.BatchNorm1d(3, affine=False)).train()
    batches = [torch.randn(64, 3) * 9 + 4 for _ in range(2)]
    calibrate(model, batches)
    torch.testing.assert_close(model[2].running_mean, torch.zeros(3), atol=1e-5, rtol=0)
    torch.testing.assert_close(model[2].running_var, torch.full((3,), 64 / 63), atol=1e-3, rtol=0)  # dropout was off


@pytest.mark.parametrize("training", [True, False])
def test_modes_and_weights_stay(training: bool) -> None:
    model = nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3), nn.Dropout()).train(training)
    model[2].train(not training)
    weights = [parameter.clone() for parameter in model.parameters()]
    calibrate(model, [torch.randn(4, 3)])
    assert [module.training for module in model] == [training, training, not training]
    assert all(torch.equal(a, b) for a, b in zip(weights, model.parameters(), strict=True))
    assert all(parameter.grad is None for parameter in model.parameters())


def test_modes_and_momentum_come_back_after_an_error() -> None:
    norm = nn.BatchNorm1d(3)
    with pytest.raises(RuntimeError):
        calibrate(norm, [torch.randn(4, 5)])
    assert norm.momentum == 0.1
    assert norm.training


def test_without_batches_nothing_changes() -> None:
    norm = nn.BatchNorm1d(2)
    norm.running_mean.fill_(7.0)
    calibrate(norm, [])
    assert norm.running_mean.tolist() == [7.0, 7.0]


@pytest.mark.parametrize("model", [nn.Linear(3, 3), nn.BatchNorm1d(3, track_running_stats=False)])
def test_batches_are_not_read_when_nothing_tracks(model: nn.Module) -> None:
    def never() -> Iterator[Tensor]:
        raise AssertionError("a batch was read")
        yield

    calibrate(model, never())
