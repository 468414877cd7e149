"""What a report says about all trials of a search, however many: sums, so that the trials need not be at hand."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from autoprune.analysis.history import History, build_history
from autoprune.analysis.metrics import axis, finite
from autoprune.analysis.pareto import metric_columns
from autoprune.types import Objective, SearchRecord, Trial, TrialState

__all__ = ["ACCIDENTS", "Overview", "search_objectives", "summarise"]

ACCIDENTS = (TrialState.FAILED, TrialState.DIVERGED, TrialState.INFEASIBLE)
"""States of trials that did not succeed."""


@dataclass(frozen=True, eq=False)
class Overview:
    """Counts over all trials, and the growth of their hypervolume."""

    counts: Mapping[str, int]
    """State -> trials."""
    history: History
    reused: int = 0
    """Trials that were looked up instead of measured again."""
    stopped_images: float | None = None
    """Validation images of the trials that racing stopped, on average; None without any."""
    stopped_epochs: float | None = None
    """The same of those that ASHA stopped: epochs of fine-tuning."""
    others: int | None = None
    """Comparable trials off the front; None: as many as are at hand."""

    @property
    def failures(self) -> int:
        return sum(self.counts.get(state.value, 0) for state in ACCIDENTS)


def search_objectives(record: SearchRecord) -> tuple[Objective, ...]:
    """The search's objectives; top1 and macs where its configuration names none."""
    texts = record.config.get("objectives", ()) or ("top1", "macs")
    return tuple(axis(text) for text in texts)


def summarise(record: SearchRecord, trials: Sequence[Trial], objectives: Sequence[Objective]) -> Overview:
    """The overview of trials that are at hand."""
    complete = sorted((each for each in trials if each.state is TrialState.COMPLETE), key=lambda each: each.number)
    numbers = np.array([each.number for each in complete], dtype=np.int64)
    columns = metric_columns(complete, [each.metric for each in objectives])
    return Overview(
        counts={state.value: sum(each.state is state for each in trials) for state in TrialState},
        history=build_history(record.name, numbers, columns, objectives),
        reused=sum(bool(each.duplicate_of) for each in trials),
        stopped_images=_mean_of_stopped(trials, "images"),
        stopped_epochs=_mean_of_stopped(trials, "epochs"),
    )


def _mean_of_stopped(trials: Sequence[Trial], metric: str) -> float | None:
    stopped = (each.metrics for each in trials if each.state is TrialState.STOPPED)
    values = [metrics[metric] for metrics in stopped if finite(metrics, metric)]
    return sum(values) / len(values) if values else None
