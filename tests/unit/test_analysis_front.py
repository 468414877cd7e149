"""The front as JSON, CSV and rows."""

from __future__ import annotations

import csv
import io
import json
import math
from pathlib import Path

import pytest

from autoprune.analysis.front import build_front, write_csv
from autoprune.errors import ConfigError
from autoprune.types import Candidate, Constraint, Trial, TrialState

BASELINE = {"macs": 40e6, "top1": 0.92, "loss": math.nan}


def trial(number: int, top1: float, macs: float, **extra: float) -> Trial:
    widths = {"b": 8 + number, "a": 4}
    return Trial(number, Candidate(widths), TrialState.COMPLETE, {"macs": macs, "top1": top1, **extra})


TRIALS = [
    trial(0, 0.91, 30e6, energy=1.5),
    trial(1, 0.90, 20e6, energy=math.nan),
    trial(2, 0.80, 25e6),
    trial(3, 0.7, 10e6),
]


def test_json_has_exactly_the_documented_keys() -> None:
    front = build_front("s", TRIALS, baseline=BASELINE)
    content = json.loads(front.to_json(), parse_constant=lambda text: pytest.fail(f"{text} is not JSON"))
    assert list(content) == ["search", "baseline", "front"]
    assert content["search"] == "s"
    assert content["baseline"] == {"top1": 0.92, "loss": None, "macs": 40e6}
    assert [each["trial"] for each in content["front"]] == [3, 1, 0]
    assert content["front"][1] == {
        "trial": 1,
        "digest": TRIALS[1].candidate.digest,
        "widths": {"b": 9, "a": 4},
        "metrics": {"top1": 0.9, "macs": 20e6, "energy": None},
    }


def test_csv_has_trial_metrics_and_widths(tmp_path: Path) -> None:
    front = build_front("s", TRIALS, baseline=BASELINE)
    path = write_csv(front, tmp_path / "new" / "front.csv")
    lines = list(csv.reader(io.StringIO(path.read_text(encoding="utf-8"))))
    assert lines[0] == ["trial", "top1", "loss", "macs", "energy", "b", "a"]
    assert lines[1] == ["3", "0.7", "", "10000000", "", "11", "4"]
    assert lines[2] == ["1", "0.9", "", "20000000", "", "9", "4"]
    assert len(lines) == 4


def test_rows_follow_the_front() -> None:
    rows = build_front("s", TRIALS, baseline=BASELINE).rows()
    assert [row["trial"] for row in rows] == [3, 1, 0]
    assert list(rows[0]) == ["trial", "top1", "loss", "macs", "energy"]
    assert rows[2]["energy"] == 1.5
    assert math.isnan(rows[0]["energy"])


def test_constraints_filter_before_the_front() -> None:
    half = Constraint("macs", "<=", 0.5, relative=True)
    front = build_front("s", TRIALS, baseline=BASELINE, constraints=[half])
    assert [each.number for each in front.trials] == [3, 1]
    assert front.considered == 2
    assert build_front("s", TRIALS, baseline=BASELINE).considered == 4


def test_directions_are_the_usual_ones_unless_said() -> None:
    front = build_front("s", TRIALS, baseline=BASELINE, x="energy", y="top1")
    assert (str(front.x), str(front.y)) == ("energy min", "top1 max")
    assert [each.number for each in front.trials] == [0]
    reversed_axes = build_front("s", TRIALS, baseline=BASELINE, x="macs max", y="top1 min")
    assert [each.number for each in reversed_axes.trials] == [3, 2, 0]


def test_bad_axes_are_refused() -> None:
    with pytest.raises(ConfigError, match="'latency' is not measured"):
        build_front("s", TRIALS, baseline=BASELINE, x="latency")
    with pytest.raises(ConfigError, match="both axes are 'macs'"):
        build_front("s", TRIALS, baseline=BASELINE, x="macs", y="macs max")
    with pytest.raises(ConfigError, match="not understood"):
        build_front("s", TRIALS, baseline=BASELINE, x="macs upwards")


def test_a_search_without_complete_trials_has_an_empty_front() -> None:
    front = build_front("s", [], baseline=BASELINE)
    assert front.trials == ()
    assert json.loads(front.to_json())["front"] == []
    assert front.to_csv().splitlines() == ["trial,top1,loss,macs"]
