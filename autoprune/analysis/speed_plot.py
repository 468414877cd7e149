"""One figure of what ``autoprune bench`` measured: how far each target is met, and time by channel count."""

from __future__ import annotations

import html
import io
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

from autoprune.analysis.plots import PAPER
from autoprune.analysis.speed import SpeedReport, SpeedRow, WidthCurve, format_amount
from autoprune.errors import ConfigError
from autoprune.files import replacing, write_text

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["check_plot_path", "plot_speed", "speed_figure"]

_SUFFIXES = (".png", ".svg", ".html")
_MOST = 100.0
"""Bars end here: how many hundred times a target is met matters to nobody."""


def check_plot_path(path: str | Path) -> Path:
    """The path, if its suffix is one that can be drawn; known before two minutes of measuring. Raises ConfigError."""
    target = Path(path)
    if target.suffix.lower() not in _SUFFIXES:
        raise ConfigError(
            f"cannot plot to {str(path)!r}: expected a file name that ends in .png, .svg or .html.",
            "Write for example --plot speed.png.",
        )
    return target


def plot_speed(report: SpeedReport, path: str | Path) -> Path:
    """Draw the report to ``path``: ``.png``, ``.svg``, or ``.html`` (figure and table). Makes the folder.

    Raises ConfigError for another suffix.
    """
    target = check_plot_path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    if target.suffix.lower() == ".html":
        write_text(target, _page(report))
        return target
    with replacing(target, durable=False) as temporary:
        speed_figure(report).savefig(temporary, dpi=160)
    return target


def speed_figure(report: SpeedReport) -> Figure:
    """Bars of all rows with a target, as multiples of it; beside them the curve, if it was measured."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    aimed = [row for row in report.rows if row.target is not None]
    parts = [name for name, there in (("bars", aimed), ("curve", report.curve)) if there]
    height = max(4.2, 1.9 + 0.36 * len(aimed))
    figure = Figure(figsize=(7.2 * max(len(parts), 1), height), layout="constrained")
    FigureCanvasAgg(figure)
    columns = figure.subplots(1, max(len(parts), 1), squeeze=False)[0]
    for axes, part in zip(columns, parts or ["nothing"], strict=True):
        _frame(axes)
        if part == "bars":
            _bars(axes, aimed)
        elif part == "curve" and report.curve is not None:
            _curve(axes, report.curve)
        else:
            axes.set_title("nothing to draw: no row has a target", loc="left", color=PAPER.ink)
    facts = report.facts
    where = ", ".join(facts[key] for key in ("processor", "system") if key in facts)
    cores = f", {facts['cores']} cores" if "cores" in facts else ""
    load = f", load average {facts['load average']}" if "load average" in facts else ""
    figure.suptitle(f"autoprune bench: {where}{cores}{load}", x=0.01, ha="left", fontsize=11, color=PAPER.ink)
    return figure


def _frame(axes: Axes) -> None:
    axes.set_axisbelow(True)
    axes.grid(True, axis="x", color=PAPER.grid, lw=0.8)
    axes.tick_params(colors=PAPER.muted, labelsize=9, length=0)
    for side, spine in axes.spines.items():
        spine.set_visible(side in ("bottom", "left"))
        spine.set_color(PAPER.faint)


def _bars(axes: Axes, rows: list[SpeedRow]) -> None:
    places = range(len(rows))
    shares = [min(max(_share(row), 1 / _MOST), _MOST) for row in rows]
    colours = [PAPER.accent if row.met else PAPER.uniform for row in rows]
    axes.barh(places, [share - 1 for share in shares], left=1, height=0.62, color=colours, lw=0)
    axes.axvline(1, color=PAPER.ink, lw=1.2)
    axes.set_xscale("log")
    axes.set_xlim(min(0.5, *shares) / 1.15, max(2.0, *shares) * 4)
    axes.set_yticks(places, [row.name for row in rows])
    axes.invert_yaxis()
    for place, row, share in zip(places, rows, shares, strict=True):
        sign = "≥" if row.target_is_least else "≤"
        text = f" {format_amount(row.median)} {row.unit} (target {sign} {format_amount(row.target or 0.0)})"
        axes.text(max(share, 1.0), place, text, va="center", fontsize=8.5, color=PAPER.ink)
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}x")
    axes.set_xlabel("times as good as the target (1x: just met)", color=PAPER.ink, fontsize=10)
    axes.set_title("Targets", loc="left", fontsize=12, fontweight="bold", color=PAPER.ink)


def _share(row: SpeedRow) -> float:
    return row.times_target if math.isfinite(row.times_target) else 1.0


def _curve(axes: Axes, curve: WidthCurve) -> None:
    milliseconds = [1e3 * each for each in curve.seconds]
    axes.grid(True, axis="y", color=PAPER.grid, lw=0.8)
    axes.plot(curve.channels, milliseconds, color=PAPER.accent, lw=1.6, alpha=0.6, zorder=2)
    for chosen, fill, label in (
        (True, PAPER.accent, f"multiples of {curve.multiple} (suggested)"),
        (False, "white", "other widths"),
    ):
        points = [
            (width, each)
            for width, each in zip(curve.channels, milliseconds, strict=True)
            if (width % curve.multiple == 0) is chosen
        ]
        style: dict[str, Any] = {"s": 42, "zorder": 3, "edgecolors": PAPER.accent, "linewidths": 1.4}
        if points:
            axes.scatter(*zip(*points, strict=True), facecolors=fill, label=label, **style)
    axes.set_ylim(bottom=0)
    axes.set_xticks(curve.channels[1::2])
    axes.set_xlabel("channels in and out of each layer", color=PAPER.ink, fontsize=10)
    axes.set_ylabel("milliseconds, one thread", color=PAPER.ink, fontsize=10)
    axes.legend(loc="upper left", fontsize=9, frameon=False, labelcolor=PAPER.ink)
    axes.set_title("Time by channels", loc="left", fontsize=12, fontweight="bold", color=PAPER.ink)
    axes.annotate(
        curve.layers, (1, 0), (-4, 6), "axes fraction", "offset points", ha="right", fontsize=8.5, color=PAPER.muted
    )


def _page(report: SpeedReport) -> str:
    """One file without script or links: the figure, the table, and the machine."""
    import matplotlib

    target = io.StringIO()
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": "autoprune"}):
        speed_figure(report).savefig(target, format="svg", metadata={"Date": None})
    figure = target.getvalue()
    cells = [
        [row.section, row.name, format_amount(row.median), _spread(row), row.unit, _target(row), row.note]
        for row in report.rows
    ]
    head = "".join(f"<th>{name}</th>" for name in ("", "", "median", "spread", "unit", "target", ""))
    body = "".join(f"<tr>{''.join(f'<td>{html.escape(cell)}</td>' for cell in line)}</tr>" for line in cells)
    facts = "<br>".join(html.escape(f"{name}: {value}") for name, value in report.facts.items())
    notes = "".join(f"<p>{html.escape(note)}</p>" for note in report.notes)
    style = (
        "body{font:15px/1.5 system-ui,sans-serif;max-width:1100px;margin:24px auto;padding:0 16px;color:#1f2328}"
        "svg{width:100%;height:auto}table{border-collapse:collapse}td,th{padding:3px 12px 3px 0;text-align:left}"
    )
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>autoprune bench</title>'
        f"<style>{style}</style></head><body>{figure[figure.index('<svg') :]}"
        f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>{notes}<p>{facts}</p></body></html>\n"
    )


def _spread(row: SpeedRow) -> str:
    return "" if row.n == 1 else f"{format_amount(row.low)} to {format_amount(row.high)}, n = {row.n}"


def _target(row: SpeedRow) -> str:
    if row.target is None:
        return ""
    return f"{'at least' if row.target_is_least else 'at most'} {format_amount(row.target)}"
