"""Criteria against the oracle as a figure: one row a criterion, one panel a way to compare."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from autoprune.analysis.criteria_published import SOURCE, published_range
from autoprune.analysis.criteria_report import MEASURES, CriteriaReport, Row
from autoprune.analysis.plots import PAPER, Colours

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["correlations_figure"]

_PUBLISHED_AS = {
    "l2": "weight",
    "activation_mean": "activation mean",
    "activation_std": "activation s.d.",
    "apoz": "APoZ",
    "fisher": "OBD",
    "gauss_newton": "OBD",
    "hutchinson": "OBD",
    "taylor": "Taylor",
    "mutual_information": "mutual information",
}
"""Our criteria that the paper has too. Its weight criterion is the mean square of a kernel, the order of ``l2``; three
of ours estimate the second derivatives of OBD."""


def correlations_figure(report: CriteriaReport, colours: Colours = PAPER) -> Figure:
    """Spearman's correlation with its 95 % interval, the best per layer on top."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    shown = [*report.controls[1:], *reversed(report.rows)]
    figure = Figure(figsize=(10.5, 0.3 * len(shown) + 1.6), layout="constrained")
    FigureCanvasAgg(figure)
    first: Any = None
    for place, measure in enumerate(MEASURES):
        axes: Any = figure.add_subplot(1, len(MEASURES), place + 1, sharey=first)
        first = first or axes
        for height, row in enumerate(shown):
            _draw(axes, height, row, place, colours)
        _furnish(axes, [row.criterion for row in shown], measure, colours, named=place == 0)
    title = f"{report.name}: rank correlation with the oracle; bars: 95 %; grey: range of {SOURCE}"
    figure.suptitle(title, x=0.01, ha="left", fontsize=11, color=colours.ink)
    return figure


def _draw(axes: Axes, height: int, row: Row, place: int, colours: Colours) -> None:
    found = row.figures[place]
    published = published_range(_PUBLISHED_AS[row.criterion]) if row.criterion in _PUBLISHED_AS else {}
    if MEASURES[place] in published:
        axes.plot(published[MEASURES[place]], [height, height], color=colours.grid, lw=9, solid_capstyle="butt")
    if math.isnan(found.value):
        return
    control = row.criterion in ("random",) or row.criterion.startswith("oracle")
    colour = colours.uniform if control else colours.accent
    if not math.isnan(found.error):
        axes.plot([found.low, found.high], [height, height], color=colour, lw=2, alpha=0.55)
    axes.plot([found.value], [height], "o", color=colour, ms=6)


def _furnish(axes: Axes, names: list[str], measure: str, colours: Colours, *, named: bool) -> None:
    axes.axvline(0, color=colours.ink, lw=1)
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(-0.7, len(names) - 0.3)
    axes.set_axisbelow(True)
    axes.grid(True, axis="x", color=colours.grid, lw=0.8)
    axes.set_xlabel("Spearman's rho", color=colours.ink, fontsize=10)
    axes.set_title(measure, loc="left", fontsize=11, color=colours.ink)
    axes.tick_params(colors=colours.muted, labelsize=9, length=0)
    axes.tick_params(axis="y", labelleft=named, colors=colours.ink)
    for side, spine in axes.spines.items():
        spine.set_visible(side in ("bottom", "left"))
        spine.set_color(colours.faint)
