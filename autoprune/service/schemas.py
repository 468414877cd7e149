"""What goes over the wire. Numbers that are not finite are null; times are seconds since the epoch, UTC."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

__all__ = [
    "ComparisonsBody",
    "CandidateBody",
    "ErrorBody",
    "ExportBody",
    "ExportRequest",
    "FrontBody",
    "HealthBody",
    "HistoryBody",
    "InfeasibleBody",
    "KindsBody",
    "LaunchBody",
    "LaunchesBody",
    "LogBody",
    "ResumeBody",
    "PresetsBody",
    "SearchBody",
    "SearchesBody",
    "SelectionBody",
    "TrialBody",
    "TemplatesBody",
    "TrialsBody",
    "ValidationBody",
    "example",
]

Metrics = dict[str, float | None]


def example(**content: Any) -> ConfigDict:
    """Settings of a model with an example for the OpenAPI document."""
    return ConfigDict(json_schema_extra={"examples": [content]})


class ErrorDetail(BaseModel):
    code: str
    """``not_found``, ``invalid``, ``conflict``, ``unauthorized``..."""
    message: str
    hint: str = ""


class ErrorBody(BaseModel):
    """Every error, whatever its status."""

    model_config = example(
        error={
            "code": "not_found",
            "message": "no search named 'digit' in this store.",
            "hint": "Did you mean 'digits'?",
        }
    )
    error: ErrorDetail


class Miss(BaseModel):
    constraint: str
    metric: str
    value: float | None
    bound: float


class Nearest(BaseModel):
    trial: int
    misses: list[Miss]


class InfeasibleBody(BaseModel):
    """No trial meets the budgets (``nothing_feasible``), or the request is not understood (``invalid``)."""

    model_config = example(
        error={"code": "nothing_feasible", "message": "none of 60 complete trials meets 'macs <= 1e+05'.", "hint": ""},
        nearest={
            "trial": 7,
            "misses": [{"constraint": "macs <= 1e+05", "metric": "macs", "value": 4.1e5, "bound": 1e5}],
        },
    )
    error: ErrorDetail
    nearest: Nearest | None = None
    """The trial that comes nearest, and by how much it misses each budget."""


class HealthBody(BaseModel):
    model_config = example(status="ok", version="0.1.0", store="ok", launching=True)
    status: Literal["ok", "degraded"]
    version: str
    store: Literal["ok", "unavailable"]
    launching: bool
    """Whether this server takes launches."""


class SearchSummary(BaseModel):
    name: str
    state: Literal["running", "complete", "interrupted", "aborted"]
    driven: bool
    """A driver works on it now. ``running`` without one: its driver was killed; resume it."""
    objectives: list[str]
    constraints: list[str]
    controller: str
    trials: int
    """Finished ones."""
    limit: int | None
    """``limits.trials``."""
    trial_counts: dict[str, int]
    baseline: Metrics
    created_at: float
    updated_at: float


class SearchesBody(BaseModel):
    searches: list[SearchSummary]
    """The youngest first."""


class SearchBody(SearchSummary):
    digest: str
    evaluation_digest: str
    config: dict[str, Any]
    """The resolved configuration."""
    channels: dict[str, int]
    """Full width of each group."""
    metrics: list[str]
    """What its complete trials measured: names for axes, filters and sorting."""


class TrialBody(BaseModel):
    number: int
    digest: str
    state: Literal["running", "complete", "stopped", "infeasible", "diverged", "failed"]
    widths: dict[str, int]
    metrics: Metrics
    reason: str
    """Why it was stopped or failed."""
    attempt: int
    note: dict[str, Any]
    """The controller's; ``origin: uniform`` marks uniform widths."""
    timings: dict[str, float]
    worker: str
    duplicate_of: str
    """``search/number`` of the equal candidate whose measurement was taken over."""
    started_at: float
    finished_at: float | None


class TrialsBody(BaseModel):
    trials: list[TrialBody]
    next: str | None
    """The ``cursor`` of the next page; null: this is the last one."""
    total: int | None
    """How many trials there are over all pages; null where it is not known."""


class AxisBody(BaseModel):
    metric: str
    direction: Literal["min", "max"]
    label: str
    kind: Literal["fraction", "count", "ms", "bytes", "plain"]
    """How to print it: a fraction in %, a count as k, M, G."""


class PointsBody(BaseModel):
    """Columns of equal length: light for many points."""

    number: list[int]
    values: list[list[float]]
    """One list an axis."""


class OthersBody(PointsBody):
    total: int
    """Comparable trials off the front; of more than were asked for, some are here."""


class FrontBody(BaseModel):
    search: str
    axes: list[AxisBody]
    constraints: list[str]
    baseline: Metrics
    considered: int
    """Complete trials that met the constraints and have all axes."""
    front: list[TrialBody]
    """Cheapest first; never thinned."""
    others: OthersBody
    uniform: list[int]
    """Numbers of the trials with uniform widths, on the front or among the others."""
    updated_at: float


class SelectionBody(BaseModel):
    search: str
    trial: TrialBody
    baseline: Metrics
    considered: int


class GroupWidth(BaseModel):
    group: str
    channels: int
    width: int
    keep_ratio: float


class CandidateBody(BaseModel):
    search: str
    trial: TrialBody
    groups: list[GroupWidth]
    """In the order of the network."""
    baseline: Metrics
    shares: Metrics
    """Each metric of cost as a share of the baseline's."""
    digest: str
    """Of the search's configuration."""
    evaluation_digest: str
    """Trials with an equal one are comparable measurements."""
    exportable: bool


class HistoryBody(BaseModel):
    search: str
    axes: list[AxisBody]
    reference: Metrics
    """The reference point of the hypervolume."""
    box: float
    """Volume between the reference and the best value of each axis."""
    trials: int
    trial: list[int]
    """Numbers of the trials that moved the front, and the last."""
    hypervolume: list[float]
    share: list[float]
    """Of the box between the best values and the reference."""
    seconds: list[float | None]
    """Since the first trial started."""


class PresetBody(BaseModel):
    label: str
    """The procedure, in short."""
    widths: dict[str, int]
    metrics: Metrics


class PresetsBody(BaseModel):
    model_config = example(
        presets=[{"label": "li2016", "widths": {"conv1": 12}, "metrics": {"top1": 0.7, "macs": 2e7}}]
    )
    presets: list[PresetBody]
    """In the order in which they were made."""


class Comparison(BaseModel):
    search: str
    report: dict[str, Any]
    """``comparison.json`` of ``autoprune compare``: subjects, table, differences, verdicts, tau, notes."""
    written_at: float


class KindBody(BaseModel):
    name: str
    summary: str
    configuration: dict[str, Any]
    """JSON schema of its settings."""


class KindsBody(BaseModel):
    kinds: list[KindBody]


class ComparisonsBody(BaseModel):
    comparisons: list[Comparison] = Field(default_factory=list)


class LaunchBody(BaseModel):
    """A search that waits for a worker, or was taken by one."""

    model_config = example(
        id=3,
        search="digits-quickstart",
        state="queued",
        message="",
        created_at=1.77e9,
        started_at=None,
        finished_at=None,
        worker="",
        stopping=False,
        position=1,
    )
    id: int
    search: str
    state: Literal["queued", "running", "complete", "stopped", "failed"]
    message: str
    """Why it failed or stopped."""
    created_at: float
    started_at: float | None
    finished_at: float | None
    worker: str
    """``host:process``."""
    stopping: bool
    """It was asked to stop and has not done so yet."""
    position: int | None
    """In the queue, from 1."""


class LaunchesBody(BaseModel):
    launches: list[LaunchBody]
    """The youngest first."""


class LogBody(BaseModel):
    text: str
    next: int
    """The ``after`` of the next call: bytes."""
    ended: bool
    """The launch has ended and this was the rest."""


class ResumeBody(BaseModel):
    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{"trials": 200}]})
    trials: int | None = Field(None, ge=1, le=10**9)
    """A new limit."""


class Problem(BaseModel):
    line: int | None
    message: str


class ValidationBody(BaseModel):
    valid: bool
    problems: list[Problem]
    hint: str
    config: dict[str, Any] | None
    """As it would run."""


class Template(BaseModel):
    name: str
    summary: str
    yaml: str


class TemplatesBody(BaseModel):
    templates: list[Template]


class ExportRequest(BaseModel):
    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{"format": "onnx"}]})
    format: Literal["safetensors", "onnx", "torch_export", "torchscript"] = "safetensors"
    fold_bn: bool = False
    """Fold BatchNorm into the layers before it (not for safetensors)."""


class ExportBody(BaseModel):
    model_config = example(
        id="0123456789abcdef", search="s", trial=7, format="onnx", state="ready", message="", bytes=310_000
    )
    id: str
    search: str
    trial: int
    format: str
    state: Literal["running", "ready", "failed"]
    message: str
    """Why it failed."""
    bytes: int | None
