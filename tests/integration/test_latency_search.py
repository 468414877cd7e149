"""Latency from measurement to front: a table of a real network, searches under it, and the commands."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

import autoprune
from autoprune.api.latency import latency, latency_table
from autoprune.cli.main import main
from autoprune.config.latency import LatencyMeasure
from autoprune.errors import ConfigError, Conflict, NothingFeasible
from autoprune.latency.files import load_table, save_table

QUICK = {"levels": 3, "rounds": 1, "runs": 1, "fitted": 4, "held_out": 4}
OPTIONS = ["--levels", "2", "--rounds", "1", "--repeats", "1", "--candidates", "3", "--clock", "cpu"]


def with_latency(launch: dict[str, Any], latency: dict[str, Any], **changes: Any) -> dict[str, Any]:
    objectives = ["top1 max", "latency_ms min"]
    return {**launch, "objectives": objectives, "latency": latency, "limits": {"trials": 6}, **changes}


@pytest.fixture
def space_file(workplace: Path, launch: dict[str, Any]) -> Path:
    path = workplace / "space.yaml"
    path.write_text(yaml.safe_dump(launch["space"]))
    return path


def idealised(path: str) -> None:
    """What a quiet machine would have measured: timings must not decide a test."""
    table = load_table(path)
    times = np.stack([1e-2 + 1e-5 * table.sizes(segment).prod(axis=1) for segment in table.segments], axis=1)
    save_table(replace(table, times_ms=times, intercept=0.0, scale=1.0, _surfaces={}), path)


def test_search_under_a_table(workplace: Path, launch: dict[str, Any], space_file: Path) -> None:
    latency_table(str(space_file), "table.json", settings={"clock": "cpu"}, effort=QUICK)
    idealised("table.json")
    given = {"table": "table.json"}
    result = autoprune.search(with_latency(launch, given, constraints=["latency_ms <= 0.95 * baseline"]))
    baseline = result.record.baseline["latency_ms"]
    trials = autoprune.trials("small")
    assert len(trials) == 6
    assert all(0 < trial.metrics["latency_ms"] <= 0.95 * baseline for trial in trials)
    assert len({trial.metrics["latency_ms"] for trial in trials}) > 1
    front = autoprune.front("small", x="latency_ms", where=["latency_ms <= 0.95 * baseline"])
    assert front.trials
    assert "latency_ms" in (workplace / "results/small/front.csv").read_text().splitlines()[0]

    save_table(replace(load_table("table.json"), scale=2.0), "table.json")
    with pytest.raises(Conflict, match="another base model, latency table or other images"):
        autoprune.resume("small", trials=7)


def test_search_measures_once_and_keeps_the_table(
    workplace: Path, session_home: Path, launch: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("autoprune.driver.assemble_latency.cache_dir", lambda *parts: workplace)
    measure = {"measure": {"clock": "cpu", "levels": 2, "rounds": 1}}
    first = autoprune.search(with_latency(launch, measure, name="first"))
    kept = list(workplace.glob("*.json"))
    assert len(kept) == 1
    second = autoprune.search(with_latency(launch, measure, name="second"))
    assert list(workplace.glob("*.json")) == kept
    assert second.record.baseline["latency_ms"] == first.record.baseline["latency_ms"]


def test_what_cannot_work_is_said_before_any_work(workplace: Path, launch: dict[str, Any], space_file: Path) -> None:
    with pytest.raises(ConfigError, match="nothing provides it"):
        autoprune.search({**launch, "constraints": ["latency_ms <= 2"]})
    for wrong in ({}, {"table": "a.json", "measure": {}}):
        with pytest.raises(ConfigError, match="either 'table: FILE' or 'measure"):
            autoprune.search(with_latency(launch, wrong))
    latency_table("lenet5", "other.json", effort={**QUICK, "levels": 2})
    with pytest.raises(ConfigError, match=r"for another space \(lenet5\)"):
        autoprune.search(with_latency(launch, {"table": "other.json"}))
    latency_table(str(space_file), "own.json", settings={"clock": "cpu"}, effort=QUICK)
    with pytest.raises(NothingFeasible, match=r"latency_ms <= 0\.0001 cannot be met: the smallest reachable is"):
        autoprune.search(with_latency(launch, {"table": "own.json"}, constraints=["latency_ms <= 0.0001"]))


def test_commands(workplace: Path, space_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        main(["latency-table", str(space_file), "--out", "table.json", "--plot", "plot.png", *OPTIONS])
    assert left.value.code == 0
    shown = capsys.readouterr()
    assert "predicted against measured latency" in shown.out
    assert "processor time" in shown.out
    assert "all layers that were swept" in shown.out
    assert "latency: {table: table.json}" in shown.err
    assert (workplace / "plot.png").stat().st_size > 10_000
    assert len(load_table("table.json").held_out.widths) == 3

    with pytest.raises(SystemExit):
        main(["latency-table", str(space_file), "--out", "table.json", "--format", "json", "--quiet", *OPTIONS])
    told = json.loads(capsys.readouterr().out)
    table = load_table("table.json")
    assert told["median_error"] == pytest.approx(table.median_error)
    assert list(told["groups"]) == list(table.groups)
    assert told["advice"]["multiple"] in (1, 2, 4, 8, 16)

    with pytest.raises(SystemExit):
        main(["latency", "lenet5", "--repeats", "3", "--format", "json"])
    told = json.loads(capsys.readouterr().out)
    assert 0 < told["min_ms"] <= told["median_ms"]

    with pytest.raises(SystemExit) as left:
        main(["latency-table", "lenet5", "--out", "x.json", "--clock", "cpu", "--threads", "2"])
    assert left.value.code == 2
    assert "counts one thread" in capsys.readouterr().err


def test_an_exported_model_is_timed(workplace: Path, launch: dict[str, Any]) -> None:
    autoprune.search({**launch, "limits": {"trials": 2}})
    folder = autoprune.export("small", 1, "model")
    found = latency(str(folder), input_shape=(1, 8, 8), repeats=3, min_seconds=0.0)
    assert found.runs >= 1
    with pytest.raises(ConfigError, match="the image shape of an exported model is not known"):
        latency(str(folder))


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as left:
        main(arguments)
    shown = capsys.readouterr()
    return int(left.value.code or 0), shown.out, shown.err


def test_a_trial_is_timed_beside_the_dense_network(
    workplace: Path, launch: dict[str, Any], space_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = {"clock": "cpu", "channels_last": True}
    latency_table(str(space_file), "table.json", settings=settings, effort=QUICK)
    idealised("table.json")
    autoprune.search(with_latency(launch, {"table": "table.json"}))
    trial = autoprune.trials("small")[1]

    code, out, _ = run(capsys, "latency", "small", "1", "--repeats", "10", "--format", "json")
    told = json.loads(out)
    assert code == 0
    assert told["settings"] == vars(load_table("table.json").settings)  # those of the search's table
    assert told["pruned"]["predicted_ms"] == trial.metrics["latency_ms"]
    assert told["dense"]["predicted_ms"] == autoprune.searches()[0].baseline["latency_ms"]
    assert told["pruned"]["median_ms"] > 0
    assert told["speedup_quartiles"][0] <= told["speedup"] <= told["speedup_quartiles"][1]
    assert told["remark"] == ""

    code, out, _ = run(capsys, "latency", "small", "1", "--repeats", "10", "--batch", "2")
    assert code == 0
    assert "the search predicted for other settings" in out
    assert "Speed-up" in out
    code, _, err = run(capsys, "latency", "small", "99")
    assert code == 3
    code, _, err = run(capsys, "latency", "small", "1", "--input", "1x8x8")
    assert code == 2
    assert "a trial knows its images" in err
    Path("table.json").unlink()
    code, out, _ = run(capsys, "latency", "small", "1", "--repeats", "10")
    assert "the table table.json is not here" in out


def test_a_search_without_latency_has_no_prediction(
    workplace: Path, launch: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    autoprune.search({**launch, "limits": {"trials": 2}})
    code, out, _ = run(capsys, "latency", "small", "1", "--repeats", "10", "--format", "csv")
    assert code == 0
    assert out.startswith("network,median_ms")
    code, out, _ = run(capsys, "latency", "small", "1", "--repeats", "10")
    assert "Note: the search predicted no latency." in out


def test_searches_of_before_compiled_tables_keep_their_digest() -> None:
    assert "compiled" not in LatencyMeasure().model_dump()
    assert LatencyMeasure(compiled=True).model_dump(exclude={"levels"})["compiled"] is True
