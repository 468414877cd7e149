"""Where people meet trials that racing stopped: their estimates are marked as such."""

from __future__ import annotations

from pathlib import Path

import pytest

from autoprune.analysis.front import build_front
from autoprune.analysis.report import write_report
from autoprune.cli.options import Format
from autoprune.cli.tables import print_trials
from autoprune.types import Candidate, SearchRecord, SearchState, Trial, TrialState

BASELINE = {"top1": 0.92, "macs": 40e6}


def trial(number: int, state: TrialState, **metrics: float) -> Trial:
    return Trial(number, Candidate({"a": 4 + number}), state, {"macs": 20e6, **metrics}, finished_at=float(number))


COMPLETE = trial(0, TrialState.COMPLETE, top1=0.9, loss=0.3)
STOPPED = [
    trial(1, TrialState.STOPPED, top1=0.61, loss=1.5, images=250.0),
    trial(2, TrialState.STOPPED, top1=0.99, loss=1.5, images=500.0),
]


def test_the_table_of_trials_marks_estimates_and_says_what_the_mark_means(capsys: pytest.CaptureFixture[str]) -> None:
    print_trials([COMPLETE, *STOPPED], Format.table)
    out = capsys.readouterr().out
    assert "~61.00 %" in out
    assert "~1.5" in out
    assert "~90.00 %" not in out
    assert "~20.0M" not in out, "costs are exact"
    assert "~ estimate of a trial that racing stopped" in out


def test_a_table_without_stopped_trials_has_no_mark(capsys: pytest.CaptureFixture[str]) -> None:
    print_trials([COMPLETE], Format.table)
    assert "~" not in capsys.readouterr().out


def test_the_report_counts_stopped_trials_and_keeps_them_off_the_front(tmp_path: Path) -> None:
    def page(trials: list[Trial]) -> str:
        record = SearchRecord("demo", "d" * 16, "e" * 16, {}, BASELINE, SearchState.COMPLETE, 0.0, 0.0)
        front = build_front("demo", [COMPLETE], baseline=BASELINE)
        path = write_report(tmp_path / "report.html", record=record, trials=trials, front=front)
        return " ".join(path.read_text().split())

    raced = page([COMPLETE, *STOPPED])
    assert "Racing stopped 2 of them, after 375 validation images on average" in raced
    assert "1 complete, 2 stopped" in raced
    assert "99.00 %" not in raced
    assert "Racing stopped" not in page([COMPLETE])
