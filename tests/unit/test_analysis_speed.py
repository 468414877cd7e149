"""Rows, targets and figures of ``autoprune bench``."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from autoprune.analysis.speed import SpeedReport, WidthCurve, format_amount, row
from autoprune.analysis.speed_plot import plot_speed, speed_figure
from autoprune.errors import ConfigError

CURVE = WidthCurve((4, 8, 12, 16), (0.001, 0.002, 0.004, 0.004), 8, "four layers", "doubled")
REPORT = SpeedReport(
    (
        row("queries", "front <b>", "ms", [100.0, 300.0, 200.0], target=300.0),
        row("evaluation", "share", "%", [30.0], target=60.0, at_least=True),
        row("search", "rate", "trials/min", [70.0]),
    ),
    {"processor": "AMD & Co", "cores": "2"},
    CURVE,
    ("a note",),
)


def test_a_time_stays_under_its_target_and_a_rate_reaches_it() -> None:
    front, share, rate = REPORT.rows
    assert (front.median, front.low, front.high, front.n, front.met) == (200.0, 100.0, 300.0, 3, True)
    assert (share.met, rate.met) == (False, None)
    assert (front.times_target, share.times_target) == (1.5, 0.5)
    assert math.isnan(rate.times_target)
    assert row("a", "b", "s", [0.0], target=1.0).times_target > 1e6


def test_a_spread_may_be_between_quartiles() -> None:
    values = [1.0, 2.0, 3.0, 4.0, 100.0]
    found = row("a", "b", "s", values, quartiles=True)
    assert (found.low, found.median, found.high) == (2.0, 3.0, 4.0)
    assert row("a", "b", "s", values[:1], quartiles=True).high == 1.0
    with pytest.raises(ValueError, match="nothing was measured"):
        row("a", "b", "s", [])


def test_negative_and_infinite_amounts_are_printed() -> None:
    assert [format_amount(value) for value in (-3.2, math.nan, 999_999.0)] == ["-3.20", "-", "999999"]


def test_the_figure_has_a_bar_for_each_target_and_the_curve() -> None:
    bars, curve = speed_figure(REPORT).axes
    assert [label.get_text() for label in bars.get_yticklabels()] == ["front <b>", "share"]
    left = [patch.get_x() + patch.get_width() for patch in bars.patches]
    assert left == [1.5, 0.5]
    assert [text.get_text() for text in bars.texts] == [" 200 ms (target ≤ 300)", " 30.0 % (target ≥ 60.0)"]
    assert [label.get_text() for label in curve.get_legend().get_texts()] == [
        "multiples of 8 (suggested)",
        "other widths",
    ]


@pytest.mark.parametrize("suffix", [".png", ".svg", ".html"])
@pytest.mark.parametrize("report", [REPORT, SpeedReport((), {})], ids=["full", "empty"])
def test_every_kind_of_file_is_drawn(tmp_path: Path, suffix: str, report: SpeedReport) -> None:
    path = plot_speed(report, tmp_path / "new" / f"speed{suffix}")
    assert path.stat().st_size > 1000
    if suffix == ".html" and report is REPORT:
        page = path.read_text()
        assert "AMD &amp; Co" in page
        assert "front &lt;b&gt;" in page
        assert "<script" not in page
        assert "a note" in page


def test_other_suffixes_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"\.png, \.svg or \.html"):
        plot_speed(REPORT, tmp_path / "speed.pdf")
