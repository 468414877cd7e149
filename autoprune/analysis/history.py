"""How the hypervolume of a search grew, trial by trial."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from autoprune.analysis.metrics import format_value
from autoprune.analysis.pareto import reference_point, volume_history
from autoprune.types import Objective

__all__ = ["History", "build_history"]

_COLUMNS = ("trial", "hypervolume", "share")


@dataclass(frozen=True, eq=False)
class History:
    """The hypervolume of the trials up to each trial, in the order of their numbers."""

    search: str
    objectives: tuple[Objective, ...]
    numbers: np.ndarray
    """(N,) int64, ascending."""
    volumes: np.ndarray
    """(N,) float64, never falling; in the product of the objectives' units."""
    reference: np.ndarray
    """(objectives,) float64, in the objectives' own units; NaN when no trial has all of them."""
    box: float
    """Volume between the reference and the best value of each objective: no front has more. 0 without usable trials."""

    @property
    def shares(self) -> np.ndarray:
        """(N,) float64 in [0, 1]: volumes as shares of the box."""
        return np.asarray(self.volumes / self.box) if self.box else np.zeros(len(self.volumes))

    @property
    def moves(self) -> np.ndarray:
        """Rows at which the volume grew, and the last row; ascending int64."""
        grown = np.flatnonzero(np.diff(self.volumes, prepend=0.0) > 0)
        last = len(self.volumes) - 1
        return grown if last < 0 or (len(grown) and grown[-1] == last) else np.append(grown, last)

    def rows(self) -> list[dict[str, float]]:
        """``trial``, ``hypervolume`` and ``share`` of each of the ``moves``."""
        at = self.moves
        columns = (self.numbers[at].tolist(), self.volumes[at].tolist(), self.shares[at].tolist())
        return [dict(zip(_COLUMNS, row, strict=True)) for row in zip(*columns, strict=True)]

    def to_json(self) -> str:
        """JSON text: ``{"search", "objectives", "reference", "trials", "history"}``; the last is the ``rows``."""
        reference = {
            each.metric: float(value) if np.isfinite(value) else None
            for each, value in zip(self.objectives, self.reference, strict=True)
        }
        content = {
            "search": self.search,
            "objectives": [str(each) for each in self.objectives],
            "reference": reference,
            "trials": len(self.numbers),
            "history": self.rows(),
        }
        return json.dumps(content, indent=2, allow_nan=False)

    def to_csv(self) -> str:
        """CSV text of the ``rows``."""
        text = io.StringIO()
        writer = csv.DictWriter(text, _COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(self.rows())
        return text.getvalue()

    def describe_reference(self) -> str:
        """``macs 44.1M, top1 10.00 %``."""
        pairs = zip(self.objectives, self.reference.tolist(), strict=True)
        return ", ".join(f"{each.metric} {format_value(each.metric, value)}" for each, value in pairs)


def build_history(
    search: str, numbers: np.ndarray, metrics: Mapping[str, np.ndarray], objectives: Sequence[Objective]
) -> History:
    """The history of one to three objectives; the reference lies a tenth of the range beyond the worst usable trial.

    Args:
        numbers: (N,) int64, ascending.
        metrics: columns (N,) float64 of the objectives; NaN where a trial is not COMPLETE or lacks the metric: it
            repeats the volume before it.
    """
    signs = np.array([each.sign for each in objectives], dtype=np.float64)
    points = np.empty((len(numbers), len(objectives)), order="F")
    usable = np.ones(len(numbers), dtype=bool)
    for column, each in enumerate(objectives):
        np.multiply(metrics[each.metric], each.sign, out=points[:, column])
        usable &= np.isfinite(points[:, column])
    if not usable.any():
        nothing = np.full(len(objectives), np.nan)
        return History(search, tuple(objectives), numbers, np.zeros(len(numbers)), nothing, 0.0)
    inside = points[usable]
    corner = reference_point(inside)
    best = np.array([column.min() for column in inside.T])
    volumes = volume_history(points, corner)
    return History(search, tuple(objectives), numbers, volumes, corner * signs, float((corner - best).prod()))
