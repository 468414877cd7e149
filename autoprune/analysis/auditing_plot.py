"""An audit as a figure: what the search measured against final accuracy, over all sizes and at equal size."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from autoprune.analysis.auditing import Audit
from autoprune.analysis.auditing_words import in_brackets, measure_label
from autoprune.analysis.metrics import describe
from autoprune.analysis.plots import PAPER, Colours

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["audit_figure"]

_MAP = "viridis"
_RANGE = (0.12, 0.88)
"""Of the colour map: its ends would vanish on dark or on light pages."""


def audit_figure(audit: Audit, colours: Colours = PAPER) -> Figure:
    """Left: every candidate. Right: the same less the mean of its stratum, so that size is (nearly) out of it."""
    from matplotlib import colormaps
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import ListedColormap, Normalize
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10.4, 4.6), layout="constrained")
    FigureCanvasAgg(figure)
    share = 100 * np.array([item.macs for item in audit.usable]) / audit.dense_macs
    shown = ListedColormap(colormaps[_MAP](np.linspace(*_RANGE, 256)))
    mapped = ScalarMappable(Normalize(float(share.min()), float(max(share.max(), share.min() + 1e-6))), shown)
    kind = describe(audit.measure).kind if audit.measure != "macs" else "plain"
    scale = 100 if kind == "fraction" or audit.measure.startswith("top1") else 1
    proxy = scale * np.array([item.proxies[audit.measure] for item in audit.usable])
    final = 100 * audit.finals
    std = 100 * np.nan_to_num([item.std for item in audit.usable])
    label = describe(audit.measure).label if audit.measure != "top1" else "search-val top-1 accuracy of the trial"
    unit = ", %" if scale == 100 else ""
    main = audit.main
    left = _panel(figure, 1, proxy, final, std, mapped.to_rgba(share), colours)
    left.set_title(f"all sizes: tau {in_brackets(main.overall)}", loc="left", fontsize=11, color=colours.ink)
    left.set_xlabel(f"{label}{unit}", color=colours.ink, fontsize=10)
    left.set_ylabel(f"final test top1 ({audit.arm}), %", color=colours.ink, fontsize=10)
    right = _panel(figure, 2, _centred(audit, proxy), _centred(audit, final), std, mapped.to_rgba(share), colours)
    right.axhline(0, color=colours.faint, lw=0.8)
    right.axvline(0, color=colours.faint, lw=0.8)
    right.set_title(f"within strata: tau {in_brackets(main.within)}", loc="left", fontsize=11, color=colours.ink)
    right.set_xlabel("less the mean of its stratum", color=colours.ink, fontsize=10)
    right.set_ylabel("final test top1 less the same, points", color=colours.ink, fontsize=10)
    bar = figure.colorbar(mapped, ax=[left, right], pad=0.015, aspect=32)
    bar.set_label("MACs, % of the dense model's", color=colours.ink, fontsize=10)
    bar.ax.tick_params(colors=colours.muted, labelsize=9, length=0)
    bar.outline.set_visible(False)
    title = f"{audit.search}: {measure_label(audit, audit.measure)} against final accuracy"
    title += "; bars: +- one std over seeds" if std.any() else ""
    figure.suptitle(title, x=0.01, ha="left", fontsize=10, color=colours.muted)
    return figure


def _centred(audit: Audit, values: np.ndarray) -> np.ndarray:
    means = {stratum: values[audit.strata == stratum].mean() for stratum in np.unique(audit.strata)}
    return values - np.array([means[stratum] for stratum in audit.strata])


def _panel(
    figure: Figure, place: int, x: np.ndarray, y: np.ndarray, std: np.ndarray, inks: Any, colours: Colours
) -> Any:
    axes = figure.add_subplot(1, 2, place)
    axes.set_axisbelow(True)
    axes.grid(True, color=colours.grid, lw=0.8)
    if std.any():
        axes.errorbar(x, y, yerr=std, fmt="none", ecolor=colours.faint, elinewidth=1.0, zorder=2)
    axes.scatter(x, y, s=44, c=inks, lw=0, zorder=3)
    axes.tick_params(colors=colours.muted, labelsize=9, length=0)
    for side, spine in axes.spines.items():
        spine.set_visible(side in ("bottom", "left"))
        spine.set_color(colours.faint)
    return axes
