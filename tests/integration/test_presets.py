"""Papers' procedures on the digits, from the command line: exports, points beside a front, and what is refused."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml

import autoprune
from autoprune.cli.main import main
from autoprune.config.loading import load_search
from autoprune.config.schema import DigitsData
from autoprune.data import sources
from autoprune.driver.assemble import prepare
from autoprune.driver.observers import Silent
from autoprune.procedures.presets import PRESETS
from autoprune.types import Candidate

HALF = ["--budget", "macs <= 0.5 * baseline"]


@pytest.fixture
def file(workplace: Path, launch: dict[str, Any]) -> str:
    Path("launch.yaml").write_text(yaml.safe_dump(launch))
    return "launch.yaml"


def run(*arguments: str) -> int:
    with pytest.raises(SystemExit) as leaving:
        main(arguments)
    return int(leaving.value.code or 0)


def refused(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str]:
    code = run("prune", *arguments, "--quiet")
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "Traceback" not in captured.err
    return code, " ".join(captured.err.split())


def top1(folder: Path) -> float:
    """Of the exported model on search-val, by a loop of its own."""
    data, model = sources.load(DigitsData()), autoprune.load_model(folder)
    images = (data.search_val.images / 255 - np.array(data.mean)[0]) / np.array(data.std)[0]
    with torch.no_grad():
        found = model(torch.tensor(images, dtype=torch.float32)).argmax(1).numpy()
    return float((found == data.search_val.labels).mean())


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[] if name == "li2016" else pytest.mark.slow) for name in PRESETS]
)
def test_a_preset_trains_and_exports(name: str, file: str, capsys: pytest.CaptureFixture[str]) -> None:
    epochs = "0.1" if name == "molchanov2016" else "1"
    assert run("prune", name, file, *HALF, "--epochs", epochs, "--out", "model", "--format", "json", "--quiet") == 0
    result = json.loads(capsys.readouterr().out)
    metrics, baseline = result["metrics"], result["baseline"]
    assert metrics["macs"] <= 0.5 * baseline["macs"]
    assert metrics["top1"] > 0.3  # chance is 0.1, and one epoch is short
    assert top1(Path("model")) == pytest.approx(metrics["top1"], abs=1.01 / 287)
    content = json.loads(Path("model/model.json").read_text())
    assert content["widths"] == result["widths"]
    assert {group: len(units) for group, units in content["origin"]["kept_units"].items()} == result["widths"]
    assert content["origin"]["procedure_digest"] == result["digest"]
    assert result["rows"][-1]["macs"] == metrics["macs"]


def test_without_fine_tuning_it_is_the_trial_of_those_widths(workplace: Path, launch: dict[str, Any]) -> None:
    pruned = autoprune.prune("li2016", launch, budget=["macs <= 0.6 * baseline"], finetune=False)
    launch["evaluator"] = {**launch["evaluator"], "weights": {"criterion": "l1"}}
    *_, trial = prepare(load_search(launch), Silent()).evaluator.evaluate(Candidate(pruned.widths))
    assert pruned.metrics["top1"] == pytest.approx(trial.metrics["top1"], abs=1.01 / 287)
    assert [row.after for row in pruned.rows] == [None]


def test_points_stand_beside_a_front_and_never_on_it(
    workplace: Path, launch: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    autoprune.search(launch)
    before = autoprune.front("small")
    arguments = ["prune", "li2016", "--search", "small", *HALF, "--no-finetune", "--quiet"]
    assert run(*arguments) == 0
    assert run(*arguments) == 0, "again: found, and kept once"
    shown = capsys.readouterr().out
    assert "round by round" in shown
    after = autoprune.front("small", presets=True)
    assert after.trials == before.trials
    assert autoprune.front("small").points == ()
    (point,) = after.points
    assert point.label == "li2016 (not fine-tuned)"
    assert point.metrics["macs"] <= 0.5 * after.baseline["macs"]
    assert autoprune.front("small", where=["macs <= 0.2 * baseline"], presets=True).points == ()

    assert run("front", "small", "--presets", "--plot", "front.html", "--quiet") == 0
    assert "li2016 (not fine-tuned)" in capsys.readouterr().out
    assert "li2016 (not fine-tuned)" in Path("front.html").read_text()
    assert json.loads(after.to_json())["presets"][0]["label"] == point.label
    assert after.to_csv().splitlines()[-1].startswith("li2016 (not fine-tuned),")
    report = autoprune.report("small", out="page")
    page = (report / "report.html").read_text()
    assert "<td>li2016 (not fine-tuned)</td>" in page
    assert re.search(r"<text[^>]*>[^<]*li2016 \(not fine-tuned\)", page), "named in the figure"


def test_presets_are_listed_with_what_they_approximate(workplace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("prune", "--list") == 0
    shown = capsys.readouterr().out
    for name, preset in PRESETS.items():
        assert f"{name}\n" in shown
        assert preset.paper.split(":")[0] in " ".join(shown.split())


def test_what_is_not_understood_is_refused_before_any_work(file: str, capsys: pytest.CaptureFixture[str]) -> None:
    cases = {
        ("li2017", file, *HALF): (2, "did you mean 'li2016'|li2016"),
        ("li2016", file): (2, "expected either a budget or a table, got neither"),
        ("li2016", file, *HALF, "--table", "vgg16-a"): (2, "got both"),
        ("li2016", *HALF): (2, "either a launch or space file, or --search"),
        ("li2016", file, "--budget", "macs >= 0.5 * baseline"): (2, "is a lower bound"),
        ("li2016", file, "--budget", "top1 >= 0.9"): (2, "no cost that a procedure can aim at"),
        ("li2016", file, "--budget", "macs <= 0.01 * baseline"): (5, "smallest reachable is"),
        ("li2016", file, "--table", "vgg16-a"): (2, "no group 'features.0'"),
        ("li2016", file, "--table", "vgg17-a"): (2, "vgg16-a"),
        ("slimming", file, "--table", "vgg16-a"): (2, "it takes no table"),
        ("li2016", file, *HALF, "--recipe", "epochs=3"): (2, "--epochs N"),
        ("li2016", file, *HALF, "--recipe", "lr=-1"): (2, "lr"),
        ("li2016", file, *HALF, "--epochs", "0"): (2, "epochs must be above 0"),
        ("li2016", "missing.yaml", *HALF): (2, "missing.yaml"),
        ("li2016", "--search", "nothing", *HALF): (3, ""),
        ("li2016", file, *HALF, "--out", "."): (3, "not empty"),
        (): (2, "--list"),
    }
    for arguments, (code, expected) in cases.items():
        got, text = refused(capsys, *arguments)
        assert (got, bool(re.search(expected, text))) == (code, True), (arguments, text)


def test_a_network_without_batchnorm_is_refused_before_it_is_trained(
    file: str, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("net.py").write_text(
        "from torch import nn\n"
        "def make(num_classes, in_channels):\n"
        "    layers = nn.Conv2d(in_channels, 8, 3), nn.GELU(), nn.Conv2d(8, 8, 3), nn.Flatten()\n"
        "    return nn.Sequential(*layers, nn.Linear(128, num_classes))\n"
    )
    model = [
        "--set",
        "space.model={kind: file, path: net.py, factory: make}",
        "--set",
        "space.base.recipe.epochs=10000",
    ]
    code, text = refused(capsys, "slimming", file, *HALF, *model)
    assert (code, "this network has no BatchNorm" in text) == (2, True), text
    code, text = refused(capsys, "apoz2016", file, *HALF, *model)
    assert (code, "apoz2016 cannot prune this network" in text, "exclude: true" in text) == (2, True, True), text
