"""Recipes by name, mistakes in them, and the digests of recipes from before some keys existed."""

from __future__ import annotations

import hashlib
import json

import numpy as np
import pytest

from autoprune.config.loading import load_search, load_space
from autoprune.config.recipes import PRESETS, Recipe
from autoprune.data.dataset import Dataset, Split
from autoprune.errors import ConfigError
from autoprune.hypernet.training import hypernet_recipe
from autoprune.training.base import base_key, model_identity
from autoprune.training.schedule import lr_at

SPACE = {"model": {"kind": "builtin", "name": "resnet8"}, "data": {"kind": "digits"}}


def recipe(**settings: object) -> Recipe:
    return load_space({**SPACE, "base": {"recipe": settings}}).base.recipe


def search(settings: dict[str, object], evaluator: dict[str, object]) -> object:
    return load_search({"name": "toy", "space": {**SPACE, "base": {"recipe": settings}}, "evaluator": evaluator})


def few_images() -> Dataset:
    images = np.arange(6 * 64, dtype=np.uint16).astype(np.uint8).reshape(6, 1, 8, 8)
    split = Split(images, np.arange(6))
    names = tuple("0123456789")
    return Dataset(
        train=split,
        search_val=split,
        num_classes=10,
        class_names=names,
        mean=(0.5,),
        std=(0.25,),
        read_test=lambda: split,
    )


def digest(content: object) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]


OLDER = {"epochs": 15, "batch_size": 64, "augment": "crop", "schedule": "milestones"}


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, ("6f60150a57d2bc11", "942b40b7f1a607c4", "c941387e65e38aab", "ae918e1b95db87b1", "3e0a0d49bf801de0")),
        (OLDER, ("0d9a72031c0bbbd8", "e4574d20b593f0d3", "5888c20d331b39d6", "47b7fe6396940b81", "9e1cb85218a3d486")),
    ],
)
def test_digests_are_those_of_before_presets_and_averages(settings, expected):
    """Literals computed at the commit before; another value would train every cached model again."""
    plain = search(settings, {"weights": {"criterion": "group_l2"}})  # the default of then
    generated = search(settings, {"weights": {"kind": "hypernet", "recipe": {"epochs": 3}}})
    key = base_key(plain.space, few_images())
    hypernet = digest(hypernet_recipe(generated.space, generated.evaluator.weights).model_dump(mode="json"))
    assert (plain.digest(), plain.evaluation_digest(), generated.digest(), key, hypernet) == expected
    assert digest(model_identity(plain.space, few_images())) == "49278f7530a5b9a5"


@pytest.mark.parametrize(
    "settings", [{"clip_norm": 1.0}, {"ema": 0.99}, {"compile": True}, {"nesterov": False}, {"decay": "all"}]
)
def test_settings_that_change_the_weights_change_the_digests(settings):
    assert search(settings, {}).digest() != search({}, {}).digest()
    assert base_key(search(settings, {}).space, few_images()) != base_key(search({}, {}).space, few_images())
    assert Recipe.model_validate(Recipe(**settings).model_dump(mode="json")) == Recipe(**settings)


def test_a_preset_is_recorded_as_its_numbers_and_keys_beside_it_win():
    named = recipe(preset="cifar", epochs=80)
    content = named.model_dump(mode="json")
    assert "preset" not in content
    assert content["epochs"] == 80
    assert (named.batch_size, named.lr, named.momentum, named.weight_decay) == (64, 0.1, 0.9, 1e-4)
    assert recipe(**content) == named
    assert search({"preset": "cifar"}, {}).digest() == search(dict(PRESETS["cifar"]), {}).digest()


@pytest.mark.parametrize(
    ("preset", "epochs", "batch", "rates"),
    [
        ("cifar", 160, 64, {0: 0.1, 79: 0.1, 80: 0.01, 119: 0.01, 120: 0.001, 159: 0.001}),
        ("imagenet", 90, 256, {0: 0.1, 29: 0.1, 30: 0.01, 59: 0.01, 60: 0.001, 89: 0.001}),
        ("cifar_finetune", 40, 64, {0: 1e-3, 20: 1e-3, 39: 1e-3}),
        ("imagenet_finetune", 20, 256, {0: 1e-3, 19: 1e-3}),
    ],
)
def test_the_papers_recipes_have_its_epochs_and_rates(preset, epochs, batch, rates):
    named = recipe(preset=preset)
    assert (named.epochs, named.batch_size, named.weight_decay, named.decay) == (epochs, batch, 1e-4, "all")
    assert not named.nesterov
    for steps in (1, 7, 390):  # an epoch
        for epoch, rate in rates.items():
            assert lr_at(named, epoch * steps, epochs * steps) == pytest.approx(rate)
            assert lr_at(named, (epoch + 1) * steps - 1, epochs * steps) == pytest.approx(rate)


def test_every_preset_is_a_valid_recipe_with_a_final_schedule():
    for name in PRESETS:
        assert recipe(preset=name) == Recipe(**PRESETS[name])
    assert recipe(preset="modern").label_smoothing > 0


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"preset": "cifr"}, r"base.recipe: there is no preset 'cifr'. Did you mean 'cifar'\?"),
        ({"preset": 3}, "there is no preset 3. Known: cifar, "),
        ({"prest": "cifar"}, r"unknown key 'base.recipe.prest'. Did you mean 'preset'\?"),
        ({"preset": "cifar", "epochs": 0}, "base.recipe.epochs: .*greater than or equal to 1"),
        ({"milestones": [0.75, 0.5]}, r"milestones: expected rising shares .*got \[0.75, 0.5\]"),
        ({"milestones": [80, 120]}, "milestones: expected rising shares of the training between 0 and 1"),
        ({"milestones": [0.5, 0.5]}, "expected rising shares"),
        ({"ema": 1}, "base.recipe.ema: .*less than 1"),
        ({"ema": 0}, "base.recipe.ema: .*greater than 0"),
        ({"clip_norm": 0}, "base.recipe.clip_norm: .*greater than 0"),
        ({"schedule": "step"}, "base.recipe.schedule: .*'constant'"),
    ],
)
def test_mistakes_are_named(settings, message):
    with pytest.raises(ConfigError, match=message):
        recipe(**settings)
