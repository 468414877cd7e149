"""Rank correlations by hand, what an oracle's images decide, and the files of a report."""

from __future__ import annotations

import csv
import json
import math
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from autoprune.analysis import criteria_published as published
from autoprune.analysis.criteria_report import (
    CriteriaReport,
    CriterionScores,
    Oracle,
    agreement,
    figure,
    finite_scores,
)
from autoprune.analysis.criteria_report_files import COLUMNS, as_json, rows, write_report
from autoprune.analysis.rank_correlation import spearman

TRUTH = {"a": np.array([1.0, 2.0, 3.0, 4.0]), "b": np.array([30.0, 10.0, 20.0])}


def oracle(images: int = 40, noise: float = 0.0, units: int = 30) -> Oracle:
    """Two groups; the changes of the second are ten times as large, and all are negative for odd units."""
    rng = np.random.default_rng(0)
    size = np.stack([rng.random(units), 10 * rng.random(units)])
    signs = np.where(np.arange(units) % 2, -1.0, 1.0)
    changes = (signs * size)[..., None] + noise * rng.standard_normal((2, units, images))
    return Oracle({"a": changes[0], "b": changes[1]})


def criterion(name: str, *draws: dict[str, np.ndarray], **left_out: str) -> CriterionScores:
    return CriterionScores(name, draws, left_out, seconds=0.5)


# --- the coefficient -------------------------------------------------------------------------------------------------


def test_ties_share_their_rank() -> None:
    """Ranks 1.5, 1.5, 3.5, 3.5 against 1 to 4: 4 / sqrt(4 * 5); the short formula gives 1 for ranks in order."""
    assert spearman([1, 1, 2, 2], [1, 2, 3, 4]) == pytest.approx(4 / math.sqrt(20))
    rng = np.random.default_rng(0)
    for _ in range(20):
        first, second = rng.integers(0, 5, (2, 30))
        assert spearman(first, second) == pytest.approx(stats.spearmanr(first, second).statistic)


def test_only_the_order_counts() -> None:
    values = np.array([0.1, 5.0, -2.0, 7.0])
    assert spearman(values, np.exp(values)) == pytest.approx(1)
    assert spearman(values, -(values**3)) == pytest.approx(-1)


@pytest.mark.parametrize(("first", "second"), [([1, 1, 1], [1, 2, 3]), ([2], [3]), ([], [])])
def test_nothing_to_rank(first: list[float], second: list[float]) -> None:
    assert math.isnan(spearman(first, second))


@pytest.mark.parametrize(("first", "second"), [([1, math.nan], [1, 2]), ([1, 2, 3], [1, 2])])
def test_values_without_a_rank_are_refused(first: list[float], second: list[float]) -> None:
    with pytest.raises(ValueError, match=r"NaN|equally many"):
        spearman(first, second)


# --- three ways to compare -------------------------------------------------------------------------------------------


def test_per_layer_and_over_all() -> None:
    scores = {"a": np.array([10.0, 20.0, 30.0, 40.0]), "b": np.array([1.0, 2.0, 3.0])}
    per_layer, all_layers, rescaled = agreement(scores, TRUTH)
    assert per_layer == pytest.approx((1 + spearman([1, 2, 3], [30, 10, 20])) / 2)
    assert all_layers == pytest.approx(spearman([10, 20, 30, 40, 1, 2, 3], [1, 2, 3, 4, 30, 10, 20]))
    lengths = math.sqrt(3000), math.sqrt(14)
    divided = [*(np.array([10, 20, 30, 40]) / lengths[0]), *(np.array([1, 2, 3]) / lengths[1])]
    assert rescaled == pytest.approx(spearman(divided, [1, 2, 3, 4, 30, 10, 20]))


def test_equal_scores_rank_nothing_and_single_units_do_not_count() -> None:
    truth = {**TRUTH, "single": np.array([5.0])}
    scores = {"a": TRUTH["a"], "b": np.zeros(3), "single": np.array([1.0])}
    assert agreement(scores, truth)[0] == pytest.approx(0.5)
    assert np.isfinite(agreement(scores, truth)[2]), "a layer of zeros has no length to divide by"


def test_only_covered_groups_count() -> None:
    assert agreement({"a": TRUTH["a"]}, TRUTH).tolist() == pytest.approx([1, 1, 1])
    assert np.isnan(agreement({}, TRUTH)).all()


# --- errors ----------------------------------------------------------------------------------------------------------


def test_the_jackknife_of_a_mean_is_its_standard_error() -> None:
    values = np.random.default_rng(0).normal(0.3, 0.1, 10)
    left_out = (values.sum() - values) / 9
    found = figure(np.array([values.mean()]), left_out)
    error = values.std(ddof=1) / math.sqrt(10)
    assert (found.value, found.error) == pytest.approx((values.mean(), error))
    assert found.high - found.value == pytest.approx(stats.t.ppf(0.975, 9) * error)


def test_the_spread_of_the_draws_counts_too() -> None:
    draws = np.array([0.2, 0.4, 0.6])
    found = figure(draws, np.full(10, 0.4))
    assert found.error == pytest.approx(0.2 / math.sqrt(3))
    assert found.high - found.value == pytest.approx(stats.t.ppf(0.975, 2) * found.error)
    assert figure(np.array([0.9, 1.0]), np.full(10, 0.95)).high == 1.0


def test_the_oracle_is_the_mean_over_the_images_and_then_absolute() -> None:
    found = Oracle({"a": np.array([[1.0, -3.0], [2.0, 4.0]])})
    assert (found.signed()["a"].tolist(), found.absolute()["a"].tolist()) == ([-1, 3], [1, 3])
    assert found.absolute(np.array([0]))["a"].tolist() == [1, 2]
    assert [each["a"].tolist() for each in found.without_blocks] == [[3, 4], [1, 2]]


# --- a report --------------------------------------------------------------------------------------------------------


def report(noise: float = 0.5, draws: int = 10) -> CriteriaReport:
    truth = oracle(noise=noise)
    absolute = truth.absolute()
    rng = np.random.default_rng(1)
    drawn = [{name: rng.random(30) for name in absolute} for _ in range(draws)]
    return CriteriaReport(
        "small",
        truth,
        (
            criterion("random", *drawn),
            criterion("perfect", {name: 5 * each for name, each in absolute.items()}),
            criterion("inverse", {name: -each for name, each in absolute.items()}),
            criterion("half", {"a": absolute["a"]}, b="no BatchNorm"),
            criterion("nowhere", {}, a="no labels", b="no labels"),
        ),
        {"oracle": "40 images"},
    )


def test_controls_and_order() -> None:
    found = report()
    assert [row.criterion for row in found.rows] == ["perfect", "half", "random", "inverse", "nowhere"]
    values = {row.criterion: [each.value for each in row.figures] for row in (*found.rows, *found.controls)}
    assert values["perfect"][:2] == values["oracle-abs"][:2] == pytest.approx([1, 1])
    assert values["inverse"][:2] == pytest.approx([-1, -1])
    assert abs(values["random"][0]) < 0.1
    assert all(math.isnan(value) for value in values["nowhere"])
    half = found.rows[1]
    assert (half.groups, half.figures[0].value) == (1, pytest.approx(1))
    itself, signed, halves = found.controls
    assert (itself.figures[0].low, itself.figures[0].high) == (1, 1)
    assert abs(signed.figures[0].value) < 0.3, "every other change is negative"
    assert 0.3 < halves.figures[0].value < 1


def test_noise_in_the_images_widens_the_interval() -> None:
    def error(noise: float) -> float:
        return next(row for row in report(noise, draws=1).rows if row.criterion == "perfect").figures[0].error

    assert error(0.0) == 0
    assert error(1.0) > error(0.3) > 0


def test_scores_that_are_no_numbers() -> None:
    kept, reasons = finite_scores({"a": [1.0, math.nan, math.inf], "b": [1.0, 2.0]})
    assert (list(kept), reasons) == (["b"], {"a": "2 of 3 scores are not finite"})


def test_published_numbers() -> None:
    """Fifteen rows; the paper's best criterion by row is Taylor or OBD but for APoZ once."""
    best = []
    for row in published.TABLE:
        values = [-1 if value is None else value for value in row.values]
        best.append(published.CRITERIA[int(np.argmax(values))])
    assert best == [
        *("Taylor", "OBD", "Taylor"),
        *("Taylor", "OBD", "Taylor"),
        *("Taylor", "OBD", "Taylor"),
        *("Taylor", "APoZ", "Taylor"),
        *("OBD", "OBD", "Taylor"),
    ]
    assert published.published_range("mutual information")["all layers, l2"] == (0.47, 0.47)
    assert "all layers, l2" not in published.published_range("OBD")


def read(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_files(tmp_path: Path) -> None:
    found = report()
    paths = {path.name: path for path in write_report(found, tmp_path / "new")}
    assert list(paths) == ["table.csv", "layers.csv", "scores.csv", "report.md", "correlations.png"]
    table, units, layers = (read(paths[f"{name}.csv"]) for name in ("table", "scores", "layers"))
    assert tuple(table[0]) == COLUMNS
    assert [row["criterion"] for row in table[:2]] == ["perfect", "half"]
    assert (table[0]["per_layer"], table[4]["per_layer"], table[1]["groups"]) == ("1", "", "1")
    assert len(units) == 60
    assert float(units[1]["oracle_loss"]) == -float(units[1]["oracle_abs"]) < 0
    assert (units[0]["half"] != "", units[59]["half"]) == (True, "")
    assert [row["group"] for row in layers] == ["a", "b"]
    assert (layers[0]["half"], layers[1]["half"], layers[0]["inverse"]) == ("1", "", "-1")
    text = paths["report.md"].read_text()
    assert "| VGG-16 / Birds-200 | per layer | 0.27 | 0.56 | 0.57 | 0.35 | 0.59 | 0.73 | 0.28 |" in text
    assert "half leaves out 1 of 2 groups (b): no BatchNorm" in text
    assert paths["correlations.png"].read_bytes()[:4] == b"\x89PNG"


def test_json_has_no_nan() -> None:
    content = json.loads(json.dumps(as_json(report()), allow_nan=False))
    assert content["criteria"][4] | {"seconds": 0} == {
        "criterion": "nowhere",
        "needs": "weights",
        **dict.fromkeys(COLUMNS[2:11]),
        "groups": 0,
        "seconds": 0,
    }
    assert content["left_out"]["half"] == {"b": "no BatchNorm"}
    assert len(content["published"]["rows"]) == 15
    assert [row["criterion"] for row in rows(report())][5:] == ["oracle-abs", "oracle-loss", "oracle-abs by halves"]
