"""From autoprune's nouns to plain data as ``schemas.py`` describes it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from autoprune.analysis.metrics import describe, finite, ordered
from autoprune.analysis.overview import search_objectives
from autoprune.types import Objective, SearchRecord, Trial, TrialState

__all__ = ["axis_body", "candidate_body", "search_body", "search_summary", "trial_body"]


def trial_body(trial: Trial) -> dict[str, Any]:
    """``TrialBody``."""
    return {
        "number": trial.number,
        "digest": trial.candidate.digest,
        "state": trial.state.value,
        "widths": dict(trial.candidate.widths),
        "metrics": {name: trial.metrics[name] for name in ordered(trial.metrics)},
        "reason": trial.reason,
        "attempt": trial.attempt,
        "note": dict(trial.note),
        "timings": dict(trial.timings),
        "worker": trial.worker,
        "duplicate_of": trial.duplicate_of,
        "started_at": trial.started_at,
        "finished_at": trial.finished_at,
    }


def search_summary(record: SearchRecord, *, driven: bool) -> dict[str, Any]:
    """``SearchSummary``."""
    limits, controller = record.config.get("limits") or {}, record.config.get("controller") or {}
    finished = sum(count for state, count in record.trial_counts.items() if TrialState(state).finished)
    return {
        "name": record.name,
        "state": record.state.value,
        "driven": driven,
        "objectives": [str(each) for each in search_objectives(record)],
        "constraints": list(record.config.get("constraints") or ()),
        "controller": str(controller.get("kind", "")),
        "trials": finished,
        "limit": limits.get("trials"),
        "trial_counts": dict(record.trial_counts),
        "baseline": {name: record.baseline[name] for name in ordered(record.baseline)},
        "created_at": record.created_at,
        "updated_at": record.updated_at,
    }


def search_body(record: SearchRecord, *, driven: bool, metrics: Sequence[str]) -> dict[str, Any]:
    """``SearchBody``."""
    return {
        **search_summary(record, driven=driven),
        "digest": record.digest,
        "evaluation_digest": record.evaluation_digest,
        "config": dict(record.config),
        "channels": dict(record.channels),
        "metrics": ordered(metrics),
    }


def axis_body(objective: Objective) -> dict[str, str]:
    """``AxisBody``."""
    known = describe(objective.metric)
    return {
        "metric": objective.metric,
        "direction": objective.direction,
        "label": known.label,
        "kind": known.kind,
    }


def candidate_body(record: SearchRecord, trial: Trial) -> dict[str, Any]:
    """``CandidateBody``."""
    widths = trial.candidate.widths
    channels = {name: record.channels.get(name, widths.get(name, 0)) for name in (record.channels or widths)}
    costs = [
        name
        for name in ordered(trial.metrics)
        if describe(name).kind in ("count", "ms", "bytes") and finite(record.baseline, name) and record.baseline[name]
    ]
    return {
        "search": record.name,
        "trial": trial_body(trial),
        "groups": [
            {
                "group": name,
                "channels": full,
                "width": widths.get(name, full),
                "keep_ratio": widths.get(name, full) / full,
            }
            for name, full in channels.items()
            if full
        ],
        "baseline": {name: record.baseline[name] for name in ordered(record.baseline)},
        "shares": {name: trial.metrics[name] / record.baseline[name] for name in costs},
        "digest": record.digest,
        "evaluation_digest": record.evaluation_digest,
        "exportable": trial.state in (TrialState.COMPLETE, TrialState.STOPPED, TrialState.INFEASIBLE),
    }
