"""From what a server sends to the nouns of ``autoprune.types``. A null among numbers is NaN."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from autoprune.analysis.front import Front
from autoprune.analysis.history import History
from autoprune.analysis.selection import Selection
from autoprune.config.expressions import parse_constraint
from autoprune.types import (
    Candidate,
    Launch,
    LaunchState,
    Objective,
    SearchRecord,
    SearchState,
    Trial,
    TrialState,
)

__all__ = ["front_from", "history_from", "launch_from", "search_from", "selection_from", "trial_from"]


def trial_from(body: Mapping[str, Any]) -> Trial:
    return Trial(
        number=body["number"],
        candidate=Candidate(body["widths"]),
        state=TrialState(body["state"]),
        metrics=_numbers(body["metrics"]),
        reason=body["reason"],
        attempt=body["attempt"],
        note=body["note"],
        timings=body["timings"],
        worker=body["worker"],
        duplicate_of=body["duplicate_of"],
        started_at=body["started_at"],
        finished_at=body["finished_at"],
    )


def search_from(body: Mapping[str, Any]) -> SearchRecord:
    return SearchRecord(
        name=body["name"],
        digest=body["digest"],
        evaluation_digest=body["evaluation_digest"],
        config=body["config"],
        baseline=_numbers(body["baseline"]),
        state=SearchState(body["state"]),
        created_at=body["created_at"],
        updated_at=body["updated_at"],
        trial_counts=body["trial_counts"],
        channels=body["channels"],
    )


def front_from(body: Mapping[str, Any]) -> Front:
    x, y = (_axis(each) for each in body["axes"])
    return Front(
        search=body["search"],
        x=x,
        y=y,
        baseline=_numbers(body["baseline"]),
        trials=tuple(trial_from(each) for each in body["front"]),
        considered=body["considered"],
        constraints=tuple(item for text in body["constraints"] for item in parse_constraint(text)),
    )


def selection_from(body: Mapping[str, Any]) -> Selection:
    return Selection(body["search"], trial_from(body["trial"]), _numbers(body["baseline"]), body["considered"])


def history_from(body: Mapping[str, Any]) -> History:
    axes = tuple(_axis(each) for each in body["axes"])
    return History(
        search=body["search"],
        objectives=axes,
        numbers=np.array(body["trial"], dtype=np.int64),
        volumes=np.array(body["hypervolume"], dtype=np.float64),
        reference=np.array([_number(body["reference"][each.metric]) for each in axes]),
        box=body["box"],
    )


def launch_from(body: Mapping[str, Any]) -> Launch:
    """Without its configuration, which a server does not send."""
    kept = ("id", "search", "message", "created_at", "started_at", "finished_at", "worker", "stopping")
    return Launch(config={}, state=LaunchState(body["state"]), **{key: body[key] for key in kept})


def _axis(body: Mapping[str, Any]) -> Objective:
    return Objective(body["metric"], body["direction"])


def _numbers(metrics: Mapping[str, float | None]) -> dict[str, float]:
    return {name: _number(value) for name, value in metrics.items()}


def _number(value: float | None) -> float:
    return math.nan if value is None else value
