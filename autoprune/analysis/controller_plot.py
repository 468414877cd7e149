"""Figures of a comparison of controllers: gains over random search, and a curve for each arm."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from autoprune.analysis.controller_benchmark import ControllerBenchmark, Setting
from autoprune.analysis.plots import PAPER, Colours

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["curves_figure", "gains_figure"]

_COLUMNS = 5


def gains_figure(benchmark: ControllerBenchmark, colours: Colours = PAPER) -> Figure:
    """For each setting the gain of each arm over random search, with its 95 % interval; the best overall on top."""
    arms = sorted((arm for arm in benchmark.arms if arm != "random"), key=benchmark.overall_rank, reverse=True)
    count = len(benchmark.settings)
    figure = _figure((3.6 * count + 1.4, 0.32 * len(arms) + 1.5))
    for place, setting in enumerate(benchmark.settings):
        axes = _axes(figure, 1, count, place, colours)
        scale = 1.0 if setting.is_front else 100.0
        found = {item.arm: item for item in benchmark.results if item.setting == setting.name}
        for row, arm in enumerate(arms):
            if arm not in found:
                continue
            item = found[arm]
            surely = item.gain_low > 0 or item.gain_high < 0
            colour = colours.accent if surely and item.gain > 0 else colours.uniform if surely else colours.muted
            axes.plot([scale * item.gain_low, scale * item.gain_high], [row, row], color=colour, lw=2, alpha=0.55)
            axes.plot([scale * item.gain], [row], "o", color=colour, ms=6.5)
        axes.axvline(0, color=colours.ink, lw=1)
        axes.set_yticks(range(len(arms)), arms if place == 0 else [""] * len(arms))
        axes.set_ylim(-0.6, len(arms) - 0.4)
        axes.tick_params(axis="y", colors=colours.ink)
        unit = "hypervolume" if setting.is_front else "points of top1"
        axes.set_xlabel(f"gain over random ({unit})", color=colours.ink, fontsize=10)
        axes.set_title(setting.name, loc="left", fontsize=12, fontweight="bold", color=colours.ink)
    return figure


def curves_figure(benchmark: ControllerBenchmark, setting: Setting, colours: Colours = PAPER) -> Figure:
    """One small plot an arm, the best first: mean and range over the seeds by trial; random search's mean dashed."""
    order = [item for item in benchmark.results if item.setting == setting.name]
    columns = min(_COLUMNS, len(order))
    lines = -(-len(order) // columns)
    figure = _figure((2.5 * columns + 0.6, 2.0 * lines + 0.9))
    scale = 1.0 if setting.is_front else 100.0
    trials = np.arange(1, benchmark.trials + 1)
    usual = scale * benchmark.curves(setting, "random").mean(axis=0)
    low, high = _limits(benchmark, setting, scale)
    for place, item in enumerate(order):
        axes = _axes(figure, lines, columns, place, colours)
        curves = scale * benchmark.curves(setting, item.arm)
        colour = colours.muted if item.arm == "random" else colours.accent
        axes.fill_between(trials, curves.min(axis=0), curves.max(axis=0), color=colour, alpha=0.18, lw=0, step="post")
        axes.step(trials, curves.mean(axis=0), where="post", color=colour, lw=1.8)
        if item.arm != "random":
            axes.step(trials, usual, where="post", color=colours.ink, lw=1.1, ls=(0, (3, 2)))
        text = f"{scale * item.score:.3f}" if setting.is_front else f"{scale * item.score:.2f} %"
        axes.set_title(item.arm, loc="left", fontsize=10, fontweight="bold", color=colours.ink)
        axes.set_title(text, loc="right", fontsize=9, color=colours.muted)
        axes.set_ylim(low, high)
        axes.set_xlim(0, benchmark.trials)
        if place % columns:
            axes.set_yticklabels([])
        if place + columns < len(order):
            axes.set_xticklabels([])
    what = "share of the hypervolume" if setting.is_front else "best top1 (search-val), %"
    title = f"{setting.name}: {what} by trial; mean and range of {benchmark.seeds} seeds; dashed: random search"
    figure.suptitle(title, x=0.01, ha="left", fontsize=11, color=colours.ink)
    return figure


def _limits(benchmark: ControllerBenchmark, setting: Setting, scale: float) -> tuple[float, float]:
    """From what random search has after a tenth of the trials to the best of all."""
    early = benchmark.curves(setting, "random").mean(axis=0)[max(benchmark.trials // 10 - 1, 0)]
    finals = [benchmark.curves(setting, arm)[:, -1] for arm in benchmark.arms_in(setting)]
    low, high = min(early, *(final.min() for final in finals)), max(final.max() for final in finals)
    low = max(low, early - (high - early))
    margin = 0.06 * (high - low) or 0.01
    if not math.isfinite(margin):
        return 0.0, scale
    return float(scale * (low - margin)), float(scale * (high + margin))


def _figure(size: tuple[float, float]) -> Figure:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=size, layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def _axes(figure: Figure, lines: int, columns: int, place: int, colours: Colours) -> Axes:
    axes: Any = figure.add_subplot(lines, columns, place + 1)
    axes.set_axisbelow(True)
    axes.grid(True, color=colours.grid, lw=0.8)
    axes.tick_params(colors=colours.muted, labelsize=9, length=0)
    for side, spine in axes.spines.items():
        spine.set_visible(side in ("bottom", "left"))
        spine.set_color(colours.faint)
    found: Axes = axes
    return found
