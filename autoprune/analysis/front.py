"""The Pareto front of two metrics as data: JSON, CSV and table rows."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from autoprune.analysis.metrics import axis, ordered, require_known
from autoprune.analysis.pareto import front_order, metric_columns
from autoprune.analysis.selection import meets
from autoprune.errors import ConfigError
from autoprune.files import write_text
from autoprune.types import Constraint, Objective, Trial, TrialState

__all__ = ["Front", "Point", "build_front", "front_axes", "front_rows", "write_csv"]


@dataclass(frozen=True)
class Point:
    """A model shown beside a front that no trial of the search made: never part of the front."""

    label: str
    widths: Mapping[str, int]
    metrics: Mapping[str, float]


@dataclass(frozen=True)
class Front:
    """The best trials of a search on two axes, cheapest first."""

    search: str
    x: Objective
    y: Objective
    baseline: Mapping[str, float]
    trials: tuple[Trial, ...]
    considered: int
    """Complete trials that met the constraints and have both metrics."""
    constraints: tuple[Constraint, ...] = ()
    points: tuple[Point, ...] = ()
    """For comparison: what papers' procedures made within the constraints."""

    def to_dict(self) -> dict[str, object]:
        """What ``to_json`` prints; a metric that is not a finite number is None."""
        shown = [
            {"label": point.label, "widths": dict(point.widths), "metrics": _printable(point.metrics)}
            for point in self.points
        ]
        return {
            "search": self.search,
            "baseline": _printable(self.baseline),
            "front": [
                {
                    "trial": trial.number,
                    "digest": trial.candidate.digest,
                    "widths": {name: int(width) for name, width in trial.candidate.widths.items()},
                    "metrics": _printable(trial.metrics),
                }
                for trial in self.trials
            ],
            **({"presets": shown} if shown else {}),
        }

    def to_json(self) -> str:
        """JSON text: ``{"search", "baseline", "front": [{"trial", "digest", "widths", "metrics"}]}``, and ``presets``
        where there are points."""
        return json.dumps(self.to_dict(), indent=2, allow_nan=False)

    def to_csv(self) -> str:
        """CSV text: ``trial``, one column a metric, one column a group. Values that are not finite stay empty.

        Points come last, with their label for a number.
        """
        metrics = self.metric_names()
        groups = list(dict.fromkeys(name for trial in self.trials for name in trial.candidate.widths))
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(["trial", *metrics, *groups])
        lines: list[tuple[int | str, Mapping[str, float], Mapping[str, int]]] = [
            *((trial.number, trial.metrics, trial.candidate.widths) for trial in self.trials),
            *((point.label, point.metrics, point.widths) for point in self.points),
        ]
        for named, measured, widths in lines:
            values = [_cell(measured.get(name)) for name in metrics]
            writer.writerow([named, *values, *(widths.get(name, "") for name in groups)])
        return text.getvalue()

    def metric_names(self) -> list[str]:
        """Metrics that a trial of the front or the baseline has, accuracies first."""
        return ordered(name for metrics in (self.baseline, *(t.metrics for t in self.trials)) for name in metrics)

    def rows(self) -> list[dict[str, float]]:
        """One mapping a trial for tables: ``trial`` and the metrics, in the order of ``metric_names``."""
        names = self.metric_names()
        return [
            {"trial": trial.number, **{name: trial.metrics.get(name, math.nan) for name in names}}
            for trial in self.trials
        ]


def build_front(
    search: str,
    trials: Sequence[Trial],
    *,
    baseline: Mapping[str, float],
    x: str = "macs",
    y: str = "top1",
    constraints: Sequence[Constraint] = (),
) -> Front:
    """The front of ``y`` against ``x`` over the COMPLETE trials that meet every constraint.

    ``x`` and ``y`` are metrics, with ``max`` or ``min`` behind them where the usual direction is not meant.

    Raises ConfigError when the axes are the same metric, or when trials are there and none has measured a metric.
    """
    axes = front_axes(x, y)
    complete = sorted((t for t in trials if t.state is TrialState.COMPLETE), key=lambda trial: trial.number)
    asked = [*(each.metric for each in axes), *(each.metric for each in constraints)]
    rows, considered = np.empty(0, np.int64), 0
    if complete:
        require_known(asked, {name for trial in complete for name in trial.metrics})
        rows, considered = front_rows(metric_columns(complete, asked), axes, constraints, baseline)
    return Front(
        search=search,
        x=axes[0],
        y=axes[1],
        baseline=dict(baseline),
        trials=tuple(complete[row] for row in rows),
        considered=considered,
        constraints=tuple(constraints),
    )


def front_axes(x: str, y: str) -> tuple[Objective, Objective]:
    """The two axes from their texts. Raises ConfigError when they are the same metric."""
    axes = (axis(x), axis(y))
    if axes[0].metric == axes[1].metric:
        raise ConfigError(f"both axes are {axes[0].metric!r}.", "Choose two metrics, such as --x macs --y top1.")
    return axes


def front_rows(
    metrics: Mapping[str, np.ndarray],
    axes: Sequence[Objective],
    constraints: Sequence[Constraint],
    baseline: Mapping[str, float],
) -> tuple[np.ndarray, int]:
    """Rows on the front, (front,) int64 in its order, and how many rows met the constraints and have both axes.

    Args:
        metrics: columns (N,) float64 in the order of trial numbers, NaN where a trial is not COMPLETE or lacks the
            metric: those of the axes and of the constraints.
    """
    usable = meets(metrics, constraints, baseline)
    for each in axes:
        usable &= np.isfinite(metrics[each.metric])
    rows = np.flatnonzero(usable)
    points = np.empty((len(rows), len(axes)), order="F")
    for column, each in enumerate(axes):
        np.multiply(metrics[each.metric][rows], each.sign, out=points[:, column])
    return rows[front_order(points, axes)], len(rows)


def write_csv(front: Front, path: str | Path) -> Path:
    """Write ``front.to_csv()``; makes the folder."""
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    write_text(target, front.to_csv())
    return target


def _printable(metrics: Mapping[str, float]) -> dict[str, float | None]:
    return {name: metrics[name] if math.isfinite(metrics[name]) else None for name in ordered(metrics)}


def _cell(value: float | None) -> str:
    if value is None or not math.isfinite(value):
        return ""
    return str(int(value)) if float(value).is_integer() and abs(value) < 2**53 else repr(float(value))
