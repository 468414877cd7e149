"""The main job on real images: search, query, select, export, reload; and what may go wrong on the way."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml

import autoprune
from autoprune.config.schema import DigitsData
from autoprune.data import sources
from autoprune.errors import ConfigError, Conflict, NotFound, NothingFeasible
from autoprune.store import open_store
from autoprune.types import SearchState, TrialState

STORE = "sqlite:///results/autoprune.db"


def changed(launch: dict[str, Any], **changes: Any) -> dict[str, Any]:
    return {**launch, **changes}


def test_search_query_select_export_reload(workplace: Path, launch: dict[str, Any]) -> None:
    result = autoprune.search(launch)
    assert (result.trials, result.reused, result.record.state) == (10, False, SearchState.COMPLETE)
    assert result.record.baseline["top1"] > 0.9
    assert {path.name for path in (workplace / "results/small").iterdir()} == {"front.csv", "front.png", "report.html"}
    with (workplace / "results/small/front.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [int(row["trial"]) for row in rows] == [trial.number for trial in result.front.trials]

    trials = autoprune.trials("small")
    assert [trial.number for trial in trials] == list(range(10))
    measured = [trial.candidate.digest for trial in trials if not trial.duplicate_of]
    assert len(set(measured)) == len(measured)
    for trial in result.front.trials:  # nobody is better on both axes, by a double loop over all trials
        better = [
            other.number
            for other in trials
            if other.metrics["macs"] < trial.metrics["macs"] and other.metrics["top1"] > trial.metrics["top1"]
        ]
        assert not better
        assert "test_top1" in trial.metrics

    half = autoprune.front("small", where=["macs <= 0.5 * baseline"])
    assert half.trials
    assert all(trial.metrics["macs"] <= 0.5 * half.baseline["macs"] for trial in half.trials)

    chosen = autoprune.select("small", where=["macs <= 0.6 * baseline", "params <= 60k"]).trial
    feasible = [t for t in trials if t.metrics["macs"] <= 0.6 * half.baseline["macs"] and t.metrics["params"] <= 60e3]
    assert chosen.metrics["top1"] == max(trial.metrics["top1"] for trial in feasible)

    folder = autoprune.export("small", chosen.number, "model")
    model = autoprune.load_model(folder)
    assert sum(parameter.numel() for parameter in model.parameters()) == chosen.metrics["params"]
    assert json.loads((folder / "model.json").read_text())["widths"] == dict(chosen.candidate.widths)
    dataset = sources.load(DigitsData())
    mean, std = np.array(dataset.mean)[0], np.array(dataset.std)[0]
    images = torch.tensor((dataset.search_val.images / 255 - mean) / std, dtype=torch.float32)
    with torch.no_grad():
        correct = (model(images).argmax(1).numpy() == dataset.search_val.labels).mean()
    one_image = 1.01 / len(dataset.search_val.labels)  # where the search multiplied in bfloat16
    assert correct == pytest.approx(chosen.metrics["top1"], abs=one_image)


def test_the_same_search_again_runs_nothing_and_a_higher_limit_goes_on(workplace: Path, launch: dict[str, Any]) -> None:
    first = autoprune.search(launch)
    before = autoprune.trials("small")
    assert autoprune.search(launch).reused
    longer = autoprune.resume("small", trials=14)
    assert (longer.reused, longer.trials) == (False, 14)
    assert [(t.candidate.digest, t.metrics["top1"]) for t in autoprune.trials("small")[:10]] == [
        (t.candidate.digest, t.metrics["top1"]) for t in before
    ]
    assert longer.record.config["limits"]["trials"] == 14
    # What ten and then four more proposed is what fourteen at once propose.
    uncut = autoprune.search(changed(launch, limits={"trials": 14}), store="sqlite:///other.db")
    assert [t.candidate.digest for t in autoprune.trials("small", store="sqlite:///other.db")] == [
        t.candidate.digest for t in autoprune.trials("small")
    ]
    assert uncut.record.baseline == first.record.baseline


def test_another_configuration_under_the_name_is_a_conflict_that_says_what_differs(
    workplace: Path, launch: dict[str, Any]
) -> None:
    autoprune.search(changed(launch, limits={"trials": 2}))
    with pytest.raises(Conflict, match=r"different: evaluator\.calibration_images, seed") as caught:
        autoprune.search(changed(launch, seed=3, evaluator={"calibration_images": 50, "validation_images": 287}))
    assert "another name" in caught.value.hint


def test_candidates_measured_by_another_search_are_looked_up(workplace: Path, launch: dict[str, Any]) -> None:
    uniform = {"kind": "uniform"}
    autoprune.search(changed(launch, controller=uniform, limits={"trials": 4}))
    again = autoprune.search(changed(launch, name="again", controller=uniform, limits={"trials": 4}))
    trials = autoprune.trials("again")
    assert {trial.duplicate_of.split("/")[0] for trial in trials} == {"small"}
    assert again.record.trial_counts == {"complete": 4}


def test_a_budget_out_of_reach_stops_before_any_work(workplace: Path, launch: dict[str, Any]) -> None:
    never = {**launch["space"], "base": {"recipe": {"epochs": 100_000}}}  # training it would never end
    with pytest.raises(NothingFeasible, match="smallest"):
        autoprune.search(changed(launch, space=never, constraints=["macs <= 1k"]))
    with pytest.raises(NotFound):
        autoprune.trials("small")


def test_selecting_says_the_nearest_miss_and_never_uses_the_test_split(workplace: Path, launch: dict[str, Any]) -> None:
    autoprune.search(changed(launch, limits={"trials": 4}))
    with pytest.raises(NothingFeasible, match=r"Nearest: trial \d+ misses .* by "):
        autoprune.select("small", where=["macs <= 0.01 * baseline"])
    with pytest.raises(ConfigError, match="test split and cannot choose"):
        autoprune.select("small", maximize="test_top1")
    with pytest.raises(NotFound, match="Did you mean 'small'"):
        autoprune.front("smal")


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"model": {"kind": "builtin", "name": "resnet9"}}, "no built-in model 'resnet9'"),
        ({"base": {"checkpoint": "missing.pt"}}, "missing.pt"),
        ({"base": {"checkpoint": "corrupt.pt"}}, "corrupt.pt"),
        ({"data": {"kind": "image_folder", "root": "nowhere"}}, "there is no folder"),
        ({"rules": [{"match": "layr*", "floor": 0.5}]}, "layr"),
    ],
)
def test_what_the_user_got_wrong_is_a_message(
    workplace: Path, launch: dict[str, Any], change: dict[str, Any], expected: str
) -> None:
    (workplace / "corrupt.pt").write_bytes(b"PK\x03\x04 not really a checkpoint")
    with pytest.raises(ConfigError, match=expected):
        autoprune.search(changed(launch, space={**launch["space"], **change}))


def test_a_checkpoint_of_other_shapes_names_them(workplace: Path, launch: dict[str, Any]) -> None:
    state = {"module.fc.weight": torch.zeros(100, 64), "module.fc.bias": torch.zeros(100)}
    torch.save({"state_dict": state}, workplace / "other.pt")
    with pytest.raises(ConfigError, match=r"fc\.weight|100 classes"):
        autoprune.search(changed(launch, space={**launch["space"], "base": {"checkpoint": "other.pt"}}))


def test_a_base_of_nan_is_refused(workplace: Path, launch: dict[str, Any]) -> None:
    from autoprune.config.schema import BuiltinModel
    from autoprune.models import registry

    model = registry.build(BuiltinModel(name="resnet8"), num_classes=10, in_channels=1)
    state = model.state_dict()
    state["fc.weight"][0, 0] = float("nan")
    torch.save(state, workplace / "nan.pt")
    with pytest.raises(ConfigError, match="finite"):
        autoprune.search(changed(launch, space={**launch["space"], "base": {"checkpoint": "nan.pt"}}))


def test_serial_and_uncut_search_propose_the_same(workplace: Path, launch: dict[str, Any]) -> None:
    """Cut after every trial by a limit and resumed, against one run, for each controller with a state."""
    for sampler in ("nsga2", "random"):
        population = {"population": 4} if sampler == "nsga2" else {}
        controller = {"kind": "optuna", "sampler": sampler, "seed_uniform": 1, **population}
        uncut = changed(launch, name=f"uncut-{sampler}", controller=controller, limits={"trials": 9})
        autoprune.search(uncut)
        cut = changed(launch, name=f"cut-{sampler}", controller=controller)
        for limit in (1, 4, 9):
            autoprune.search(changed(cut, limits={"trials": limit}))
        digests = [
            [trial.candidate.digest for trial in autoprune.trials(name)]
            for name in (f"uncut-{sampler}", f"cut-{sampler}")
        ]
        assert digests[0] == digests[1]


def test_a_users_file_and_checkpoint(workplace: Path, launch: dict[str, Any]) -> None:
    (workplace / "mine.py").write_text(
        "from torch import nn\n"
        "def make(num_classes=10):\n"
        "    return nn.Sequential(\n"
        "        nn.Conv2d(1, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(),\n"
        "        nn.Conv2d(16, 24, 3, stride=2), nn.BatchNorm2d(24), nn.ReLU(),\n"
        "        nn.Flatten(), nn.Linear(24 * 9, num_classes))\n"
    )
    space = {**launch["space"], "model": {"kind": "file", "path": "mine.py", "factory": "make"}}
    result = autoprune.search(changed(launch, space=space, limits={"trials": 5}))
    widths = result.front.trials[0].candidate.widths
    assert set(widths) == {"0", "3"}
    folder = autoprune.export("small", result.front.trials[0].number, "model")
    loaded = autoprune.load_model(folder, allow_code=True)
    assert loaded[0].out_channels == widths["0"]


def test_stored_state_is_complete_and_in_order(workplace: Path, launch: dict[str, Any]) -> None:
    autoprune.search(changed(launch, limits={"trials": 3}))
    with open_store(STORE, read_only=True) as store:
        record = store.search("small")
        assert record.channels == {
            "conv1": 16,
            "layer1.0.conv1": 16,
            "layer2.0.downsample.0": 32,
            "layer2.0.conv1": 32,
            "layer3.0.downsample.0": 64,
            "layer3.0.conv1": 64,
        }
        assert all(trial.state is TrialState.COMPLETE for trial in store.trials("small"))
        assert all(set(trial.timings) >= {"slice", "calibrate", "evaluate"} for trial in store.trials("small"))
    yaml.safe_dump(dict(record.config))  # plain data: what is stored can be written to a file and run again
