"""``autoprune criteria-report`` on the digits: what it finds, what it leaves alone, and what it refuses."""

from __future__ import annotations

import csv
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from autoprune import api
from autoprune.cli.main import main
from autoprune.data.dataset import Dataset
from autoprune.errors import ConfigError, StoreError
from autoprune.pruning import criteria
from autoprune.pruning.ablation import Ablator
from autoprune.types import ChannelGroup

SOME = ("l1", "taylor", "random")
QUICK: dict[str, Any] = {
    "criteria": SOME,
    "images": 40,
    "draws": 2,
    "overrides": ["evaluator.weights.criterion_images=100"],
}


def test_a_report_ranks_the_criteria(workplace: Path, launch: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: Dataset) -> None:
        raise AssertionError("a report on criteria needs no test images")

    monkeypatch.setattr(Dataset, "open_test", refuse)
    result = api.criteria_report(launch, **QUICK)
    assert result.output == Path("results/small/criteria")
    assert sorted(path.name for path in result.files) == sorted(path.name for path in result.output.iterdir())
    report = result.report
    values = {row.criterion: row.figures[0].value for row in report.rows}
    assert set(values) == set(SOME)
    assert values["taylor"] > 0.3 > abs(values["random"])
    assert (report.oracle.images, report.units) == (40, 224)
    assert "2 draws of 100 other training images" in report.facts["criteria"]
    with (result.output / "scores.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 224
    assert float(rows[0]["oracle_abs"]) == pytest.approx(report.oracle.absolute()["conv1"][0], rel=1e-5)
    monkeypatch.setattr(Ablator, "changes", lambda *_: pytest.fail("the oracle was kept"))
    again = api.criteria_report(launch, **QUICK).report
    assert [row.figures for row in again.rows] == [row.figures for row in report.rows]


def test_a_stopped_oracle_goes_on(workplace: Path, launch: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """Groups that were done are kept; a damaged file is said and done again."""
    done: list[str] = []
    plain = Ablator.changes

    def stopping(self: Ablator, group: ChannelGroup, *rest: Any) -> np.ndarray:
        if len(done) == 2:
            raise KeyboardInterrupt
        done.append(group.name)
        return plain(self, group, *rest)

    settings: dict[str, Any] = {"criteria": ["l1"], "images": 25, "draws": 1}
    monkeypatch.setattr(Ablator, "changes", stopping)
    with pytest.raises(KeyboardInterrupt):
        api.criteria_report(launch, **settings)
    done.clear()
    with pytest.raises(KeyboardInterrupt):
        api.criteria_report(launch, **settings)
    assert done == ["layer2.0.downsample.0", "layer2.0.conv1"], "after the first two groups"
    monkeypatch.setattr(Ablator, "changes", plain)
    first = api.criteria_report(launch, **settings).report
    newest = max((Path(os.environ["AUTOPRUNE_HOME"]) / "oracles").iterdir(), key=lambda path: path.stat().st_mtime_ns)
    newest.write_bytes(b"no oracle")
    with pytest.warns(UserWarning, match="is damaged"):
        again = api.criteria_report(launch, **settings).report
    np.testing.assert_array_equal(again.oracle.changes["conv1"], first.oracle.changes["conv1"])


def test_oracle_and_criteria_see_different_images(
    workplace: Path, launch: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    from autoprune.pruning import statistics

    seen: dict[str, set[bytes]] = {"oracle": set(), "criteria": set()}
    plain_init, plain_collect = Ablator.__init__, statistics.collect

    def ablator(self: Ablator, model: Any, groups: Any, images: Any, *rest: Any) -> None:
        seen["oracle"] |= {image.numpy().tobytes() for image in images}
        plain_init(self, model, groups, images, *rest)

    def collect(model: Any, groups: Any, wanted: Any, batches: Any, **options: Any) -> Any:
        kept = list(batches)
        seen["criteria"] |= {image.numpy().tobytes() for images, _ in kept for image in images}
        return plain_collect(model, groups, wanted, kept, **options)

    monkeypatch.setattr(Ablator, "__init__", ablator)
    monkeypatch.setattr(statistics, "collect", collect)
    api.criteria_report(launch, **QUICK)
    assert (len(seen["oracle"]), not seen["oracle"] & seen["criteria"]) == (40, True)
    assert 100 < len(seen["criteria"]) <= 200, "two draws"


def test_budgets_and_weights_of_the_search_do_not_matter(workplace: Path, launch: dict[str, Any]) -> None:
    """No hypernetwork is trained, no bound checked: only the base model is asked."""
    launch["constraints"] = ["macs <= 0.001 * baseline"]
    launch["evaluator"]["weights"] = {"kind": "hypernet"}
    result = api.criteria_report(launch, criteria=["l1"], images=20, draws=1)
    assert result.report.rows[0].criterion == "l1"


def test_a_criterion_that_cannot_score_is_shown_with_its_reason(
    workplace: Path, launch: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    real = criteria.get

    def broken(name: str, seed: int = 0, **options: Any) -> Any:
        found = real(name, seed, **options)
        if name == "l2":
            found.score = lambda group, *_: np.full(group.units, np.nan)  # type: ignore[method-assign]
        return found

    monkeypatch.setattr(criteria, "get", broken)
    report = api.criteria_report(launch, criteria=["l2", "l1"], images=20, draws=1).report
    assert [(row.criterion, row.groups) for row in report.rows] == [("l1", 6), ("l2", 0)]
    assert "16 of 16 scores are not finite" in report.criteria[0].left_out["conv1"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"criteria": ["l3"]}, "no criterion 'l3'"),
        ({"images": 5}, "an oracle on 5 images"),
        ({"images": 100_000}, "there are 1151 training images"),
        ({"draws": 0}, "0 draws"),
        ({"overrides": ["evaluator.weights.criterion_images=0"]}, "criterion_images"),
    ],
)
def test_what_is_refused(workplace: Path, launch: dict[str, Any], changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        api.criteria_report(launch, **{**QUICK, **changes})


def test_a_folder_that_cannot_be_written(
    workplace: Path, launch: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Said at once: nothing is ablated for it."""
    Path("taken").write_text("a file")
    monkeypatch.setattr(Ablator, "__init__", lambda *_: pytest.fail("it was said too late"))
    with pytest.raises(StoreError, match=r"cannot be written to taken.*"):
        api.criteria_report(launch, criteria=["l1"], images=20, draws=1, out="taken")


def test_the_command(workplace: Path, launch: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
    Path("small.yaml").write_text(yaml.safe_dump(launch))
    command = ["criteria-report", "small.yaml", "--images", "20", "--draws", "1", "--out", "here"]

    def run(*more: str) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as left:
            main([*command, *more])
        return int(left.value.code or 0), *capsys.readouterr()

    code, out, err = run("--criteria", "l1,random", "--format", "json")
    content = json.loads(out)
    assert (code, [item["criterion"] for item in content["criteria"]][2:3]) == (0, ["oracle-abs"])
    assert content["published"]["source"] == "Molchanov et al. 2017 (ICLR), Table 1"
    assert "files are in here/" in err
    code, out, _ = run("--criteria", "l1")
    assert code == 0
    assert "0.28" in out.split("For reference, Molchanov")[1]
    code, out, err = run("--criteria", "l1,tailor")
    assert (code, out) == (2, "")
    assert "no criterion 'tailor'" in err
    assert "Traceback" not in err
