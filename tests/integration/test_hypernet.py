"""MetaPruning from a launch file to an export, and whether the hypernetwork's scores mean anything."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import autoprune
from autoprune.config.loading import load_search
from autoprune.driver.assemble import prepare
from autoprune.driver.observers import Silent
from autoprune.errors import Conflict
from autoprune.types import Candidate

WEIGHTS = {"kind": "hypernet", "recipe": {"epochs": 5}}


@pytest.fixture
def metapruning(launch: dict[str, Any]) -> dict[str, Any]:
    evaluator = {**launch["evaluator"], "weights": WEIGHTS}
    controller = {"kind": "metapruning", "population": 6, "parents": 3}
    return {**launch, "controller": controller, "evaluator": evaluator, "limits": {"trials": 14}}


def test_a_search_from_launch_file_to_export(workplace: Path, metapruning: dict[str, Any]) -> None:
    first = autoprune.search(metapruning)
    assert first.trials == 14
    assert first.record.config["controller"]["kind"] == "evolution"
    assert first.record.config["controller"]["preset"] == "metapruning"
    assert first.record.config["evaluator"]["weights"]["kind"] == "hypernet"
    assert first.record.baseline["top1"] > 0.8
    assert max(trial.metrics["top1"] for trial in first.front.trials) > 0.8
    assert (first.output / "report.html").exists()
    assert autoprune.search(metapruning).reused
    longer = autoprune.resume("small", trials=18)
    assert longer.trials == 18
    chosen = longer.front.trials[0]
    folder = autoprune.export("small", chosen.number, workplace / "model")
    model = autoprune.load_model(folder)
    prepared = prepare(load_search(metapruning), Silent())
    again = prepared.evaluator.materialise(chosen.candidate)
    images = torch.randn(3, 1, 8, 8)
    torch.testing.assert_close(model(images), again(images), rtol=1e-4, atol=1e-4)


def test_prepare_trains_once_and_a_checkpoint_replaces_it(workplace: Path, metapruning: dict[str, Any]) -> None:
    base, made = autoprune.prepare(metapruning, overrides=["evaluator.weights.hidden=6"])
    assert (base.what, made.what) == ("base model", "hypernetwork")
    assert made.trained
    assert made.parameters > 5 * base.parameters
    assert not autoprune.prepare(metapruning, overrides=["evaluator.weights.hidden=6"])[1].trained
    under_a_budget = ["evaluator.weights.hidden=6", "constraints=['macs <= 0.5 * baseline']", "objectives=['top1 max']"]
    assert autoprune.prepare(metapruning, overrides=under_a_budget)[1].digest == made.digest
    moved = made.path.rename(workplace / "hypernet.safetensors")
    given = {**metapruning, "evaluator": {"weights": {"kind": "hypernet", "checkpoint": str(moved)}}}
    assert autoprune.prepare(given)[1].digest == made.digest


@pytest.mark.parametrize("kind", ["optuna", "amc", "netadapt", "uniform", "regression"])
def test_other_controllers_search_by_it_too(workplace: Path, metapruning: dict[str, Any], kind: str) -> None:
    settings = {**metapruning, "controller": {"kind": kind}, "limits": {"trials": 4}, "name": kind}
    assert autoprune.search(settings).trials == 4


def test_measurements_of_other_weights_are_not_shared(workplace: Path, metapruning: dict[str, Any]) -> None:
    prepared = prepare(load_search(metapruning), Silent())
    inheriting = prepare(load_search({**metapruning, "evaluator": {"weights": {"kind": "inherit"}}}), Silent())
    other = prepare(load_search(metapruning, ["evaluator.weights.recipe={epochs: 1}"]), Silent())
    assert len({item.evaluation_digest for item in (prepared, inheriting, other)}) == 3
    autoprune.search(metapruning)
    with pytest.raises(Conflict, match="another configuration"):
        autoprune.search({**metapruning, "evaluator": {"weights": {"kind": "inherit"}}})


def test_random_widths_are_far_above_chance_and_ranked_by_size(workplace: Path, metapruning: dict[str, Any]) -> None:
    prepared = prepare(load_search(metapruning), Silent())
    space, random = prepared.space, np.random.default_rng(0)

    def top1(candidate: Candidate) -> float:
        *_, last = prepared.evaluator.evaluate(candidate)
        return last.metrics["top1"]

    drawn = [Candidate({item.name: int(random.choice(item.allowed)) for item in space.dimensions}) for _ in range(12)]
    scores = [top1(candidate) for candidate in drawn]
    assert min(scores) > 0.5
    assert np.mean(scores) > 0.8
    narrow, wide = top1(space.uniform(0.25)), top1(space.uniform(0.8))
    assert narrow < wide
    macs = [space.cost.measure(candidate)["macs"] for candidate in drawn]
    assert np.corrcoef(np.log(macs), scores)[0, 1] > 0.2


def test_hypernets_need_a_data_set(workplace: Path) -> None:
    model = torch.nn.Sequential(torch.nn.Conv2d(1, 8, 3), torch.nn.Conv2d(8, 4, 3))
    with pytest.raises(autoprune.AutopruneError, match="need a data set"):
        autoprune.search_module(
            model, torch.zeros(1, 1, 8, 8), metric=lambda _: 0.0, name="a", controller={"kind": "metapruning"}
        )
