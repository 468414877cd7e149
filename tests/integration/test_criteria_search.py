"""Searches whose channels are ranked by what images show."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import autoprune
from autoprune import api
from autoprune.config.loading import load_search
from autoprune.driver.assemble import prepare
from autoprune.driver.observers import Silent
from autoprune.errors import ConfigError

IMAGES = torch.randn(6, 3, 8, 8, generator=torch.Generator().manual_seed(0))


def settings(launch: dict[str, Any], criterion: Any) -> dict[str, Any]:
    weights = {"criterion": criterion, "criterion_images": 60}
    return {**launch, "evaluator": {**launch["evaluator"], "weights": weights}, "limits": {"trials": 3}}


def test_a_search_by_taylor_slices_what_it_scored(workplace: Path, launch: dict[str, Any]) -> None:
    content = settings(launch, "taylor")
    api.search(content)
    trials = api.trials("small")
    assert [trial.note for trial in trials if "ranked_otherwise" in trial.note] == []
    prepared = prepare(load_search(content), Silent())
    assert prepared.scores is not None
    for name, each in prepared.scores.values.items():
        np.testing.assert_array_equal(prepared.assets.ranking[name], np.argsort(-each, kind="stable"))


def test_every_trial_names_the_groups_that_the_fallback_ranked(workplace: Path, launch: dict[str, Any]) -> None:
    recipe = {"epochs": 1, "batch_size": 64, "lr": 0.05, "augment": "none"}
    space = {
        **launch["space"],
        "model": {"kind": "builtin", "name": "lenet300_100", "args": {"image_size": 8}},
        "base": {"recipe": recipe},
    }
    api.search(settings({**launch, "space": space}, "bn_scale"))
    trials = api.trials("small")
    assert len(trials) == 3
    for trial in trials:
        replaced = trial.note["ranked_otherwise"]
        assert isinstance(replaced, dict)
        assert all(reason.endswith("group_l2 ranks it") for reason in replaced.values())
        assert set(replaced) == set(trial.candidate.widths)


def searched(criterion: Any, calibration: list[torch.Tensor] | None) -> api.ModuleSearchResult:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 2, 1))
    return autoprune.search_module(
        model,
        IMAGES[:1],
        metric=lambda module: float(module(IMAGES).detach().mean()),
        name="module",
        trials=3,
        controller={"kind": "random"},
        criterion=criterion,
        calibration=calibration,
    )


def test_a_module_is_ranked_by_its_calibration_batches(workplace: Path) -> None:
    assert searched("apoz", [IMAGES]).trials == 3


@pytest.mark.parametrize(
    ("criterion", "calibration", "message"),
    [
        ("taylor", [IMAGES], r"criterion 'taylor' needs labels, and this search over a module in hand has none"),
        ("activation_std", None, r"criterion 'activation_std' needs calibration batches"),
        ("tailor", None, r"Did you mean 'taylor'"),
    ],
)
def test_a_module_without_images_is_refused(
    workplace: Path, criterion: str, calibration: list[torch.Tensor] | None, message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        searched(criterion, calibration)
