"""``autoprune bench --only search``: real searches through Ray beside bare loops, in temporary folders."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from autoprune.bench import search_rate
from autoprune.types import Candidate, TrialState

ROOT = Path(__file__).resolve().parents[2]
SMALL = """
import json
from autoprune.bench import suite
from autoprune.driver.observers import Silent

if __name__ == "__main__":
    report = suite.run(Silent(), only=["search"], effort=suite.Effort(20, 4, 2, 1, 50, 1000, 1, 2))
    print(json.dumps(report.content()))
"""


@pytest.mark.slow
def test_the_search_section_measures_rates_and_overhead(tmp_path: Path) -> None:
    script = tmp_path / "small.py"
    script.write_text(SMALL)
    paths = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    environment = {**os.environ, "PYTHONPATH": paths, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, str(script)]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr
    rows = {row["name"]: row for row in json.loads(done.stdout)["rows"]}
    assert len(rows) == 7
    assert all(row["median"] > 0 for row in rows.values())
    loop = rows["the same in a bare loop, one trial"]
    ratio = rows["one trial of a search, bare loop = 1"]
    assert loop["n"] == ratio["n"] >= 2
    assert 0.2 < ratio["median"] < 5
    assert [path.name for path in tmp_path.iterdir()] == ["small.py"]


def test_a_serial_search_runs_every_trial_and_says_where_time_went() -> None:
    prepared = search_rate.digits_search("serial", 3)
    trials = search_rate.run_search(prepared)
    assert [trial.state for trial in trials] == [TrialState.COMPLETE] * 3
    assert all(set(trial.timings) == {"slice", "calibrate", "evaluate", "report", "wait"} for trial in trials)
    assert search_rate.per_minute(trials) > 0


def test_bare_loops_give_the_seconds_of_every_candidate() -> None:
    prepared = search_rate.digits_search("serial", 1)
    candidates: list[Candidate] = [prepared.space.uniform(0.3 + 0.1 * i) for i in range(5)]
    with search_rate.bare_loops(prepared.assets, 2) as loops:
        for count in (5, 1):
            taken = loops.seconds(candidates[:count])
            assert len(taken) == count
            assert all(value > 0 for value in taken)
