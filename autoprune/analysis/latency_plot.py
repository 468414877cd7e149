"""Predicted against measured latency."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from autoprune.analysis.plots import PAPER
from autoprune.errors import ConfigError
from autoprune.files import replacing

__all__ = ["plot_latency"]


def plot_latency(measured_ms: Sequence[float], predicted_ms: Sequence[float], path: str | Path, *, title: str) -> Path:
    """Draw the two against each other, with the line on which they agree, to a ``.png`` or ``.svg``; makes the folder.

    Raises ConfigError for another suffix.
    """
    from matplotlib.figure import Figure

    target = Path(path)
    if target.suffix.lower() not in (".png", ".svg"):
        raise ConfigError(f"cannot plot to {str(path)!r}: expected a file name that ends in .png or .svg.")
    target.parent.mkdir(parents=True, exist_ok=True)
    figure = Figure(figsize=(5.2, 5.0), layout="constrained")
    axes = figure.add_subplot()
    low, high = 0.9 * min(*measured_ms, *predicted_ms), 1.1 * max(*measured_ms, *predicted_ms)
    axes.plot([low, high], [low, high], color=PAPER.faint, linewidth=1)
    axes.plot([low, high], [1.1 * low, 1.1 * high], color=PAPER.faint, linewidth=0.8, linestyle=":")
    axes.plot([low, high], [0.9 * low, 0.9 * high], color=PAPER.faint, linewidth=0.8, linestyle=":", label="10 % off")
    axes.scatter(measured_ms, predicted_ms, s=26, color=PAPER.accent, zorder=3, label="networks held out")
    axes.set(xlabel="measured (ms)", ylabel="predicted (ms)", xlim=(low, high), ylim=(low, high))
    axes.set_title(title, loc="left", fontsize=9, color=PAPER.ink, wrap=True)
    axes.grid(color=PAPER.grid)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, loc="upper left")
    with replacing(target, durable=False) as temporary:
        figure.savefig(temporary, dpi=150)
    return target
