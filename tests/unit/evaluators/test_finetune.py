"""The evaluator that trains: an epoch a measurement, the same numbers again, and models that can be made again."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from autoprune.config.recipes import Recipe
from autoprune.config.schema import BuiltinModel, EvaluatorConfig, FinetuneFidelity
from autoprune.errors import ConfigError, SearchAborted
from autoprune.evaluators.assets import Assets, Finetuning
from autoprune.evaluators.evaluator import PruneEvaluator
from autoprune.evaluators.finetune import FINETUNED, FinetuneEvaluator, make_finetuner
from autoprune.hypernet.network import PruningNet
from autoprune.models import registry
from autoprune.pruning import criteria
from autoprune.pruning.groups import discover
from autoprune.pruning.ranking import rank
from autoprune.training.scoring import score
from autoprune.types import Candidate, Measurement

MODEL = BuiltinModel(name="resnet8")
BASE = Recipe(epochs=15, batch_size=16, lr=0.1, augment="crop", dtype="float32", warmup=0.3, compile=True, seed=4)
FIDELITY = FinetuneFidelity(epochs=3, lr=0.05)


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A cache of its own; compiling kernels into it would take longer than the tests."""
    monkeypatch.setenv("AUTOPRUNE_HOME", str(tmp_path))
    monkeypatch.setenv("AUTOPRUNE_NATIVE", "0")


def images(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Dark and bright ones, with noise; read-only, as an object store hands them out."""
    rng = np.random.default_rng(seed)
    labels = np.arange(count) % 2
    pixels = (rng.integers(0, 160, (count, 1, 8, 8)) + 60 * labels[:, None, None, None]).astype(np.uint8)
    pixels.flags.writeable = False
    return pixels, labels


@pytest.fixture(scope="module")
def assets() -> Assets:
    torch.manual_seed(0)
    module = registry.build(MODEL, num_classes=2, in_channels=1).eval()
    found = discover(module, torch.zeros(1, 1, 8, 8), check=False)
    (train, labels), (scored, truth) = images(70, 0), images(50, 1)
    return Assets(
        model=MODEL,
        num_classes=2,
        in_channels=1,
        state={name: tensor.numpy() for name, tensor in module.state_dict().items()},
        groups=found.groups,
        ranking=rank(module, found.groups, criteria.get("l1")),
        calibration_images=train[:40],
        images=scored,
        labels=truth,
        mean=(0.4,),
        std=(0.3,),
        config=EvaluatorConfig(calibration_images=40, validation_images=50, batch_size=20),
        finetuning=Finetuning(train, labels, FIDELITY.recipe(BASE, seed=9), threads=1, key="evaluation"),
    )


def halved(assets: Assets) -> Candidate:
    return Candidate({group.name: group.channels // 2 for group in assets.groups})


def measured(assets: Assets, candidate: Candidate) -> list[Measurement]:
    return list(make_finetuner(assets).evaluate(candidate))


def test_the_recipe_is_the_bases_but_for_what_is_said() -> None:
    recipe = FIDELITY.recipe(BASE, seed=9)
    said = {"epochs": 3, "lr": 0.05, "schedule": "cosine", "warmup": 0.0, "compile": False, "seed": 9}
    assert recipe == BASE.model_copy(update=said)
    assert FinetuneFidelity(batch_size=8, schedule="constant").recipe(BASE, 0).batch_size == 8


def test_an_epoch_is_a_measurement_and_keeps_those_before_it(assets: Assets) -> None:
    first, second, last = measured(assets, halved(assets))
    assert [(item.step, item.final) for item in (first, second, last)] == [(1, False), (2, False), (3, True)]
    assert set(first.metrics) == {"top1", "loss", "top1_calibrated", "top1_epoch1"}
    assert set(last.metrics) == {"top1", "loss", "top1_calibrated", "top1_epoch1", "top1_epoch2"}
    assert first.metrics["top1"] == first.metrics["top1_epoch1"] == last.metrics["top1_epoch1"]
    assert second.metrics["top1"] == last.metrics["top1_epoch2"]
    assert last.metrics["loss"] < 0.8 * first.metrics["loss"], "it learns"
    assert set(last.timings) == {"calibrate", "train", "evaluate"}
    assert sum(last.timings.values()) == pytest.approx(last.seconds)
    assert 0 < first.seconds < last.seconds


def test_what_it_was_before_training_is_what_calibration_alone_measures(assets: Assets) -> None:
    *_, calibrated = PruneEvaluator(assets).evaluate(halved(assets))
    *_, last = measured(assets, halved(assets))
    assert last.metrics["top1_calibrated"] == calibrated.metrics["top1"]


def test_the_same_candidate_gives_the_same_numbers_whatever_was_before(assets: Assets) -> None:
    evaluator = make_finetuner(assets)
    *_, first = evaluator.evaluate(halved(assets))
    for measurement in evaluator.evaluate(Candidate({**halved(assets).widths, "conv1": 3})):
        assert measurement.step == 1
        break  # stopped
    torch.manual_seed(123)
    *_, again = evaluator.evaluate(halved(assets))
    assert first.metrics == again.metrics == measured(assets, halved(assets))[-1].metrics


def test_the_seed_decides_the_order_of_the_images(assets: Assets) -> None:
    assert assets.finetuning is not None
    other = replace(assets, finetuning=replace(assets.finetuning, recipe=FIDELITY.recipe(BASE, seed=10)))
    assert measured(assets, halved(assets))[-1].metrics["loss"] != measured(other, halved(assets))[-1].metrics["loss"]


@pytest.mark.parametrize("epochs", [None, 3, 1])
def test_a_model_is_made_again_to_the_bit(assets: Assets, epochs: int | None) -> None:
    evaluator = make_finetuner(assets)
    expected = {item.step: item.metrics for item in evaluator.evaluate(halved(assets))}[epochs or 3]
    trained, kept = (evaluator.materialise(halved(assets), epochs) for _ in range(2))
    assert len(list(FINETUNED.path("any").parent.glob("*.safetensors"))) == 1, "the second was read"
    for model in (trained, kept):
        assert not model.training
        assert evaluator.score(model) == {name: expected[name] for name in ("top1", "loss")}
        plain = score(model, evaluator._scored_on, mean=assets.mean, std=assets.std, batch_size=50)
        assert plain["loss"] == pytest.approx(expected["loss"], rel=0.05), "bfloat16 where the processor has it"
    pairs = zip(trained.state_dict().values(), kept.state_dict().values(), strict=True)
    assert all(torch.equal(one, other) for one, other in pairs)


def test_the_base_model_and_the_images_stay_as_they_were(assets: Assets) -> None:
    before = {name: array.copy() for name, array in assets.state.items()}
    evaluator = make_finetuner(assets)
    full = Candidate({group.name: group.channels for group in assets.groups})
    alone = evaluator.materialise(full).state_dict()
    list(evaluator.evaluate(halved(assets)))
    assert all(np.array_equal(before[name], array) for name, array in assets.state.items())
    again = evaluator.materialise(full).state_dict()
    assert all(torch.equal(alone[name], tensor) for name, tensor in again.items())


def test_the_full_width_stays_the_model_that_the_user_trained(assets: Assets) -> None:
    full = Candidate({group.name: group.channels for group in assets.groups})
    (only,) = measured(assets, full)
    *_, plain = PruneEvaluator(assets).evaluate(full)
    assert (only.final, only.metrics) == (True, {**plain.metrics, "top1_calibrated": plain.metrics["top1"]})
    state = make_finetuner(assets).materialise(full).state_dict()
    assert all(np.array_equal(state[name].numpy(), array) for name, array in assets.state.items())


def test_divergence_is_no_error(assets: Assets) -> None:
    assert assets.finetuning is not None
    recipe = FIDELITY.model_copy(update={"lr": 1e30}).recipe(BASE, 0)
    wild = replace(assets, finetuning=replace(assets.finetuning, recipe=recipe))
    (only,) = measured(wild, halved(assets))
    assert (only.step, only.final) == (1, True)
    assert math.isnan(only.metrics["top1"])
    assert math.isnan(only.metrics["loss"])
    assert 0 <= only.metrics["top1_calibrated"] <= 1
    with pytest.raises(SearchAborted, match="diverges in epoch 1, which it did not in the search"):
        make_finetuner(wild).materialise(halved(assets))


def test_weights_of_a_hypernetwork_are_trained_at_full_width_too(assets: Assets) -> None:
    base = registry.build(MODEL, num_classes=2, in_channels=1)
    network = PruningNet(base, assets.groups, hidden=2)
    state = {name: tensor.numpy() for name, tensor in network.state_dict().items()}
    made = replace(assets, hypernet=state, ranking={})
    for candidate in (halved(assets), Candidate({group.name: group.channels for group in assets.groups})):
        *_, last = measured(made, candidate)
        assert last.step == 3
        assert last.metrics["top1"] != last.metrics["top1_calibrated"]


def test_without_images_to_train_on_there_is_no_such_evaluator(assets: Assets) -> None:
    with pytest.raises(ConfigError, match="no images to fine-tune"):
        FinetuneEvaluator(replace(assets, finetuning=None))
