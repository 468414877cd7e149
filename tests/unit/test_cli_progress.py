"""Progress on a terminal, in a log, and silenced."""

from __future__ import annotations

import io
import math

import pytest

from autoprune.cli.progress import LineProgress, LiveProgress, SilentProgress, Tally, make_progress
from autoprune.driver.training_shown import TrainingShown
from autoprune.training.loop import EpochReport
from autoprune.training.pace import Standing
from autoprune.types import Candidate, Trial, TrialState


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def trial(number: int, state: TrialState = TrialState.COMPLETE, **metrics: float) -> Trial:
    return Trial(number, Candidate({"a": 4}), state, metrics)


def test_tally_counts_speed_best_running_and_failed() -> None:
    clock = Clock()
    tally = Tally(clock)
    assert tally.text() == ""
    tally.on_baseline({"macs": 40e6})
    for number in range(3):
        tally.on_trial(trial(number, TrialState.RUNNING))
    tally.on_trial(trial(1, TrialState.RUNNING))  # a retry is not a second trial
    assert tally.text() == "3 running"
    clock.now += 2.0
    tally.on_trial(trial(0))
    tally.on_trial(trial(1, TrialState.FAILED))
    tally.on_front([trial(0, top1=0.934, macs=16.4e6), trial(5, top1=0.9, macs=1e6), trial(6, top1=math.nan)])
    assert tally.text() == ("60 trials/min, 1 running, best top1 93.40 % at 16.4M (41.0 %) MACs, front of 3, 1 failed")


def test_tally_counts_trials_that_racing_stopped_apart() -> None:
    tally = Tally(Clock())
    for number, state in enumerate([TrialState.COMPLETE, TrialState.STOPPED, TrialState.STOPPED, TrialState.FAILED]):
        tally.on_trial(trial(number, TrialState.RUNNING))
        tally.on_trial(trial(number, state))
    assert tally.finished == 4
    assert tally.text() == "2 stopped, 1 failed"


def test_tally_prefers_the_cheapest_trial_that_is_as_good_as_the_baseline() -> None:
    tally = Tally(Clock())
    tally.on_baseline({"macs": 40e6, "top1": 0.93})
    front = [trial(0, top1=0.90, macs=10e6), trial(1, top1=0.921, macs=20e6), trial(2, top1=0.93, macs=39e6)]
    tally.on_front(front)
    assert tally.text() == "best within a point of the baseline: top1 92.10 % at 20.0M (50.0 %) MACs, front of 3"
    tally.on_front(front[:1])
    assert tally.text() == "best top1 90.00 % at 10.0M (25.0 %) MACs, front of 1"


def test_lines_come_every_ten_seconds_and_at_the_end_of_a_phase() -> None:
    clock, stream = Clock(), io.StringIO()
    lines = LineProgress(stream, clock)
    lines.phase("training base", 30)
    for epoch in range(30):
        clock.now += 1.0
        lines.advance(f"loss 0.{epoch:02d}")
    lines.note("left out: layer2.shortcut")
    lines.phase("search", 2)
    clock.now += 4.0
    lines.on_trial(trial(0, TrialState.RUNNING))
    clock.now += 8.0
    lines.on_trial(trial(0))
    lines.close()
    assert stream.getvalue().splitlines() == [
        "training base (of 30)...",
        "training base 10 of 30: loss 0.09",
        "training base 20 of 30: loss 0.19",
        "training base 30 of 30: loss 0.29",
        "left out: layer2.shortcut",
        "training base 30 of 30: loss 0.29, took 30.0 s",
        "searching (of 2)...",
        "searching 1 of 2: 8 trials/min",
        "searching 1 of 2: 8 trials/min, took 12.0 s",
    ]


def test_the_stream_decides_what_is_shown() -> None:
    log, screen = io.StringIO(), Terminal()
    with make_progress(stream=log) as shown:
        assert isinstance(shown, LineProgress)
        shown.phase("data")
    assert log.getvalue() == "preparing data...\n"
    assert "\x1b" not in log.getvalue()
    with make_progress(stream=screen) as shown:
        assert isinstance(shown, LiveProgress)
    with make_progress(quiet=True, stream=screen) as shown:
        assert isinstance(shown, SilentProgress)


def test_live_bar_shows_phase_count_and_best(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLUMNS", "120")
    screen = Terminal()
    with LiveProgress(screen) as live:
        live.phase("search", 2)
        live.on_trial(trial(0, TrialState.RUNNING))
        live.on_front([trial(0, top1=0.934, macs=16.4e6)])
        live.on_trial(trial(0))
        live.note("a note with [brackets]")
        live._bar.refresh()
    shown = screen.getvalue()
    assert "searching" in shown
    assert "1/2" in shown
    assert "best top1 93.40 % at 16.4M MACs" in shown
    assert "a note with [brackets]" in shown


def test_time_left_is_said_once() -> None:
    for text, column in (("812 images/s, 13 min left", ""), ("loss 1.250", "-:--:--")):
        with LiveProgress(Terminal()) as live:
            live.phase("base", 10)
            live.advance(text, 0)
            (task,) = live._bar.tasks
            assert str(live._bar.columns[-1].render(task)) == column


def test_a_training_says_where_it_is_between_and_after_epochs() -> None:
    clock, stream = Clock(), io.StringIO()
    lines = LineProgress(stream, clock)
    lines.phase("base", 10)
    shown = TrainingShown(lines)
    clock.now += 11
    shown.on_step(Standing(4, 10, 0.456, 1.25, 812.3, 754.0))
    clock.now += 11
    shown.on_epoch(EpochReport(4, 10, 1.2, 0.5, 0.561, 22.0, 812.3, 700.0))
    clock.now += 11
    shown.on_step(Standing(5, 10, 0.5, 1.1, 812.3, 654.0))
    for epoch in range(5, 11):
        shown.on_epoch(EpochReport(epoch, 10, 0.9, 0.7, 0.8, 22.0, 1812.3, 100.0 * (10 - epoch)))
    lines.close()
    assert stream.getvalue().splitlines() == [
        "base model (of 10)...",
        "base model: epoch 4 46 %, loss 1.250, 812 images/s, 13 min left",
        "base model 4 of 10: loss 1.200, search-val top1 56.10 %, 812 images/s, 12 min left",
        "base model 4 of 10: epoch 5 50 %, loss 1.100, 812 images/s, 11 min left",
        "base model 10 of 10: loss 0.900, search-val top1 80.00 %, 1,812 images/s, took 33.0 s",
    ]


def test_live_bar_survives_an_advance_before_any_phase() -> None:
    with LiveProgress(Terminal()) as live:
        live.advance("reading")
        live.on_trial(trial(0))


def test_an_error_inside_leaves_the_terminal_in_order() -> None:
    screen = Terminal()

    def interrupted() -> None:
        with make_progress(stream=screen) as live:
            live.phase("searching", 2)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert screen.getvalue().rfind("\x1b[?25h") > screen.getvalue().rfind("\x1b[?25l")  # the cursor is back
