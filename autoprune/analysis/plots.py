"""Pictures of a front: .png and .svg by matplotlib, .html by plotly. No global plotting state is touched."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from autoprune.analysis.front import Front
from autoprune.analysis.history import History
from autoprune.analysis.metrics import describe, finite, format_value
from autoprune.analysis.pareto import comparable
from autoprune.errors import ConfigError
from autoprune.files import replacing, write_text
from autoprune.types import Constraint, Objective, Trial

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = [
    "MOST_OTHERS",
    "PAPER",
    "Colours",
    "front_figure",
    "history_figure",
    "is_uniform",
    "other_trials",
    "plot_front",
    "plot_history",
    "thinned",
    "visible_range",
]

MOST_OTHERS = 10_000
"""Trials off the front that are drawn; more of them make a figure slow and show nothing new."""


@dataclass(frozen=True)
class Colours:
    """The inks of a figure."""

    ink: str = "#1f2328"
    muted: str = "#656d76"
    grid: str = "#e4e7eb"
    faint: str = "#9aa4b0"
    accent: str = "#0b62d6"
    uniform: str = "#d9730d"
    baseline: str = "#c2255c"


PAPER = Colours()


def plot_front(front: Front, path: str | Path, *, trials: Sequence[Trial] = (), others: int | None = None) -> Path:
    """Draw the front to ``path``: ``.png``, ``.svg``, or ``.html`` (interactive, works offline). Makes the folder.

    ``trials``: where trials off the front and those of uniform width (``note["origin"] == "uniform"``) come from; of
    many off the front, some are drawn, and the legend says so. ``others``: how many comparable ones there are off the
    front, when ``trials`` has not all of them.

    Raises ConfigError for another suffix.
    """
    target = _target(path, ".png", ".svg", ".html")
    if target.suffix.lower() == ".html":
        from autoprune.analysis.interactive import front_page

        write_text(target, front_page(front, trials, others=others))
        return target
    return _save(lambda: front_figure(front, trials, others=others), target)


def plot_history(history: History, path: str | Path) -> Path:
    """Draw the hypervolume by trial to ``path``: ``.png`` or ``.svg``. Makes the folder; ConfigError as above."""
    target = _target(path, ".png", ".svg")
    return _save(lambda: history_figure(history), target)


def _target(path: str | Path, *suffixes: str) -> Path:
    target = Path(path)
    if target.suffix.lower() not in suffixes:
        raise ConfigError(
            f"cannot plot to {str(path)!r}: expected a file name that ends in {', '.join(suffixes[:-1])} or "
            f"{suffixes[-1]}.",
            "Write for example --plot front.png.",
        )
    target.parent.mkdir(parents=True, exist_ok=True)
    return target


def _save(draw: Callable[[], Figure], target: Path) -> Path:
    import matplotlib

    # reproducible files: no date, ids that depend on the content only
    with matplotlib.rc_context({"svg.hashsalt": "autoprune", "svg.fonttype": "none"}):
        metadata: dict[str, Any] = {"Date": None} if target.suffix.lower() == ".svg" else {}
        with replacing(target, durable=False) as temporary:
            draw().savefig(temporary, dpi=160, metadata=metadata)
    return target


def thinned(numbers: Any, most: int = MOST_OTHERS) -> Any:
    """At most ``most`` of a sequence or array, evenly spread.

    >>> thinned(range(10), 4)
    range(0, 10, 3)
    """
    return numbers[:: -(-len(numbers) // most) or 1]


def other_trials(front: Front, trials: Sequence[Trial], others: int | None) -> tuple[list[Trial], Sequence[Trial], str]:
    """Comparable trials off the front, those of them to draw, and what to call these in a legend."""
    on_front = {trial.number for trial in front.trials}
    off = [trial for trial in comparable(trials, (front.x, front.y)) if trial.number not in on_front]
    shown = thinned(off) if others is None else off
    total = len(off) if others is None else others
    return off, shown, "other trials" if len(shown) == total else f"{len(shown):,} of {total:,} other trials"


def front_figure(
    front: Front, trials: Sequence[Trial] = (), colours: Colours = PAPER, *, others: int | None = None
) -> Figure:
    """The front as a step line over its trials, other trials faint, the baseline as a star; see ``plot_front``."""
    figure, axes = _canvas((8.0, 5.0), colours)
    x, y = front.x.metric, front.y.metric
    off, shown, label = other_trials(front, trials, others)
    _steps(axes, front, colours)
    uniform = [trial for trial in (*off, *front.trials) if is_uniform(trial)]
    marks = {"marker": "s", "s": 62, "facecolors": "none", "edgecolors": colours.uniform, "linewidths": 1.5}
    _scatter(axes, front, uniform, label="uniform widths", zorder=4, **marks)
    _scatter(axes, front, shown, marker="o", s=16, color=colours.faint, alpha=0.5, lw=0, label=label)
    if finite(front.baseline, x) and finite(front.baseline, y):
        point = [front.baseline[x]], [front.baseline[y]]
        axes.scatter(*point, marker="*", s=240, color=colours.baseline, lw=0, zorder=5, label="baseline (unpruned)")
    _points(axes, front, colours)
    for constraint in front.constraints:
        _budget(axes, front, constraint, colours)
    _limit(axes, front, off, colours, "trial" if others in (None, len(off)) else "drawn trial")
    _name_axes(axes, front, colours)
    axes.set_title(front.search, loc="left", fontsize=13, fontweight="bold", color=colours.ink, y=1.075)
    _legend(axes, front, colours)
    return figure


def history_figure(history: History, colours: Colours = PAPER) -> Figure:
    """Hypervolume, as a share of the box, by trial as a step line."""
    figure, axes = _canvas((8.0, 2.8), colours)
    at = history.moves
    axes.step(history.numbers[at], history.shares[at], where="post", color=colours.accent, lw=2)
    axes.set_xlim(0, max(int(history.numbers[-1]) if len(history.numbers) else 0, 1) * 1.01)
    axes.margins(y=0.12)
    axes.set_xlabel("trial", color=colours.ink, fontsize=11)
    axes.set_ylabel("hypervolume (share)", color=colours.ink, fontsize=11)
    return figure


def is_uniform(trial: Trial) -> bool:
    """The controller says that the trial has one keep ratio everywhere."""
    return trial.note.get("origin") == "uniform"


def visible_range(values: Sequence[float], important: Sequence[float], better: Objective) -> tuple[float, float]:
    """Limits that show everything important and as much of the rest as does not squeeze it.

    The rest may take as much as two thirds of the important span on the worse side.
    """
    low, high = min(important), max(important)
    span = max(high - low, 0.03 * max(abs(low), abs(high)), 1e-12)
    if better.direction == "max":
        low = max(min((low, *values)), low - span / 1.5)
    else:
        high = min(max((high, *values)), high + span / 1.5)
    margin = 0.06 * max(high - low, span)
    return low - margin, high + margin


def _canvas(size: tuple[float, float], colours: Colours) -> tuple[Figure, Axes]:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=size, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    axes.set_axisbelow(True)
    axes.grid(True, color=colours.grid, lw=0.8)
    axes.tick_params(colors=colours.muted, labelsize=10, length=0)
    for side, spine in axes.spines.items():
        spine.set_visible(side in ("bottom", "left"))
        spine.set_color(colours.faint)
    return figure, axes


def _scatter(axes: Axes, front: Front, trials: Sequence[Trial], **style: Any) -> None:
    if trials:
        xs = [trial.metrics[front.x.metric] for trial in trials]
        axes.scatter(xs, [trial.metrics[front.y.metric] for trial in trials], **style)


def _steps(axes: Axes, front: Front, colours: Colours) -> None:
    """What is attainable at a cost is what the last cheaper trial attains: a step, not a straight line."""
    if not front.trials:
        return
    xs = [trial.metrics[front.x.metric] for trial in front.trials]
    ys = [trial.metrics[front.y.metric] for trial in front.trials]
    where = "steps-post" if xs == sorted(xs) and front.x.direction == "min" else "steps-pre"
    label = f"Pareto front ({len(xs)} trial{'s' if len(xs) != 1 else ''})"
    axes.plot(xs, ys, drawstyle=where, color=colours.accent, lw=1.8, alpha=0.55, zorder=3)
    axes.plot([], [], color=colours.accent, lw=1.8, marker="o", ms=6.5, label=label)
    axes.scatter(xs, ys, s=42, color=colours.accent, lw=0, zorder=3.5)


def _points(axes: Axes, front: Front, colours: Colours) -> None:
    """Labelled diamonds for models that no trial made."""
    style: dict[str, Any] = {"color": colours.ink, "fontsize": 8.5, "textcoords": "offset points", "xytext": (7, -3)}
    for number, point in enumerate(front.points):
        at = point.metrics[front.x.metric], point.metrics[front.y.metric]
        label = "papers' procedures" if number == 0 else None
        axes.scatter([at[0]], [at[1]], marker="D", s=44, color=colours.ink, lw=0, zorder=5, label=label)
        axes.annotate(point.label, at, zorder=5, **style)


def _budget(axes: Axes, front: Front, constraint: Constraint, colours: Colours) -> None:
    style: dict[str, Any] = {"color": colours.muted, "lw": 1.2, "ls": (0, (4, 3)), "zorder": 2}
    bound = constraint.bound(front.baseline)
    note: dict[str, Any] = {"color": colours.muted, "fontsize": 9, "textcoords": "offset points"}
    if constraint.metric == front.x.metric:
        axes.axvline(bound, **style)
        place: dict[str, Any] = {"xytext": (-4, 0), "rotation": 90, "ha": "right", "va": "bottom"}
        axes.annotate(str(constraint), (bound, 0.02), xycoords=("data", "axes fraction"), **place, **note)
    elif constraint.metric == front.y.metric:
        axes.axhline(bound, **style)
        axes.annotate(str(constraint), (0.01, bound), xycoords=("axes fraction", "data"), xytext=(0, 4), **note)


def _legend(axes: Axes, front: Front, colours: Colours) -> None:
    if not front.trials:
        place: dict[str, Any] = {"ha": "center", "va": "center", "transform": axes.transAxes}
        axes.text(0.5, 0.4, "no trial on the front", color=colours.muted, fontsize=12, **place)
    if axes.get_legend_handles_labels()[1]:
        usual = front.x.direction == "min" and front.y.direction == "max"
        style: dict[str, Any] = {"fontsize": 10, "frameon": False, "labelcolor": colours.ink}
        axes.legend(loc="lower right" if usual else "best", **style).set_zorder(6)


def _limit(axes: Axes, front: Front, others: Sequence[Trial], colours: Colours, what: str) -> None:
    """Trials far worse than the front would squeeze it into a corner: leave them out and say how many."""
    y = front.y.metric
    important = [*(trial.metrics[y] for trial in front.trials), *(point.metrics[y] for point in front.points)]
    if finite(front.baseline, y):
        important.append(front.baseline[y])
    if not important:
        return
    values = [trial.metrics[y] for trial in others]
    low, high = visible_range(values, important, front.y)
    axes.set_ylim(low, high)
    hidden = sum(not low <= value <= high for value in values)
    if hidden:
        up = front.y.direction == "min"
        text = f"{hidden:,} {what}{'s' if hidden != 1 else ''} {'above' if up else 'below'} this range"
        place: dict[str, Any] = {"ha": "left", "va": "top" if up else "bottom", "transform": axes.transAxes}
        axes.text(0.01, 0.98 if up else 0.02, text, color=colours.muted, fontsize=9, **place)


def _name_axes(axes: Axes, front: Front, colours: Colours) -> None:
    from matplotlib.ticker import FuncFormatter

    for objective, one in ((front.x, axes.xaxis), (front.y, axes.yaxis)):
        metric = describe(objective.metric)
        unit = " (multiply-accumulates at batch 1)" if metric.name == "macs" else ""
        one.set_label_text(metric.label + unit, color=colours.ink, fontsize=11)
        if metric.kind == "fraction":
            one.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:.4g} %"))
        elif metric.kind in ("count", "bytes"):
            one.set_major_formatter(FuncFormatter(lambda value, _, name=metric.name: _tick(name, value)))
    base = front.baseline.get(front.x.metric, math.nan)
    if math.isfinite(base) and base > 0 and describe(front.x.metric).kind != "fraction":
        top = axes.secondary_xaxis(
            "top", functions=(lambda v: np.multiply(v, 100 / base), lambda v: np.multiply(v, base / 100))
        )
        top.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.4g} %"))
        top.tick_params(colors=colours.muted, labelsize=10, length=0)
        top.spines["top"].set_visible(False)
        top.patch.set_visible(False)
        top.set_xlabel(
            f"of the baseline's {describe(front.x.metric).label}", color=colours.muted, fontsize=10, loc="right"
        )


def _tick(name: str, value: float) -> str:
    """``20M`` rather than ``20.0M``."""
    text = format_value(name, value)
    number, unit = text.rstrip("kMGB"), text[len(text.rstrip("kMGB")) :]
    return (number.rstrip("0").rstrip(".") if "." in number else number) + unit
