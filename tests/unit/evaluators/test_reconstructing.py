"""Reconstruction in trials: what is measured is what is built, digests stay, and every door opens to one model."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from sklearn.datasets import load_digits

from autoprune.config.loading import load_search
from autoprune.config.schema import BuiltinModel, EvaluatorConfig
from autoprune.errors import ConfigError
from autoprune.evaluators.assets import Assets, base_module
from autoprune.evaluators.evaluator import PruneEvaluator, make_evaluator
from autoprune.models import registry
from autoprune.pruning import criteria
from autoprune.pruning.calibration import calibrate
from autoprune.pruning.groups import discover
from autoprune.pruning.ranking import rank
from autoprune.pruning.reconstruction import Material, gather_moments
from autoprune.retraining.weights import Origins, starting_module
from autoprune.training.scoring import normalise
from autoprune.types import Candidate

MODEL = BuiltinModel(name="resnet8")
SEARCH = {
    "name": "few",
    "space": {"model": {"kind": "builtin", "name": "resnet8"}, "data": {"kind": "digits"}},
    "controller": {"kind": "random"},
}


@pytest.fixture(scope="module")
def assets() -> Assets:
    torch.manual_seed(0)
    module = registry.build(MODEL, num_classes=4, in_channels=1).eval()
    images = (load_digits().images[:250, None] * 15).astype(np.uint8)
    images.flags.writeable = False  # as an object store hands them out
    calibrate(module, [normalise(torch.tensor(images), (0.4,), (0.3,))])
    groups = discover(module, torch.zeros(1, 1, 8, 8)).groups
    return Assets(
        model=MODEL,
        num_classes=4,
        in_channels=1,
        state={name: tensor.numpy() for name, tensor in module.state_dict().items()},
        groups=groups,
        ranking=rank(module, groups, criteria.get("l1")),
        calibration_images=images[:200],
        images=images[200:],
        labels=np.random.default_rng(0).integers(0, 4, 50),
        mean=(0.4,),
        std=(0.3,),
        config=EvaluatorConfig(calibration_images=200, validation_images=50, batch_size=20),
    )


def material(assets: Assets, mode: str, level: str = "full", recalibrated: bool = True) -> Material:
    if mode == "sequential":
        return Material(level, 0.01, 10, recalibrated, images=assets.calibration_images)
    pixels = normalise(torch.tensor(assets.calibration_images), assets.mean, assets.std)
    moments = gather_moments(base_module(assets), assets.groups, [pixels], 10)
    return Material(level, 0.01, 10, recalibrated, moments=moments)


def halved(assets: Assets) -> Candidate:
    return Candidate({group.name: group.channels // 2 for group in assets.groups})


def logits(model: torch.nn.Module, assets: Assets) -> torch.Tensor:
    with torch.no_grad():
        found: torch.Tensor = model.eval()(normalise(torch.tensor(assets.images), assets.mean, assets.std))
    return found


@pytest.mark.parametrize("mode", ["once", "sequential"])
def test_the_materialised_model_is_the_one_that_was_measured(assets: Assets, mode: str) -> None:
    evaluator = make_evaluator(replace(assets, reconstruction=material(assets, mode)))
    candidate = halved(assets)
    *_, last = evaluator.evaluate(candidate)
    found = logits(evaluator.materialise(candidate), assets)
    loss = torch.nn.functional.cross_entropy(found, torch.tensor(assets.labels))
    assert last.metrics["loss"] == pytest.approx(float(loss), rel=1e-3)
    assert last.metrics["top1"] == float((found.argmax(1) == torch.tensor(assets.labels)).double().mean())
    assert set(last.timings) == {"slice", "reconstruct", "calibrate", "evaluate"}
    *_, again = evaluator.evaluate(candidate)
    assert again.metrics == last.metrics


@pytest.mark.parametrize("mode", ["once", "sequential"])
def test_outputs_come_nearer_to_the_base_models(assets: Assets, mode: str) -> None:
    candidate, wanted = halved(assets), logits(base_module(assets), assets)
    evaluator = make_evaluator(assets)
    plain = (logits(evaluator.materialise(candidate), assets) - wanted).square().mean()
    other = evaluator.variant(reconstruction=material(assets, mode))
    assert (logits(other.materialise(candidate), assets) - wanted).square().mean() < 0.5 * plain


@pytest.mark.parametrize("mode", ["once", "sequential"])
def test_full_width_is_the_base_model_to_the_bit(assets: Assets, mode: str) -> None:
    evaluator = make_evaluator(replace(assets, reconstruction=material(assets, mode)))
    full = Candidate({group.name: group.channels for group in assets.groups})
    made, base = evaluator.materialise(full).state_dict(), base_module(assets).state_dict()
    assert all(torch.equal(tensor, base[name]) for name, tensor in made.items())


def test_a_variant_is_the_evaluator_of_such_assets(assets: Assets) -> None:
    other = rank(base_module(assets), assets.groups, criteria.get("group_l2"))
    changed = replace(assets, ranking=other, reconstruction=material(assets, "once"))

    def measured(evaluator: PruneEvaluator) -> dict[str, float]:
        *_, last = evaluator.evaluate(halved(assets))
        return dict(last.metrics)

    first = make_evaluator(assets)
    before = measured(first)
    assert measured(first.variant(other, changed.reconstruction)) == measured(make_evaluator(changed))
    assert measured(first) == before


@pytest.mark.parametrize("mode", ["once", "sequential"])
def test_fine_tuning_starts_from_the_reconstructed_weights(assets: Assets, mode: str) -> None:
    chosen = material(assets, mode)
    origins = Origins(
        MODEL, 4, 1, assets.groups, assets.state, assets.ranking, 0, None, chosen, assets.mean, assets.std
    )
    candidate = halved(assets)
    measured = make_evaluator(replace(assets, reconstruction=chosen)).materialise(candidate)
    start = starting_module("inherit", candidate, 0, origins)
    for name, parameter in start.named_parameters():
        expected = measured.get_parameter(name)
        assert (parameter - expected).norm() <= 1e-2 * expected.norm(), name
    rewound = starting_module("initial", candidate, 0, origins)
    plain = starting_module("initial", candidate, 0, replace(origins, reconstruction=None))
    for name, parameter in rewound.named_parameters():
        assert torch.equal(parameter, plain.get_parameter(name)), "initial weights are not fitted"


# --- configuration ---------------------------------------------------------------------------------------------------


def test_digests_are_those_of_before_where_nothing_is_reconstructed() -> None:
    plain = load_search(SEARCH)
    for text in ("none", "{kind: none, mode: once}", "null"):
        same = load_search(SEARCH, [f"evaluator.reconstruction={text}"])
        assert (same.digest(), same.evaluation_digest()) == (plain.digest(), plain.evaluation_digest())
        assert "reconstruction" not in same.model_dump(mode="json")["evaluator"]


@pytest.mark.parametrize("text", ["bias", "channel", "full", "{kind: full, mode: once}", "{kind: full, ridge: 0.1}"])
def test_settings_are_kept_and_tell_searches_apart(text: str) -> None:
    plain, other = load_search(SEARCH), load_search(SEARCH, [f"evaluator.reconstruction={text}"])
    assert other.digest() != plain.digest()
    assert other.evaluation_digest() != plain.evaluation_digest()
    assert load_search(other.model_dump(mode="json")) == other


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("ful", "'full'"),
        ("{kind: full, ridge: -1}", "greater than or equal to 0"),
        ("{kind: full, rigde: 1}", "ridge"),
        ("{kind: full, images: 0}", "greater than or equal to 1"),
        ("7", "reconstruction"),
    ],
)
def test_mistakes_are_said(text: str, reason: str) -> None:
    with pytest.raises(ConfigError, match=reason):
        load_search(SEARCH, [f"evaluator.reconstruction={text}"])


def test_weights_of_a_hypernetwork_have_nothing_to_match() -> None:
    with pytest.raises(ValidationError, match="reconstruction needs inherited weights"):
        EvaluatorConfig.model_validate({"weights": {"kind": "hypernet"}, "reconstruction": "full"})
