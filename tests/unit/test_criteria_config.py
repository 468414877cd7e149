"""Criteria in launch files: by name or with options, and the digests that older searches keep."""

from __future__ import annotations

from pathlib import Path
from typing import Any, get_args

import pytest

from autoprune.config.criteria import CriterionName
from autoprune.config.evaluation import EvaluatorConfig, InheritWeights
from autoprune.config.loading import load_search
from autoprune.config.schema import SearchConfig
from autoprune.errors import ConfigError
from autoprune.pruning import criteria

LAUNCH = Path(__file__).resolve().parents[2] / "launch" / "quickstart.yaml"


def weights(criterion: Any, **more: Any) -> InheritWeights:
    return InheritWeights.model_validate({"criterion": criterion, **more})


def test_every_criterion_can_be_configured_and_takes_its_options() -> None:
    assert sorted(get_args(CriterionName)) == criteria.names()
    for name in criteria.names():
        chosen = weights(name).criterion
        assert criteria.get(chosen.name, 0, **chosen.options()).name == name


@pytest.mark.parametrize(
    ("given", "recorded"),
    [
        ("taylor", "taylor"),
        ({"name": "taylor"}, "taylor"),
        ({"name": "taylor", "reduce": "mean_abs", "fallback": "group_l2"}, "taylor"),
        ({"name": "taylor", "reduce": "abs_of_sum"}, {"name": "taylor", "reduce": "abs_of_sum"}),
        ({"name": "apoz", "fallback": None}, {"name": "apoz", "fallback": None}),
        ({"name": "fpgm", "norm_share": 0.1}, {"name": "fpgm", "norm_share": 0.1}),
    ],
)
def test_a_name_stays_a_name_and_records_come_back(given: Any, recorded: Any) -> None:
    config = weights(given)
    content = config.model_dump(mode="json")
    assert content == {"kind": "inherit", "criterion": recorded}
    assert InheritWeights.model_validate(content) == config
    assert config.ranking == recorded or f'"name": "{recorded["name"]}"' in config.ranking


def test_older_searches_keep_their_digests() -> None:
    """The literals are those of the version before there were options."""
    evaluator = EvaluatorConfig.model_validate({"weights": {"criterion": "l1"}})
    assert evaluator.model_dump(mode="json") == {
        "weights": {"kind": "inherit", "criterion": "l1"},
        "calibration_images": 1000,
        "validation_images": 2000,
        "batch_size": 250,
    }
    plain = load_search(LAUNCH)
    assert (plain.digest(), plain.evaluation_digest()) == ("f535e01aee311a07", "0473b77549d341ce")
    others = [
        "evaluator.weights.criterion=taylor",
        "evaluator.weights.criterion={name: taylor, reduce: abs_of_sum}",
        "evaluator.weights.criterion_images=500",
    ]
    assert (
        len({load_search(LAUNCH, [other]).evaluation_digest() for other in others} | {plain.evaluation_digest()}) == 4
    )
    for other in others:
        config = load_search(LAUNCH, [other])
        assert SearchConfig.model_validate(config.model_dump(mode="json")) == config


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("criterion=tayler", r"criterion\.name is 'tayler'\. Did you mean 'taylor'"),
        ("criterion=3", "expected a criterion's name such as 'l1'"),
        ("criterion={reduce: sum}", "criterion needs a key 'name'"),
        ("criterion={name: taylor, reduce: sum}", r"criterion\.reduce: Input should be 'mean_abs' or 'abs_of_sum'"),
        ("criterion={name: fpgm, norm_share: 1}", r"criterion\.norm_share: Input should be less than 1"),
        ("criterion={name: l1, fallback: l2}", r"unknown key 'evaluator\.weights\.criterion\.fallback'"),
        ("criterion={name: apoz, fallback: taylor}", r"criterion\.fallback: Input should be 'group_l1'"),
        ("criterion_images=0", "criterion_images: Input should be greater than or equal to 1"),
    ],
)
def test_mistakes_are_named(setting: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load_search(LAUNCH, [f"evaluator.weights.{setting}"])
