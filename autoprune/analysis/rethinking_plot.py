"""A comparison of ways to train as a figure: one panel a candidate, one row an arm, one dot a seed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from autoprune.analysis.plots import PAPER, Colours
from autoprune.analysis.rethinking import ArmRuns, Comparison, Subject

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["arms_figure"]

_LEGEND = (
    "blue: weights of the base model, orange: new ones; small dots: seeds, bars: mean +- standard deviation; "
    "dashed: the dense model, trained alike"
)


def arms_figure(comparison: Comparison, colours: Colours = PAPER) -> Figure:
    """Test accuracy after the last epoch."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    candidates = comparison.candidates
    rows = [_rows(comparison, item) for item in candidates]
    most = max(len(found) for found in rows)
    figure = Figure(figsize=(max(3.7 * len(candidates) + 1.9, 7.0), 0.36 * most + 1.6), layout="constrained")
    FigureCanvasAgg(figure)
    labels = [label for label, _ in max(rows, key=len)]
    first: Any = None
    for place, (subject, found) in enumerate(zip(candidates, rows, strict=True)):
        axes: Any = figure.add_subplot(1, len(candidates), place + 1, sharey=first)
        first = first or axes
        _panel(axes, found, labels, comparison, colours)
        share = 100 * subject.macs / comparison.dense_macs
        axes.set_title(f"{subject.name}, {share:.0f} % of the MACs", loc="left", fontsize=11, color=colours.ink)
        axes.tick_params(axis="y", labelleft=place == 0, colors=colours.ink)
    figure.suptitle(f"{comparison.search}; {_LEGEND}", x=0.01, ha="left", fontsize=10, color=colours.muted)
    return figure


def _rows(comparison: Comparison, subject: Subject) -> list[tuple[str, ArmRuns]]:
    """The candidate's arms, then those of its references."""
    found = [(item.arm, item) for item in comparison.of(subject.name)]
    for other in (item for item in comparison.subjects if item.of == subject.name):
        found += [(f"{other.role} widths: {item.arm}", item) for item in comparison.of(other.name)]
    return found


def _panel(
    axes: Axes,
    found: Sequence[tuple[str, ArmRuns]],
    labels: Sequence[str],
    comparison: Comparison,
    colours: Colours,
) -> None:
    for label, item in found:
        if label not in labels:
            continue
        row = len(labels) - 1 - labels.index(label)
        colour = colours.uniform if item.start == "scratch" else colours.accent
        values = 100 * item.test_top1[np.isfinite(item.test_top1)]
        axes.plot(values, [row - 0.2] * len(values), "o", color=colour, ms=3.5, alpha=0.45, mew=0)
        mean, std = 100 * item.mean(), 100 * np.nan_to_num(item.std())
        axes.plot([mean - std, mean + std], [row + 0.12] * 2, color=colour, lw=2, alpha=0.6)
        axes.plot([mean], [row + 0.12], "o", color=colour, ms=6.5)
    for item in comparison.of("dense"):
        axes.axvline(100 * item.mean(), color=colours.baseline, lw=1.2, ls=(0, (4, 3)))
    axes.set_yticks(range(len(labels)), list(reversed(labels)))
    axes.set_ylim(-0.7, len(labels) - 0.3)
    axes.set_axisbelow(True)
    axes.grid(True, axis="x", color=colours.grid, lw=0.8)
    axes.set_xlabel("test top1, %", color=colours.ink, fontsize=10)
    axes.tick_params(colors=colours.muted, labelsize=9, length=0)
    for side, spine in axes.spines.items():
        spine.set_visible(side in ("bottom", "left"))
        spine.set_color(colours.faint)
