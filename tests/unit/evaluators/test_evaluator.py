"""The evaluator against plain PyTorch: same slicing, calibration and accuracy, computed another way."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from autoprune.config.schema import BuiltinModel, EvaluatorConfig
from autoprune.evaluators.assets import Assets, base_module
from autoprune.evaluators.evaluator import PruneEvaluator, make_evaluator
from autoprune.models import registry
from autoprune.pruning import criteria
from autoprune.pruning.groups import discover
from autoprune.pruning.ranking import keep, rank
from autoprune.pruning.slicing import slice_model
from autoprune.types import Candidate, Measurement

MODEL = BuiltinModel(name="resnet8")


@pytest.fixture(scope="module")
def assets() -> Assets:
    torch.manual_seed(0)
    module = registry.build(MODEL, num_classes=4, in_channels=1).eval()
    for buffer in module.buffers():  # statistics that differ from what any image gives
        if buffer.is_floating_point():
            buffer.add_(torch.rand_like(buffer))
    found = discover(module, torch.zeros(1, 1, 8, 8))
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (90, 1, 8, 8), dtype=np.uint8)
    images.flags.writeable = False  # as an object store hands them out
    return Assets(
        model=MODEL,
        num_classes=4,
        in_channels=1,
        state={name: tensor.numpy() for name, tensor in module.state_dict().items()},
        groups=found.groups,
        ranking=rank(module, found.groups, criteria.get("l1")),
        calibration_images=images[:40],
        images=images[40:],
        labels=rng.integers(0, 4, 50),
        mean=(0.4,),
        std=(0.3,),
        config=EvaluatorConfig(calibration_images=40, validation_images=50, batch_size=20),
    )


def final(evaluator: PruneEvaluator, candidate: Candidate) -> Measurement:
    *_, last = evaluator.evaluate(candidate)
    assert last.final
    return last


def halved(assets: Assets) -> Candidate:
    return Candidate({group.name: group.channels // 2 for group in assets.groups})


def as_images(array: np.ndarray) -> torch.Tensor:
    return (torch.tensor(array).double() / 255 - 0.4) / 0.3


def accuracy(model: torch.nn.Module, assets: Assets) -> tuple[float, float]:
    with torch.no_grad():
        logits = model.double().eval()(as_images(assets.images))
    labels = torch.tensor(assets.labels)
    loss = float(torch.nn.functional.cross_entropy(logits, labels))
    return float((logits.argmax(1) == labels).double().mean()), loss


@pytest.mark.parametrize("calibration_images", [0, 40])
def test_full_width_is_the_base_model_with_its_own_statistics(assets: Assets, calibration_images: int) -> None:
    some = replace(assets, calibration_images=assets.calibration_images[:calibration_images])
    full = Candidate({group.name: group.channels for group in assets.groups})
    measured = final(make_evaluator(some), full)
    top1, loss = accuracy(base_module(assets), assets)
    assert measured.metrics["top1"] == top1
    assert measured.metrics["loss"] == pytest.approx(loss, rel=1e-4)


def test_a_candidate_equals_slicing_and_cumulative_batchnorm_by_hand(assets: Assets) -> None:
    candidate = halved(assets)
    model = slice_model(base_module(assets), assets.groups, keep(assets.ranking, assets.groups, candidate)).double()
    for layer in model.modules():
        if isinstance(layer, torch.nn.BatchNorm2d):
            layer.reset_running_stats()
            layer.momentum = None
    model.train()
    with torch.no_grad():
        for batch in as_images(assets.calibration_images).split(20):
            model(batch)
    top1, loss = accuracy(model, assets)
    measured = final(make_evaluator(assets), candidate)
    assert measured.metrics["top1"] == top1
    assert measured.metrics["loss"] == pytest.approx(loss, rel=1e-3)


def test_calibration_matters_and_evaluations_do_not_disturb_each_other(assets: Assets) -> None:
    evaluator = make_evaluator(assets)
    candidate = halved(assets)
    first = final(evaluator, candidate).metrics
    final(evaluator, Candidate({group.name: group.unit for group in assets.groups}))
    assert final(evaluator, candidate).metrics == first
    uncalibrated = make_evaluator(replace(assets, calibration_images=assets.calibration_images[:0]))
    assert final(uncalibrated, candidate).metrics["loss"] != first["loss"]


def test_estimates_come_first_and_phases_are_timed(assets: Assets) -> None:
    measurements = list(make_evaluator(assets).evaluate(halved(assets)))
    assert [item.step for item in measurements] == [20, 40, 50]
    assert [item.final for item in measurements] == [False, False, True]
    assert set(measurements[-1].timings) == {"slice", "calibrate", "evaluate"}
    assert 0 < sum(measurements[-1].timings.values()) <= measurements[-1].seconds


def test_a_diverged_model_is_nan_not_a_lucky_guess(assets: Assets) -> None:
    broken = {name: array.copy() for name, array in assets.state.items()}
    broken["fc.weight"][:] = np.inf
    measured = final(make_evaluator(replace(assets, state=broken)), halved(assets))
    assert math.isnan(measured.metrics["top1"])


def test_materialised_model_scores_what_was_measured(assets: Assets) -> None:
    evaluator = make_evaluator(assets)
    candidate = halved(assets)
    top1, _ = accuracy(evaluator.materialise(candidate), assets)
    assert final(evaluator, candidate).metrics["top1"] == top1
