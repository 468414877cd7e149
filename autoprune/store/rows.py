"""Between rows and the nouns of ``autoprune.types``."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

from sqlalchemy.engine import Row

from autoprune.types import Candidate, SearchRecord, SearchState, Trial, TrialState

__all__ = ["metric_rows", "search_from", "trial_from", "trial_row", "without_nul"]

_STATES = {state.value: state for state in TrialState}


def without_nul(text: str) -> str:
    """PostgreSQL keeps no NUL in a text."""
    return text.replace("\0", "\\0")


def trial_row(search_id: int, trial: Trial) -> dict[str, Any]:
    """The columns of ``trials``."""
    return {
        "search_id": search_id,
        "number": trial.number,
        "digest": trial.candidate.digest,
        "widths": json.dumps({name: int(width) for name, width in trial.candidate.widths.items()}),
        "state": trial.state.value,
        "reason": without_nul(trial.reason),
        "attempt": trial.attempt,
        "note": json.dumps(dict(trial.note)),
        "timings": json.dumps(dict(trial.timings)),
        "worker": trial.worker,
        "duplicate_of": trial.duplicate_of,
        "started_at": trial.started_at,
        "finished_at": trial.finished_at,
    }


def metric_rows(
    search_id: int, number: int, metrics: Mapping[str, float], *, added: bool = False
) -> list[dict[str, Any]]:
    """The rows of ``metrics``; NaN becomes NULL."""
    this = {"search_id": search_id, "number": number, "added": added}
    return [
        {**this, "name": name, "value": None if math.isnan(value) else float(value)} for name, value in metrics.items()
    ]


def trial_from(row: Row[Any], metrics: Mapping[str, float]) -> Trial:
    """A row with all columns of ``trials``; unpacked in their order, since attributes of rows are slow."""
    _, number, _, widths, state, reason, attempt, note, timings, worker, origin, started_at, finished_at = tuple(row)
    return Trial(
        number=number,
        candidate=Candidate(json.loads(widths)),
        state=_STATES[state],
        metrics=metrics,
        reason=reason,
        attempt=attempt,
        note={} if note == "{}" else json.loads(note),
        timings={} if timings == "{}" else json.loads(timings),
        worker=worker,
        duplicate_of=origin,
        started_at=started_at,
        finished_at=finished_at,
    )


def search_from(row: Row[Any], trial_counts: Mapping[str, int]) -> SearchRecord:
    return SearchRecord(
        name=row.name,
        digest=row.digest,
        evaluation_digest=row.evaluation_digest,
        config=json.loads(row.config),
        baseline=json.loads(row.baseline),
        channels=json.loads(row.channels),
        state=SearchState(row.state),
        created_at=row.created_at,
        updated_at=row.updated_at,
        trial_counts=trial_counts,
    )
