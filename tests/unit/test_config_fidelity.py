"""``fidelity:`` in a launch file: what may be written, and what older searches keep."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from autoprune.config.loading import load_search
from autoprune.config.schema import CalibrateFidelity, FinetuneFidelity
from autoprune.errors import ConfigError

SEARCH: dict[str, Any] = {
    "name": "demo",
    "space": {"model": {"kind": "builtin", "name": "resnet8"}, "data": {"kind": "digits"}},
}


def test_searches_from_before_keep_their_digests() -> None:
    before = load_search(SEARCH, ["evaluator.weights.criterion=l1"])
    assert before.fidelity == CalibrateFidelity()
    assert (before.digest(), before.evaluation_digest()) == ("a48f4839bf1a1840", "01c049bd694984e0")
    assert load_search({**SEARCH, "fidelity": "calibrate"}).digest() == load_search(SEARCH).digest()


def test_what_stops_trials_is_no_part_of_what_a_whole_one_measures() -> None:
    plain, tuned, whole, longer = (
        load_search(SEARCH, settings)
        for settings in ([], ["fidelity=finetune"], ["fidelity.asha=false"], ["fidelity.epochs=5"])
    )
    assert len({each.digest() for each in (plain, tuned, whole, longer)}) == 4
    assert tuned.evaluation_digest() == whole.evaluation_digest()
    assert len({each.evaluation_digest() for each in (plain, tuned, longer)}) == 3


def test_a_stored_configuration_reads_back_as_it_was() -> None:
    tuned = load_search(SEARCH, ["fidelity={epochs: 6, lr: 0.05, schedule: constant, reduction: 2.5}"])
    assert load_search(tuned.model_dump(mode="json")) == tuned
    old = load_search(SEARCH).model_dump(mode="json")
    del old["fidelity"]
    assert load_search(old).fidelity == CalibrateFidelity()


def test_settings_need_no_kind() -> None:
    assert load_search({**SEARCH, "fidelity": {"epochs": 2}}).fidelity == FinetuneFidelity(epochs=2)
    assert load_search({**SEARCH, "fidelity": "finetune"}).fidelity == FinetuneFidelity()
    assert not FinetuneFidelity(epochs=1).stops
    assert not FinetuneFidelity(epochs=4, grace_epochs=4).stops


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (["fidelity.epochs=0"], "fidelity.epochs: .* greater than or equal to 1"),
        (["fidelity.lr=0"], "fidelity.lr: .* greater than 0"),
        (["fidelity.lr=-1"], "fidelity.lr: .* greater than 0"),
        (["fidelity.reduction=1"], "fidelity.reduction: .* greater than 1"),
        (["fidelity.batch_size=0"], "fidelity.batch_size: .* greater than or equal to 1"),
        (["fidelity.epochs=2", "fidelity.grace_epochs=3"], r"grace_epochs is 3, more than epochs \(2\)"),
        (["fidelity=train"], "fidelity.kind is 'train'. Known: calibrate, finetune"),
        (["fidelity.epoch=2"], "unknown key 'fidelity.epoch'. Did you mean 'epochs'"),
        (["fidelity.kind=calibrate", "fidelity.epochs=2"], "unknown key 'fidelity.epochs'"),
        (["fidelity=finetune", "racing={}"], "exclude each other: .* leave racing out"),
        (["fidelity=finetune", "objectives=[loss min, macs min]"], "fidelity.asha needs .* set fidelity.asha to false"),
    ],
)
def test_bad_input_is_explained(settings: list[str], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        load_search(SEARCH, settings)


def test_without_asha_any_objective_will_do() -> None:
    load_search(SEARCH, ["fidelity.asha=false", "objectives=[loss min, macs min]"])


def test_a_module_in_hand_cannot_be_fine_tuned_here() -> None:
    space = {
        "model": {"kind": "module", "type": "Net", "digest": "d", "inputs": [[1, 3, 8, 8]]},
        "data": {"kind": "function", "name": "metric"},
    }
    with pytest.raises(ConfigError, match=r"needs a data set to train on; .* inside its metric function"):
        load_search({"name": "demo", "space": space, "objectives": ["top1 max"], "fidelity": "finetune"})


def test_the_launch_file_is_a_search_with_asha() -> None:
    fidelity = load_search(Path(__file__).parents[2] / "launch" / "digits_finetune.yaml").fidelity
    assert isinstance(fidelity, FinetuneFidelity)
    assert fidelity.stops
