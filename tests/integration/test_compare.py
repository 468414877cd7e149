"""``autoprune compare`` on the digits, with trainings of an epoch."""

from __future__ import annotations

import json
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from autoprune import api
from autoprune.api.comparing_compute import hypernet_training_macs
from autoprune.cli.main import main
from autoprune.config.loading import load_search
from autoprune.driver.assemble import prepare
from autoprune.driver.observers import Silent
from autoprune.hypernet.training import HypernetTrainer
from autoprune.retraining.runs import RUN, Retrainer
from autoprune.types import Candidate, Measurement

ARMS = ("finetune:share=1", "scratch_e", "rewind")
QUICK: dict[str, Any] = {"arms": ARMS, "seeds": 2, "overrides": ["epochs=1"]}
RUNS = 10
"""Two seeds of three arms, and of scratch_e for the dense model and for uniform widths; these share none."""


@pytest.fixture
def searched(workplace: Path, launch: dict[str, Any]) -> Path:
    """A finished search of ten trials."""
    api.search(launch)
    return workplace


def stored() -> int:
    """Trainings in the store, by a query of its own."""
    try:
        with sqlite3.connect("file:results/autoprune.db?mode=ro", uri=True) as connection:
            return int(connection.execute("select count(*) from retrainings").fetchone()[0])
    except sqlite3.OperationalError:  # no such table yet
        return 0


def test_a_comparison_is_run_once(searched: Path) -> None:
    first = api.compare("small", trials=[5], **QUICK)
    assert (first.ran, first.missing, stored()) == (RUNS, 0, RUNS)
    arms = {(item.subject, item.arm): item for item in first.comparison.results}
    assert list(arms) == [
        ("dense", "scratch_e"),
        *(("trial 5", arm) for arm in ARMS),
        ("uniform for trial 5", "scratch_e"),
    ]
    assert all(item.seeds == (0, 1) and np.isfinite(item.test_top1).all() for item in arms.values())
    assert arms["trial 5", "finetune:share=1"].mean() > arms["trial 5", "scratch_e"].mean(), "after one epoch"
    _, trial, uniform = first.comparison.subjects
    assert 0.95 <= uniform.macs / trial.macs <= 1
    assert any("--with-random" in note for note in first.comparison.notes)
    assert any("another recipe (different here: epochs)" in note for note in first.comparison.notes)

    again = api.compare("small", trials=[5], **QUICK)
    assert again.ran == 0
    for before, after in zip(first.comparison.results, again.comparison.results, strict=True):
        assert np.array_equal(before.test_top1, after.test_top1)

    more = api.compare("small", trials=[5], **{**QUICK, "seeds": 3})
    assert more.ran == RUNS // 2, "only the third seed"
    files = {"table.csv", "runs.csv", "differences.csv", "comparison.json", "arms.png", "report.html"}
    assert {path.name for path in more.output.iterdir()} == files


def test_random_references(searched: Path, launch: dict[str, Any]) -> None:
    """Drawn once and kept; or the best trial of a stored random search at these MACs."""
    quick = {**QUICK, "arms": ["scratch_e"]}
    drawn = api.compare("small", trials=[5], with_random=4, **quick)
    found = next(item for item in drawn.comparison.subjects if item.role == "random")
    assert 0.9 <= found.macs / drawn.comparison.candidates[0].macs <= 1
    again = api.compare("small", trials=[5], with_random=4, **quick)
    assert again.ran == 0
    assert next(item for item in again.comparison.subjects if item.role == "random") == found

    api.search({**launch, "name": "chance", "controller": {"kind": "random"}})
    trials = api.trials("chance")
    chosen = trials[3].metrics["macs"]
    best = max(
        (trial for trial in trials if 0.95 <= trial.metrics["macs"] / chosen <= 1.02),
        key=lambda trial: trial.metrics["top1"],
    )
    kept = api.compare("chance", trials=[3], **quick).comparison
    assert next(item for item in kept.subjects if item.role == "random").widths == best.candidate.widths


def test_a_killed_comparison_loses_only_what_was_running(searched: Path) -> None:
    command = [sys.executable, "-m", "autoprune", "compare", "small", "--trial", "5", "--seeds", "2", "--quiet"]
    options = ["--arms", ",".join(ARMS), "--epochs", "1", "--executor", "serial"]
    process = subprocess.Popen([*command, *options], stdout=subprocess.DEVNULL)
    try:
        while process.poll() is None and stored() < 2:
            time.sleep(0.02)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    kept = stored()
    assert kept >= 2
    result = api.compare("small", trials=[5], **QUICK)
    assert (result.ran, result.missing) == (RUNS - kept, 0)


def test_accidents_are_repeated_and_then_left_out(searched: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    evaluate, attempts = Retrainer.evaluate, []

    def failing(self: Retrainer, candidate: Candidate) -> Iterator[Measurement]:
        if candidate.widths[RUN] == 0:
            attempts.append(0)
            raise OSError("the machine went away")
        yield from evaluate(self, candidate)

    monkeypatch.setattr(Retrainer, "evaluate", failing)
    quick = {**QUICK, "arms": ["scratch_e"]}
    result = api.compare("small", trials=[5], **quick)
    assert (len(attempts), result.ran, result.missing) == (3, 5, 1)
    assert any("the machine went away" in note for note in result.comparison.notes)
    monkeypatch.setattr(Retrainer, "evaluate", evaluate)
    assert api.compare("small", trials=[5], **quick).missing == 0


def test_the_hypernetworks_own_training_is_counted(
    workplace: Path, launch: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Against the widths that its steps had: their MACs, and its generators' products once a step."""
    before, seen = HypernetTrainer._before, []

    def watched(self: HypernetTrainer, step: int) -> None:
        before(self, step)
        seen.append(self.model.widths)

    monkeypatch.setattr(HypernetTrainer, "_before", watched)
    weights = {"kind": "hypernet", "hidden": 5, "rank": 2, "recipe": {"epochs": 2, "seed": 11}}
    config = load_search({**launch, "evaluator": {**launch["evaluator"], "weights": weights}})
    prepared = prepare(config, Silent())
    images = len(prepared.dataset.train) // 64 * 64
    assert len(seen) == 2 * images // 64
    costs = [prepared.space.cost.measure(widths) for widths in seen]
    products = sum(64 * cost["macs"] + 5 * 2 * cost["params"] for cost in costs)
    base = 3 * prepared.space.cost.baseline["macs"] * images * 6
    assert hypernet_training_macs(prepared) == pytest.approx(3 * products + base)
    random = {**weights, "init": "random"}
    prepared = prepare(load_search({**launch, "evaluator": {**launch["evaluator"], "weights": random}}), Silent())
    assert hypernet_training_macs(prepared) == pytest.approx(3 * products)


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as leaving:
        main(["compare", *arguments, "--quiet"])
    out, err = capsys.readouterr()
    return int(leaving.value.code or 0), out, err


def test_the_command_prints_and_explains(searched: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = ("--arms", ",".join(ARMS), "--seeds", "2", "--epochs", "1")
    code, out, _ = run(capsys, "small", "--trial", "5", *options)
    assert code == 0
    assert "trial 5 (" in out
    assert "Training MACs are 3 x" in out
    code, out, _ = run(capsys, "small", "--trial", "5", *options, "--format", "json")
    assert json.loads(out)["seeds"] == [0, 1]
    code, out, _ = run(capsys, "small", "--trial", "5", *options, "--format", "csv")
    assert out.count("\n") == 1 + 5
    assert stored() == RUNS

    for arguments, expected, words in [
        (("smal",), 3, "Did you mean 'small'"),
        (("small", "--trial", "99"), 3, "no trial 99"),
        (("small", "--arms", "finetune,scratch"), 2, "Did you mean 'scratch_e' or 'scratch_b'"),
        (("small", "--seeds", "1"), 2, "at least two"),
        (("small", "--epochs", "0"), 2, "epochs"),
        (("small", "--set", "learning_rate=1"), 2, "unknown key"),
        (("small", "--set", "seed=1"), 2, "--seeds"),
        (("small", "--trial", "5", "--top", "2"), 2, "--trial together with"),
        (("small", "--where", "macs <= 1"), 5, "macs"),
        (("small", "--where", "mac <= 1k"), 2, "macs"),
        (("small", "--arms", "hypernet"), 2, "needs a hypernetwork"),
        (("small", "--executor", "slurm"), 2, "no executor 'slurm'"),
        (("small", "--with-random", "-1"), 2, "with_random"),
        (("small", "--out", "results/autoprune.db/inside"), 2, "cannot be made"),
    ]:
        code, out, err = run(capsys, *arguments)
        assert (code, out) == (expected, ""), (arguments, err)
        assert words in err, (arguments, err)
    assert stored() == RUNS, "nothing is lost and nothing is added"


def test_what_cannot_be_compared(searched: Path, launch: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
    with sqlite3.connect("results/autoprune.db") as connection:
        connection.execute("update trials set widths = replace(widths, 'layer1', 'stage1') where number = 5")
        connection.execute("update trials set state = 'failed' where number = 6")
    code, _, err = run(capsys, "small", "--trial", "5")
    assert code == 2
    assert "no group 'stage1.0.conv1'" in err
    code, _, err = run(capsys, "small", "--trial", "6")
    assert code == 3
    assert "only complete trials" in err
    with sqlite3.connect("results/autoprune.db") as connection:
        connection.execute("update trials set state = 'failed'")
    code, _, err = run(capsys, "small")
    assert code == 3
    assert "no finished trials" in err
    with sqlite3.connect("results/autoprune.db") as connection:
        connection.execute("update trials set state = 'complete'")
        connection.execute("update searches set evaluation_digest = 'another'")
    code, _, err = run(capsys, "small", "--trial", "4")
    assert code == 3
    assert "base model or the data" in err
