"""Plots: files of the right kind, what they show, and no global state."""

from __future__ import annotations

import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from autoprune.analysis.front import Front, build_front
from autoprune.analysis.plots import front_figure, plot_front, visible_range
from autoprune.errors import ConfigError
from autoprune.types import Candidate, Constraint, Objective, Trial, TrialState

BASELINE = {"top1": 0.92, "macs": 40e6, "params": 2.7e5}
TRIALS = [
    Trial(
        number,
        Candidate({"<layer>": number + 4}),
        TrialState.COMPLETE,
        {"top1": top1, "macs": macs, "params": macs / 100},
        note={"origin": "uniform"} if number in (1, 3) else {},
    )
    for number, (top1, macs) in enumerate([(0.9, 30e6), (0.85, 20e6), (0.8, 10e6), (0.7, 25e6), (0.1, 26e6)])
]


@pytest.fixture
def front() -> Front:
    return build_front("demo", TRIALS, baseline=BASELINE, constraints=[Constraint("macs", "<=", 0.9, relative=True)])


def labels(front: Front, trials: list[Trial]) -> dict[str, int]:
    """What the legend names, with the number of points of each scatter."""
    axes = front_figure(front, trials).axes[0]
    points = {each.get_label(): len(each.get_offsets()) for each in axes.collections}
    return {name: points.get(name, -1) for name in axes.get_legend_handles_labels()[1]}


def test_png_is_large_enough_to_read(front: Front, tmp_path: Path) -> None:
    path = plot_front(front, tmp_path / "deep" / "front.png", trials=TRIALS)
    content = path.read_bytes()
    assert content.startswith(b"\x89PNG")
    assert int.from_bytes(content[16:20], "big") >= 1200  # pixels across


def test_svg_is_xml_with_text_and_reproducible(front: Front, tmp_path: Path) -> None:
    first = plot_front(front, tmp_path / "a.svg", trials=TRIALS).read_text(encoding="utf-8")
    second = plot_front(front, tmp_path / "b.SVG", trials=TRIALS).read_text(encoding="utf-8")
    assert first == second
    text = " ".join("".join(each.itertext()) for each in ET.fromstring(first).iter("{http://www.w3.org/2000/svg}text"))
    for expected in ("MACs", "search-val top-1 accuracy", "90 %", "20M", "of the baseline's MACs", "50 %", "demo"):
        assert expected in text
    assert "macs <= 0.9 * baseline" in text


def test_html_is_whole_and_offline(front: Front, tmp_path: Path) -> None:
    page = plot_front(front, tmp_path / "front.html", trials=TRIALS).read_text(encoding="utf-8")
    assert "Plotly.newPlot" in page
    assert len(page) > 1_000_000  # the script is inside
    assert "<script src=" not in page
    assert "&lt;layer&gt;" in page or "\\u0026lt;layer" in page
    assert "trial 0" in page


def test_other_suffixes_are_refused(front: Front, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"front\.jpeg.*\.png, \.svg or \.html"):
        plot_front(front, tmp_path / "front.jpeg")
    assert not list(tmp_path.iterdir())


def test_figure_shows_front_uniform_others_and_baseline(front: Front) -> None:
    shown = labels(front, TRIALS)
    assert [each.number for each in front.trials] == [2, 1, 0]
    assert shown["other trials"] == 2
    assert shown["uniform widths"] == 2  # one of them is on the front
    assert shown["baseline (unpruned)"] == 1
    assert "Pareto front (3 trials)" in shown


def test_line_is_a_step_at_the_attained_accuracy(front: Front) -> None:
    line = front_figure(front).axes[0].lines[0]
    assert line.get_drawstyle() == "steps-post"
    assert list(line.get_xdata()) == [10e6, 20e6, 30e6]
    assert list(line.get_ydata()) == [0.8, 0.85, 0.9]


def test_far_outliers_are_left_out_and_counted(front: Front) -> None:
    axes = front_figure(front, TRIALS).axes[0]
    assert axes.get_ylim()[0] > 0.7  # the front and the baseline span 0.8 to 0.92
    assert "2 trials below this range" in [text.get_text() for text in axes.texts]


def test_visible_range_keeps_what_matters() -> None:
    low, high = visible_range([0.1, 0.88], [0.85, 0.95], Objective("top1", "max"))
    assert 0.75 < low < 0.85
    assert 0.95 < high < 1.0
    low, high = visible_range([9.0], [1.0, 2.0], Objective("loss", "min"))
    assert low < 1.0
    assert 2.0 < high < 3.0


def test_an_empty_front_and_an_unknown_baseline_can_be_drawn(tmp_path: Path) -> None:
    plot_front(build_front("none", [], baseline={}), tmp_path / "none.png")
    plot_front(build_front("bare", TRIALS, baseline={}, y="params", x="top1 min"), tmp_path / "bare.svg", trials=TRIALS)


def test_pyplot_is_never_loaded(tmp_path: Path) -> None:
    code = (
        "import sys; from autoprune.analysis.front import build_front; from autoprune.analysis.plots import plot_front;"
        "plot_front(build_front('x', [], baseline={'top1': 0.9, 'macs': 1e6}), sys.argv[1]);"
        "print([name for name in ('matplotlib.pyplot', 'torch', 'ray', 'sqlalchemy') if name in sys.modules])"
    )
    run = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "x.png")], capture_output=True, text=True, check=True
    )
    assert run.stdout.strip() == "[]"
