"""A search as a study of Optuna, for optuna-dashboard and ``optuna.load_study``.

Parameters are the widths, values the objectives, constraints those of the search (positive: broken). Trials have the
numbers that they have in the search. A stopped trial is PRUNED; one that diverged, failed, or broke a constraint before
all its objectives were measured is FAIL, with the reason among its attributes.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import TYPE_CHECKING, Any

import optuna
from optuna.distributions import IntDistribution
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FrozenTrial
from optuna.trial import TrialState as OptunaState

from autoprune.config.schema import RuleConfig
from autoprune.errors import ConfigError, Conflict
from autoprune.space.rules import allowed_widths, apply_rules
from autoprune.types import ChannelGroup, Constraint, Objective, SearchRecord, Trial, TrialState

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["write_study"]

_STATES = {
    TrialState.RUNNING: OptunaState.RUNNING,
    TrialState.STOPPED: OptunaState.PRUNED,
}


def write_study(
    url: str,
    record: SearchRecord,
    trials: Iterable[Trial],
    objectives: Sequence[Objective],
    constraints: Sequence[Constraint],
    widths: Mapping[str, tuple[int, int, int]],
    progress: Callable[[int], None],
) -> int:
    """Make a study of the search's name in an Optuna storage; how many trials it has.

    Args:
        url: of a database, or the path of a journal, which takes a trial in a tenth of the time.
        trials: by number.
        widths: lowest, highest and greatest common step of each group's widths over all trials.

    Raises Conflict when the storage has a study of that name, ConfigError when the storage cannot be used.
    """
    with _quiet():
        study = _study(url, record, objectives)
        distributions = {name: _distribution(record, name, *seen) for name, seen in widths.items()}
        count = 0
        for trial in trials:
            study.add_trial(_frozen(trial, record, objectives, constraints, distributions))
            count += 1
            progress(count)
    return count


@contextmanager
def _quiet() -> Iterator[None]:
    """Optuna logs what it makes and warns of what it calls experimental."""
    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        optuna.logging.set_verbosity(before)


def _study(url: str, record: SearchRecord, objectives: Sequence[Objective]) -> optuna.Study:
    maximize, minimize = optuna.study.StudyDirection.MAXIMIZE, optuna.study.StudyDirection.MINIMIZE
    directions = [maximize if each.direction == "max" else minimize for each in objectives]
    try:
        storage = url if "://" in url else JournalStorage(JournalFileBackend(url))
        study = optuna.create_study(storage=storage, study_name=record.name, directions=directions)
    except optuna.exceptions.DuplicatedStudyError:
        raise Conflict(
            f"the Optuna storage has a study {record.name!r} already.",
            "Choose another storage, or delete it with: optuna delete-study",
        ) from None
    except Exception as error:  # noqa: BLE001 (the drivers of many databases have exceptions of their own)
        first = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise ConfigError(
            f"the Optuna storage cannot be used: {first[:300]}.", "Write for example sqlite:///optuna.db"
        ) from None
    study.set_metric_names([each.metric for each in objectives])
    for key, value in (
        ("baseline", _finite(record.baseline)),
        ("constraints", list(record.config.get("constraints") or ())),
        ("digest", record.digest),
    ):
        study.set_user_attr(key, value)
    return study


def _distribution(record: SearchRecord, name: str, lowest: int, highest: int, step: int) -> IntDistribution:
    """All widths that the rules allow and all that were seen, on the coarsest grid that has them."""
    space = record.config.get("space") or {}
    rules = [RuleConfig.model_validate(each) for each in space.get("rules") or ()]
    group = ChannelGroup(name, record.channels.get(name, highest), ())
    allowed = allowed_widths(group, apply_rules(name, rules))
    grid = math.gcd(step, *(width - lowest for width in (*allowed, highest))) or 1
    return IntDistribution(min(lowest, allowed[0]), max(highest, allowed[-1]), step=grid)


def _frozen(
    trial: Trial,
    record: SearchRecord,
    objectives: Sequence[Objective],
    constraints: Sequence[Constraint],
    distributions: Mapping[str, IntDistribution],
) -> FrozenTrial:
    values = [trial.metrics.get(each.metric, math.nan) for each in objectives]
    measured = all(math.isfinite(value) for value in values)
    excess = {str(each): _excess(each, trial.metrics, record.baseline) for each in constraints}
    state = _STATES.get(trial.state, OptunaState.FAIL)
    if measured and trial.state in (TrialState.COMPLETE, TrialState.INFEASIBLE) and None not in excess.values():
        state = OptunaState.COMPLETE
    made = optuna.create_trial(
        state=state,
        values=values if state is OptunaState.COMPLETE else None,
        params=dict(trial.candidate.widths),
        distributions=dict(distributions),
        constraints=excess if state is OptunaState.COMPLETE and excess else None,  # type: ignore[arg-type]
        user_attrs=_attributes(trial),
    )
    made.datetime_start = datetime.fromtimestamp(trial.started_at)
    made.datetime_complete = None if trial.finished_at is None else datetime.fromtimestamp(trial.finished_at)
    return made


def _excess(constraint: Constraint, metrics: Mapping[str, float], baseline: Mapping[str, float]) -> float | None:
    """How far a metric is beyond its bound, negative when it is within; None when one of them is not known."""
    if constraint.metric not in metrics or (constraint.relative and constraint.metric not in baseline):
        return None
    over = metrics[constraint.metric] - constraint.bound(baseline)
    return (over if constraint.op == "<=" else -over) if math.isfinite(over) else None


def _attributes(trial: Trial) -> dict[str, Any]:
    said = {
        "number": trial.number,
        "digest": trial.candidate.digest,
        "state": trial.state.value,
        "reason": trial.reason,
        "worker": trial.worker,
        "duplicate_of": trial.duplicate_of,
    }
    return {**{key: value for key, value in said.items() if value != ""}, **_finite(trial.metrics)}


def _finite(values: Mapping[str, float]) -> dict[str, float | None]:
    return {name: value if math.isfinite(value) else None for name, value in values.items()}
