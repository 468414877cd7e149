"""The nouns. Frozen, without torch; everything else in the package speaks in these.

A search proposes candidates (group name -> channels kept) and measures each as a trial.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from functools import cached_property
from typing import Any

import numpy as np

__all__ = [
    "Candidate",
    "ChannelGroup",
    "Constraint",
    "Launch",
    "LaunchState",
    "Measurement",
    "Objective",
    "Outcome",
    "OutcomeKind",
    "Proposal",
    "SearchRecord",
    "SearchState",
    "Slice",
    "Trial",
    "TrialState",
    "WorkerTotals",
]


@dataclass(frozen=True)
class Candidate:
    """Channels kept in each group. The pruned model is a pure function of (checkpoint, candidate, weight source).

    >>> Candidate({"b": 8, "a": 4}).digest == Candidate({"a": 4, "b": 8}).digest
    True
    """

    widths: Mapping[str, int]

    @cached_property
    def digest(self) -> str:
        """16 hexadecimal digits over the sorted widths: equal architectures have equal digests."""
        text = json.dumps({name: int(width) for name, width in self.widths.items()}, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]


@dataclass(frozen=True, eq=False)
class Slice:
    """One tensor dimension that is cut together with its group.

    ``index[u]`` lists the positions along ``dim`` of ``parameter`` that belong to unit ``u`` of the group:
    shape (units, positions per unit), int64. A flattened feature map has height * width positions a channel; a
    concatenation shifts them; a grouped convolution has one position a unit in every one of its groups.
    """

    parameter: str
    """Name in ``state_dict()`` (a parameter or a buffer such as ``bn.running_mean``)."""
    dim: int
    index: np.ndarray
    role: str = "through"
    """``producer``: filters that make the channels; ``consumer``: weights that read them; ``through``: the rest
    (biases, BatchNorm, depthwise filters), which ride along."""


@dataclass(frozen=True, eq=False)
class ChannelGroup:
    """Channels that must be cut together because the graph couples them (residual adds, depthwise, concat...)."""

    name: str
    channels: int
    members: tuple[Slice, ...]
    unit: int = 1
    """Channels that leave together: 1, or the number of groups of a grouped convolution (equal counts in each)."""

    @property
    def units(self) -> int:
        return self.channels // self.unit


@dataclass(frozen=True)
class Objective:
    """A metric with a direction: ``top1 max``."""

    metric: str
    direction: str
    """``max`` or ``min``."""

    @property
    def sign(self) -> int:
        """Multiply by it and smaller is better."""
        return -1 if self.direction == "max" else 1

    def __str__(self) -> str:
        return f"{self.metric} {self.direction}"


@dataclass(frozen=True)
class Constraint:
    """A bound on a metric of the model: ``macs <= 0.5 * baseline``."""

    metric: str
    op: str
    """``<=`` or ``>=``."""
    value: float
    relative: bool = False
    """The value is a multiple of the baseline's metric."""

    def bound(self, baseline: Mapping[str, float]) -> float:
        """The bound in the metric's own unit. Raises KeyError when relative and the baseline lacks the metric."""
        return self.value * baseline[self.metric] if self.relative else self.value

    def miss(self, metrics: Mapping[str, float], baseline: Mapping[str, float]) -> float:
        """How far the metrics are beyond the bound, relative to it; 0 when met, infinite when not measured."""
        if self.metric not in metrics:
            return math.inf
        bound = self.bound(baseline)
        over = metrics[self.metric] - bound if self.op == "<=" else bound - metrics[self.metric]
        if not over > 0:
            return math.inf if math.isnan(over) else 0.0
        return over / abs(bound) if bound else math.inf

    def __str__(self) -> str:
        return f"{self.metric} {self.op} {self.value:g}" + (" * baseline" if self.relative else "")


@dataclass(frozen=True)
class Measurement:
    """What an evaluator yields: metrics after ``step`` validation images (or epochs)."""

    metrics: Mapping[str, float]
    step: int
    seconds: float
    final: bool
    timings: Mapping[str, float] = field(default_factory=dict)
    """Seconds by phase: slice, calibrate, evaluate..."""


@dataclass(frozen=True)
class Proposal:
    """What a controller asks to be measured. ``note`` (JSON) is stored with the trial and comes back on resume."""

    candidate: Candidate
    note: Mapping[str, object] = field(default_factory=dict)


class TrialState(str, Enum):
    RUNNING = "running"
    COMPLETE = "complete"
    STOPPED = "stopped"
    """Ended early on purpose; its metrics are estimates and never enter a front."""
    INFEASIBLE = "infeasible"
    """Breaks a constraint: knowledge, told to the controller as bad."""
    DIVERGED = "diverged"
    """A metric is not finite: knowledge as well, never on a front."""
    FAILED = "failed"
    """An accident, after all retries: frees the slot, the controller learns nothing about the region."""

    @property
    def finished(self) -> bool:
        return self is not TrialState.RUNNING


class OutcomeKind(str, Enum):
    MEASURED = "measured"
    STOPPED = "stopped"
    INFEASIBLE = "infeasible"
    ACCIDENT = "accident"
    """Machine or code failure: retried, then FAILED."""
    OUT_OF_MEMORY = "out_of_memory"
    """An accident that will hardly go better next time: retried once, then FAILED."""

    @property
    def is_accident(self) -> bool:
        return self in (OutcomeKind.ACCIDENT, OutcomeKind.OUT_OF_MEMORY)


@dataclass(frozen=True)
class Outcome:
    """How one attempt at a trial ended, as an executor reports it."""

    kind: OutcomeKind
    metrics: Mapping[str, float] = field(default_factory=dict)
    reason: str = ""
    timings: Mapping[str, float] = field(default_factory=dict)
    worker: str = ""


@dataclass(frozen=True)
class Trial:
    """One candidate of one search, as the store keeps it."""

    number: int
    candidate: Candidate
    state: TrialState
    metrics: Mapping[str, float] = field(default_factory=dict)
    reason: str = ""
    attempt: int = 1
    note: Mapping[str, object] = field(default_factory=dict)
    timings: Mapping[str, float] = field(default_factory=dict)
    """Seconds of the worker by phase: slice, calibrate, evaluate..., then ``report`` and ``wait`` around them."""
    worker: str = ""
    duplicate_of: str = ""
    """``search/number`` of the trial whose measurement was looked up, when this one was not run."""
    started_at: float = 0.0
    """Seconds since the epoch, UTC."""
    finished_at: float | None = None


class SearchState(str, Enum):
    RUNNING = "running"
    """Held by a driver, or left so by one that was killed (its lease has then run out)."""
    COMPLETE = "complete"
    INTERRUPTED = "interrupted"
    """Stopped in good order before its limits; ``resume`` goes on."""
    ABORTED = "aborted"


@dataclass(frozen=True)
class SearchRecord:
    """One search, as the store keeps it."""

    name: str
    digest: str
    """Of the configuration: the same name with another digest is a conflict."""
    evaluation_digest: str
    """Trials of any search with the same one are interchangeable measurements."""
    config: Mapping[str, Any]
    """The resolved configuration."""
    baseline: Mapping[str, float]
    """Metrics of the unpruned model, measured like a trial."""
    state: SearchState
    created_at: float
    updated_at: float
    trial_counts: Mapping[str, int] = field(default_factory=dict)
    """Number of trials by state."""
    channels: Mapping[str, int] = field(default_factory=dict)
    """Full width of each searched group."""


@dataclass(frozen=True)
class WorkerTotals:
    """What one worker process did for a search, by the state that its trials ended in."""

    worker: str
    state: TrialState
    trials: int
    seconds: float
    """At work, and carrying results; without waiting for a trial."""


class LaunchState(str, Enum):
    QUEUED = "queued"
    RUNNING = "running"
    COMPLETE = "complete"
    STOPPED = "stopped"
    """On request, or cut off by Ctrl-C; resume goes on."""
    FAILED = "failed"

    @property
    def ended(self) -> bool:
        return self not in (LaunchState.QUEUED, LaunchState.RUNNING)


@dataclass(frozen=True)
class Launch:
    """A search that waits in a store's queue for a worker, or was taken by one."""

    id: int
    search: str
    config: Mapping[str, Any]
    """The resolved configuration."""
    state: LaunchState
    message: str = ""
    """Why it failed or stopped."""
    created_at: float = 0.0
    started_at: float | None = None
    finished_at: float | None = None
    worker: str = ""
    """``host:process`` of the worker that has it."""
    stopping: bool = False
    """It was asked to stop and has not done so yet."""
    attempts: int = 0
    """How often a driver was started for it."""
    driver: str = ""
    """The driver's process, as ``store.new_owner`` names it."""
