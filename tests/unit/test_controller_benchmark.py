"""Curves, gains and ranks of a small comparison, by hand."""

from __future__ import annotations

import csv
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from autoprune.analysis.controller_benchmark import ArmRun, ControllerBenchmark, Setting, interval
from autoprune.analysis.controller_report import COLUMNS, cells, headings, notes, rows, write_report
from autoprune.types import Constraint, Objective

BASELINE = {"top1": 0.9, "macs": 100.0}
TOP1, MACS = Objective("top1", "max"), Objective("macs", "min")
FRONT = Setting("front", (TOP1, MACS), (), BASELINE)
HALF = Setting("macs50", (TOP1,), (Constraint("macs", "<=", 0.5, relative=True),), BASELINE)


def run(arm: str, setting: str, seed: int, top1: list[float], macs: list[float] | None = None, **more: float) -> ArmRun:
    count = len(top1)
    return ArmRun(
        arm=arm,
        setting=setting,
        seed=seed,
        numbers=tuple(range(count)),
        metrics={"top1": tuple(top1), "macs": tuple(macs or [50.0] * count)},
        finished=tuple(float(n) for n in range(count)),
        proposal_seconds=0.01 * count,
        evaluation_seconds=0.2 * count,
        evaluations=count,
        **more,  # type: ignore[arg-type]
    )


def half(**own: object) -> ControllerBenchmark:
    """Random ends at .6, .7; good at .8, .8 (after two trials both times); uniform, which has two trials, at .5."""
    runs = (
        *(
            run("random", "macs50", 0, [0.5, 0.6, 0.6, 0.4], test_top1=0.55),
            run("random", "macs50", 1, [0.1, 0.2, 0.7, 0.1]),
        ),
        *(
            run("good", "macs50", 0, [0.1, 0.8, 0.1, 0.2], test_top1=0.7),
            run("good", "macs50", 1, [0.5, 0.8, 0.1, 0.2]),
        ),
        *(run("uniform", "macs50", seed, [0.3, 0.5]) for seed in (0, 1)),
    )
    arms = {"random": "random", "good": "optuna", "uniform": "uniform"}
    return replace(ControllerBenchmark("b", (HALF,), arms, runs, 4, 2, 1), **own)  # type: ignore[arg-type]


def test_hypervolume_of_a_front_by_hand() -> None:
    """Against (top1 0, macs 100): .5 * .5, then a strip of .25 on top for 20 %, then nothing, then the corner below."""
    curve = FRONT.curve({"top1": [0.5, 0.75, 0.4, 0.2], "macs": [50.0, 80.0, 60.0, 10.0]})
    assert curve.tolist() == pytest.approx([0.25, 0.25 + 0.25 * 0.2, 0.3, 0.3 + 0.2 * 0.4])


def test_the_unpruned_model_adds_nothing() -> None:
    assert FRONT.curve({"top1": [0.9], "macs": [100.0]}).tolist() == [0.0]


def test_a_bound_moves_the_reference() -> None:
    bounded = replace(FRONT, constraints=HALF.constraints)
    assert (FRONT.reference, bounded.reference, HALF.reference) == ((0.0, 100.0), (0.0, 50.0), (0.0,))
    assert bounded.curve({"top1": [0.5], "macs": [25.0]}).tolist() == [0.25]


def test_top1_alone_is_the_best_so_far_and_nan_repeats() -> None:
    assert HALF.curve({"top1": [math.nan, 0.5, 0.4, 0.6]}).tolist() == [0.0, 0.5, 0.5, 0.6]


def test_gains_ranks_and_evaluations_to_the_end_of_random() -> None:
    found = {item.arm: item for item in half().results}
    assert [item.arm for item in half().results] == ["good", "random", "uniform"]
    good, uniform = found["good"], found["uniform"]
    assert (good.score, good.score_std) == pytest.approx((0.8, 0.0))
    assert good.gain == pytest.approx(0.15)  # .2 and .1
    spread = 12.706 * np.std([0.2, 0.1], ddof=1) / math.sqrt(2)
    assert (good.gain_low, good.gain_high) == pytest.approx((0.15 - spread, 0.15 + spread))
    assert (good.wins, good.rank, found["random"].rank, uniform.rank) == (2, 1.0, 2.0, 3.0)
    assert (good.reached, good.reached_seeds) == (2.0, 2)  # random's mean end is .65
    assert (uniform.reached_seeds, math.isnan(uniform.reached)) == (0, True)
    assert (good.proposal_ms, good.evaluation_ms, good.evaluations) == pytest.approx((10.0, 200.0, 4.0))


def test_a_run_that_ended_early_keeps_its_last_value() -> None:
    assert half().curves(HALF, "uniform")[0].tolist() == [0.3, 0.5, 0.5, 0.5]


def test_verdicts_say_what_can_be_told_apart() -> None:
    verdict, advice = half().verdicts()
    assert verdict.startswith("macs50: good has the best mean top1, 80.00 %, +15.00 points over random (95 % interval")
    assert "better on 2 of 2 seeds); not told apart from it: random" in verdict
    assert "uniform" not in verdict.split("Not shown")[0]
    assert (
        advice == "Choose good: its mean rank over all settings and seeds is 1.0 of 3 arms (random 2.0, uniform 3.0)."
    )


def test_arms_with_weights_of_their_own_are_not_recommended() -> None:
    found = half(own_weights={"good": "hypernet weights"})
    assert found.recommended == "random"
    assert cells(found, HALF, found.results[0])[0] == "good*"
    assert any(text.startswith("* good searches by its own weights (hypernet weights)") for text in notes(found))


def test_arms_with_equal_weights_are_shown_by_these() -> None:
    runs = [
        replace(each, own_metrics={"top1": (0.1, 0.9 - 0.1 * each.seed) if each.arm == "good" else (0.3,)})
        if each.arm != "random"
        else each
        for each in half().runs
    ]
    found = half(runs=tuple(runs), own_weights={"good": "hypernet weights", "uniform": "hypernet weights"})
    good = found.results[0]
    assert (good.own_score, good.own_score_std) == pytest.approx((0.85, np.std([0.9, 0.8], ddof=1)))
    assert math.isnan(next(item.own_score for item in found.results if item.arm == "random"))
    assert found.verdicts()[1] == (
        "macs50, by the weights that each searched with: good 85.00 ± 7.07 %, uniform 30.00 ± 0.00 %."
    )


@pytest.mark.parametrize(("count", "quantile"), [(5, 2.776), (10, 2.262), (11, 2.228), (30, 2.045)])
def test_the_interval_is_students(count: int, quantile: float) -> None:
    values = np.arange(count, dtype=float)
    mean, low, high = interval(values)
    assert (high - low) / 2 == pytest.approx(quantile * values.std(ddof=1) / math.sqrt(count), rel=1e-3)
    assert mean == pytest.approx((low + high) / 2)


def test_files(tmp_path: Path) -> None:
    found = half()
    paths = write_report(found, tmp_path / "new")
    assert [path.name for path in paths] == [
        *("table.csv", "curves.csv", "table.md", "gains.png", "curves-macs50.png"),
    ]
    table = list(csv.DictReader(paths[0].read_text().splitlines()))
    assert tuple(table[0]) == COLUMNS
    assert [row["arm"] for row in table] == ["good", "random", "uniform"]
    assert table[2]["test_top1"] == table[2]["reached"] == ""
    curve = [row for row in csv.DictReader(paths[1].read_text().splitlines()) if row["arm"] == "good"]
    assert [(row["trials"], float(row["mean"])) for row in curve] == [("1", 0.3), ("2", 0.8)]
    text = paths[2].read_text()
    assert text.count("\n| ") == 1 + 1 + len(found.arms)
    assert "The unpruned model is in no curve" not in text  # there is no hypervolume to explain
    assert all(path.stat().st_size > 5000 for path in paths[3:])


def test_rows_have_no_numbers_that_are_none() -> None:
    assert all(value == value for row in rows(half()) for value in row.values())
    assert len(headings(half(), HALF)) == len(cells(half(), HALF, half().results[0]))
