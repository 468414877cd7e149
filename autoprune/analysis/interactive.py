"""The front as one HTML file that can be hovered and zoomed, with plotly's script inside."""

from __future__ import annotations

import html
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from autoprune.analysis.front import Front
from autoprune.analysis.metrics import describe, finite, format_value, ordered
from autoprune.analysis.plots import PAPER, is_uniform, other_trials
from autoprune.types import Objective, Trial

if TYPE_CHECKING:
    import plotly.graph_objects as go

__all__ = ["front_page"]


def front_page(front: Front, trials: Sequence[Trial] = (), *, others: int | None = None) -> str:
    """A whole HTML page; nothing is loaded from elsewhere. Hovering a trial shows its metrics and widths.

    ``trials`` and ``others`` are those of ``plot_front``.
    """
    figure = _figure(front, trials, others)
    return str(
        figure.to_html(include_plotlyjs="inline", full_html=True, config={"displaylogo": False, "responsive": True})
    )


def _figure(front: Front, trials: Sequence[Trial], others: int | None) -> go.Figure:
    import plotly.graph_objects as go

    off, shown, label = other_trials(front, trials, others)
    plain = [trial for trial in shown if not is_uniform(trial)]
    traces = [
        _trace(front, plain, label, mode="markers", marker={"size": 6, "color": PAPER.faint, "opacity": 0.5}),
        _trace(
            front,
            front.trials,
            "Pareto front",
            mode="lines+markers",
            line={"shape": "hv" if front.x.direction == "min" else "vh", "color": PAPER.accent, "width": 2},
            marker={"size": 9, "color": PAPER.accent},
        ),
        _trace(
            front,
            [trial for trial in (*off, *front.trials) if is_uniform(trial)],
            "uniform widths",
            mode="markers",
            marker={"size": 11, "symbol": "square-open", "color": PAPER.uniform, "line": {"width": 2}},
        ),
    ]
    if front.points:
        traces.append(_points(front))
    if finite(front.baseline, front.x.metric) and finite(front.baseline, front.y.metric):
        traces.append(_baseline(front))
    figure = go.Figure([trace for trace in traces if len(trace["x"])])
    for constraint in front.constraints:
        draw = {front.x.metric: figure.add_vline, front.y.metric: figure.add_hline}.get(constraint.metric)
        if draw is not None:
            bound = constraint.bound(front.baseline)
            draw(bound, line={"dash": "dash", "color": PAPER.muted, "width": 1}, annotation_text=str(constraint))
    figure.update_layout(
        title=html.escape(front.search), template="plotly_white", xaxis=_axis(front.x), yaxis=_axis(front.y)
    )
    return figure


def _trace(front: Front, trials: Sequence[Trial], name: str, **style: Any) -> dict[str, Any]:
    return {
        "type": "scatter",
        "name": name,
        "x": [trial.metrics[front.x.metric] for trial in trials],
        "y": [trial.metrics[front.y.metric] for trial in trials],
        "text": [_hover(trial) for trial in trials],
        "hovertemplate": "%{text}<extra></extra>",
        **style,
    }


def _points(front: Front) -> dict[str, Any]:
    """Labelled diamonds for models that no trial made."""
    return {
        "type": "scatter",
        "name": "papers' procedures",
        "x": [point.metrics[front.x.metric] for point in front.points],
        "y": [point.metrics[front.y.metric] for point in front.points],
        "text": [html.escape(point.label) for point in front.points],
        "customdata": [f"<b>{html.escape(point.label)}</b><br>{_lines(point.metrics)}" for point in front.points],
        "hovertemplate": "%{customdata}<extra></extra>",
        "mode": "markers+text",
        "textposition": "middle right",
        "marker": {"size": 10, "symbol": "diamond", "color": PAPER.ink},
    }


def _baseline(front: Front) -> dict[str, Any]:
    return {
        "type": "scatter",
        "name": "baseline (unpruned)",
        "x": [front.baseline[front.x.metric]],
        "y": [front.baseline[front.y.metric]],
        "text": ["baseline<br>" + _lines(front.baseline)],
        "hovertemplate": "%{text}<extra></extra>",
        "mode": "markers",
        "marker": {"size": 16, "symbol": "star", "color": PAPER.baseline},
    }


def _hover(trial: Trial) -> str:
    widths = [f"{html.escape(name)} {width}" for name, width in trial.candidate.widths.items()]
    rows = [", ".join(widths[i : i + 4]) for i in range(0, min(len(widths), 40), 4)]
    more = ["..."] if len(widths) > 40 else []
    return "<br>".join([f"<b>trial {trial.number}</b>", _lines(trial.metrics), *rows, *more])


def _lines(metrics: Any) -> str:
    return "<br>".join(f"{html.escape(name)} {format_value(name, metrics[name])}" for name in ordered(metrics))


def _axis(objective: Objective) -> dict[str, Any]:
    metric = describe(objective.metric)
    formats = {"fraction": ".2~%", "count": "~s", "bytes": "~s"}
    return {"title": {"text": html.escape(metric.label)}, "tickformat": formats.get(metric.kind, "")}
