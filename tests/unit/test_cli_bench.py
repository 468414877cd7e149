"""``autoprune bench`` with a measurement that takes no time."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

import pytest

from autoprune.analysis.speed import SpeedReport, row
from autoprune.bench import suite
from autoprune.cli.main import main

REPORT = SpeedReport(
    (
        row("queries", "front", "ms", [100.0, 300.0, 200.0], target=300.0),
        row("evaluation", "share", "%", [30.0], target=60.0, at_least=True),
    ),
    {"processor": "AMD"},
    notes=("a note",),
)


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    seen: list[dict[str, Any]] = []

    def run(progress: object, **settings: Any) -> SpeedReport:
        seen.append(settings)
        return REPORT

    monkeypatch.setattr(suite, "run", run)
    return seen


def bench(*arguments: str) -> int:
    with pytest.raises(SystemExit) as leaving:
        main(["bench", *arguments])
    return int(leaving.value.code or 0)


def test_the_table_shows_median_spread_and_target(
    calls: list[dict[str, Any]], capsys: pytest.CaptureFixture[str]
) -> None:
    assert bench() == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[2].split() == ["queries", "front", "200", "100-300", "(n=3)", "ms", "≤", "300", "yes"]
    assert lines[3].split() == ["evaluation", "share", "30.0", "-", "%", "≥", "60.0", "no"]
    assert lines[4:] == ["a note", "processor AMD"]
    assert calls == [{"only": (), "effort": suite.Effort()}]


def test_options_reach_the_measurement(calls: list[dict[str, Any]]) -> None:
    assert bench("--quick", "--trials", "5000", "--only", "queries", "--only", "search") == 0
    effort = calls[0]["effort"]
    assert calls[0]["only"] == ["queries", "search"]
    assert (effort.stored_trials, effort.rounds) == (5000, suite.Effort.quick().rounds)


def test_json_and_csv(calls: list[dict[str, Any]], capsys: pytest.CaptureFixture[str]) -> None:
    bench("--format", "json")
    content = json.loads(capsys.readouterr().out)
    assert content["rows"][0]["median"] == 200.0
    assert content["rows"][1]["met"] is False
    bench("--format", "csv")
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert [each["n"] for each in rows] == ["3", "1"]


def test_a_plot_is_drawn_and_a_wrong_name_refused_before_measuring(
    calls: list[dict[str, Any]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert bench("--plot", str(tmp_path / "speed.pdf")) == 2
    assert not calls
    assert bench("--plot", str(tmp_path / "speed.png")) == 0
    assert (tmp_path / "speed.png").stat().st_size > 1000
    assert "speed.png" in capsys.readouterr().err
