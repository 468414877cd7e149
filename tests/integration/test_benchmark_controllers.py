"""``autoprune benchmark-controllers`` on the digits, from recording to replay, and what it refuses."""

from __future__ import annotations

import csv
import gzip
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import yaml

from autoprune import api
from autoprune.cli.main import main
from autoprune.errors import AutopruneError, ConfigError, Conflict, NotFound, NothingFeasible


@pytest.fixture
def benchmark(launch: dict[str, Any]) -> dict[str, Any]:
    return {
        "name": "compared",
        "space": launch["space"],
        "evaluator": {"calibration_images": 50, "validation_images": 100},
        "arms": {"evolution": {"controller": {"kind": "evolution", "population": 4, "parents": 2}}},
        "settings": [
            {"name": "front", "objectives": ["top1 max", "macs min"]},
            {"name": "macs50", "constraints": ["macs <= 0.5 * baseline"]},
        ],
        "trials": 5,
        "seeds": 2,
        "parallel": 2,
        "test_images": 60,
    }


def curves(result: api.ControllerBenchmarkResult) -> str:
    return (result.output / "curves.csv").read_text()


def repeatable(result: api.ControllerBenchmarkResult) -> list[dict[str, str]]:
    """The table without the controllers' own time."""
    rows = list(csv.DictReader((result.output / "table.csv").read_text().splitlines()))
    return [{key: value for key, value in row.items() if key != "proposal_ms"} for row in rows]


def test_a_second_run_measures_nothing_and_repeats_everything(workplace: Path, benchmark: dict[str, Any]) -> None:
    first = api.benchmark_controllers(benchmark, workers=1)
    assert set(first.benchmark.arms) == {"random", "uniform", "evolution"}
    assert first.benchmark.measured > 20
    table = (first.output / "candidates.jsonl.gz").read_bytes()
    before = curves(first), repeatable(first)
    for path in first.files:
        path.unlink()
    again = api.benchmark_controllers(benchmark, workers=1)
    assert again.benchmark.measured == 0
    assert (curves(again), repeatable(again)) == before
    assert (again.output / "candidates.jsonl.gz").read_bytes() == table
    scored = {(row["setting"], bool(row["test_top1"])) for row in before[1]}
    assert scored == {("front", False), ("macs50", True)}


def test_the_recorded_numbers_need_neither_data_nor_weights(
    workplace: Path, benchmark: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    first = api.benchmark_controllers(benchmark, workers=1)
    before = curves(first)
    monkeypatch.setenv("AUTOPRUNE_HOME", str(workplace / "empty"))
    again = api.benchmark_controllers(benchmark, workers=1, recorded_only=True)
    assert curves(again) == before
    assert not (workplace / "empty" / "base").exists()
    with pytest.raises(NotFound, match=r"front, .*, seed \d: candidate .* is not in") as caught:
        api.benchmark_controllers(benchmark, overrides=["trials=7"], workers=1, recorded_only=True)
    assert "--recorded-only" in caught.value.hint
    with pytest.raises(NotFound, match="no candidates measured by these evaluator settings"):
        api.benchmark_controllers(
            benchmark, overrides=["evaluator.validation_images=99"], workers=1, recorded_only=True
        )


def test_processes_give_what_one_process_gives(workplace: Path, benchmark: dict[str, Any]) -> None:
    """Killed in the middle, with its workers, then finished: the same numbers as replayed in this process."""
    (workplace / "b.yaml").write_text(yaml.safe_dump(benchmark))
    command = [sys.executable, "-m", "autoprune", "benchmark-controllers", "b.yaml", "--workers", "2", "--quiet"]
    journal = workplace / "results" / "compared" / "candidates.jsonl.gz.journal"
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, start_new_session=True)
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and not (journal.exists() and journal.read_text().count("\n") > 8):
        time.sleep(0.05)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    kept = journal.read_text().count("\n")
    assert kept > 8
    done = subprocess.run([*command, "--format", "json"], capture_output=True, text=True, timeout=200, check=True)
    assert not journal.exists()
    found = json.loads(done.stdout)
    assert found["verdicts"][-1].startswith("Choose ")
    before = (workplace / "results" / "compared" / "curves.csv").read_text()
    again = api.benchmark_controllers(benchmark, workers=1)
    assert again.benchmark.measured == 0
    assert curves(again) == before
    no_group = subprocess.run(["ps", "-o", "pid=", "-g", str(process.pid)], capture_output=True, text=True, timeout=20)
    assert not no_group.stdout.split(), "workers outlive the command"


def test_a_table_of_another_base_model_is_refused(workplace: Path, benchmark: dict[str, Any]) -> None:
    first = api.benchmark_controllers(benchmark, overrides=["trials=1"], workers=1)
    path = first.output / "candidates.jsonl.gz"
    lines = gzip.decompress(path.read_bytes()).decode().splitlines()
    evaluation = next(json.loads(line)["evaluation"] for line in lines if '"inherit weights"' in line)
    told = "\n".join(lines[:-1]).replace(evaluation["digest"], "0" * 16)  # the last line is the digest of those before
    path.write_bytes(gzip.compress(told.encode()))
    with pytest.raises(Conflict, match="another base model or other images"):
        api.benchmark_controllers(benchmark, overrides=["trials=1"], workers=1)


def test_a_search_has_recorded_candidates_already(
    workplace: Path, benchmark: dict[str, Any], launch: dict[str, Any]
) -> None:
    search = {**launch, "evaluator": benchmark["evaluator"], "seed": 0, "controller": {"kind": "uniform"}}
    search |= {"objectives": ["top1 max", "macs min"], "limits": {"trials": 5}, "store": "sqlite:///s.db"}
    api.search({**search, "constraints": []})
    result = api.benchmark_controllers(
        {**benchmark, "settings": benchmark["settings"][:1], "arms": {}, "test_images": 0},
        workers=1,
        from_store="sqlite:///s.db",
    )
    assert result.benchmark.measured <= 10  # the two runs of random search: the uniform ones were in the store


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("seeds=1", "seeds: Input should be greater than or equal to 2"),
        ("trials=0", "trials: Input should be greater than or equal to 1"),
        ("arms.evolution.controler=1", "unknown key 'arms.evolution.controler'. Did you mean 'controller'?"),
        ("arms.evolution.controller.populaton=3", "Did you mean 'population'?"),
        ("arms.x.controller={kind: amcc}", "Did you mean 'amc'?"),
        ("arms.random={controller: {kind: amc}}", "the arm 'random' is what others are compared with"),
        ("arms={'a/b': {controller: {kind: amc}}}", "an arm's name is made of letters"),
        ("settings=[]", "settings"),
        ("settings.0.objectives=[loss min]", "objectives are 'top1 max' and macs, flops, params or keep_ratio min"),
        ("settings.0.objectives=[macs min]", "'top1 max' must be among the objectives"),
        ("settings.0.objectives=[top1 max, top1 max]", "each metric may be an objective once"),
        ("settings.0.constraints=[top1 >= 0.5]", "a budget bounds macs, flops, params or keep_ratio, got 'top1'"),
        ("settings.0.constraints=[macs 5]", "is not understood"),
        ("settings.0.name=macs50", "two settings are named 'macs50'"),
        ("arms.evolution.settings=[macs5]", "there is no setting 'macs5'. Did you mean 'macs50'?"),
        ("arms.random={controller: {kind: random}, settings: [front]}", "in all settings and by everybody's weights"),
        ("arms.x={controller: {kind: optuna, sampler: cmaes}}", "arm 'x' on setting 'front':"),
    ],
)
def test_mistakes_in_the_file(workplace: Path, benchmark: dict[str, Any], override: str, said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        api.benchmark_controllers(benchmark, overrides=[override], workers=1)
    assert said in str(caught.value)


def test_a_budget_out_of_reach_is_said_before_any_work(workplace: Path, benchmark: dict[str, Any]) -> None:
    with pytest.raises(NothingFeasible, match="macs"):
        api.benchmark_controllers(benchmark, overrides=["settings.1.constraints=[macs <= 0.001 * baseline]"], workers=1)
    assert not (workplace / "results").exists()


def test_the_command_prints_a_table_or_csv(
    workplace: Path, benchmark: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    (workplace / "b.yaml").write_text(yaml.safe_dump({**benchmark, "trials": 2, "test_images": 0}))
    for extra in ([], ["--recorded-only", "--format", "csv"]):
        with pytest.raises(SystemExit) as left:
            main(["benchmark-controllers", "b.yaml", "--workers", "1", *extra])
        assert not left.value.code
        out, err = capsys.readouterr()
        if extra:
            assert len(list(csv.DictReader(out.splitlines()))) == 6
            assert "0 candidates were measured" in err
        else:
            assert "macs50: top1 max, macs <= 0.5 * baseline" in out
            assert "Choose " in out


def test_a_missing_file_is_an_error_without_traceback(workplace: Path) -> None:
    with pytest.raises(AutopruneError, match="there is no file"):
        api.benchmark_controllers("none.yaml")
