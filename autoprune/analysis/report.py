"""A search on one HTML page that needs nothing else: no script, no network, no other file."""

from __future__ import annotations

import math
import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from autoprune.analysis.figures import front_svg, history_svg
from autoprune.analysis.front import Front
from autoprune.analysis.metrics import axis, describe, finite, format_value
from autoprune.analysis.pareto import comparable, hypervolume_history, minimised, reference_point
from autoprune.analysis.timings import bottleneck, phase_times
from autoprune.types import SearchRecord, Trial, TrialState

__all__ = ["write_report"]

_SHOWN_WIDTHS = 4
_SHOWN_FAILURES = 50


@dataclass(frozen=True)
class WidthBars:
    """The widths of one model, as shares of the full widths."""

    title: str
    groups: tuple[tuple[str, int, int, float], ...]
    """Name, channels kept, channels in the baseline, percent."""


def write_report(
    path: str | Path,
    *,
    record: SearchRecord,
    trials: Sequence[Trial],
    front: Front,
    facts: Mapping[str, str] | None = None,
    command: str = "",
    channels: Mapping[str, int] | None = None,
) -> Path:
    """Write the report of a search; makes the folder.

    Test accuracies are shown where trials carry ``test_*`` metrics. ``facts`` are hardware and versions as they are
    to be printed. ``command`` runs the search again; by default from a file with the configuration that the report
    prints. ``channels``: those of each group in the baseline; without it, widths are shares of the widest trial's.
    """
    import jinja2

    times = phase_times(trials)
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("autoprune.analysis"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    page = environment.get_template("report.html.j2").render(
        record=record,
        front=front,
        counts=_counts(trials),
        objectives=", ".join(record.config.get("objectives", ())) or f"{front.y}, {front.x}",
        budgets=", ".join(record.config.get("constraints", ())) or "none",
        front_svg=front_svg(front, trials),
        history=_history(record, trials, front),
        table=_table(front),
        has_test=any(name.startswith("test_") for name in front.metric_names()),
        validation_images=_at(record.config, "evaluator", "validation_images"),
        widths=_width_bars(front, channels or _widest(trials)),
        widths_known=channels is not None,
        timings=times,
        bottleneck=bottleneck(times),
        reused=sum(bool(trial.duplicate_of) for trial in trials),
        stopped=_stopped(trials),
        failures=_failures(trials)[:_SHOWN_FAILURES],
        failure_count=len(_failures(trials)),
        config=_yaml(record.config),
        command=command or f"autoprune search {shlex.quote(record.name)}.yaml",
        facts=dict(facts or {}),
    )
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(page, encoding="utf-8")
    return target


def _counts(trials: Sequence[Trial]) -> dict[str, int]:
    counts = {state.value: sum(trial.state is state for trial in trials) for state in TrialState}
    return {state: count for state, count in counts.items() if count or state == "complete"}


def _table(front: Front) -> dict[str, Any]:
    """Headings and rows of text; costs have their share of the baseline."""
    names = [name for name in front.metric_names() if name != "loss" and name != "test_loss"]
    base = front.baseline
    rows = [[str(trial.number), *(_cell(name, trial.metrics, base) for name in names)] for trial in front.trials]
    rows.append(["baseline", *(_cell(name, base, {}) for name in names)])
    return {"names": names, "labels": [describe(name).label for name in names], "rows": rows}


def _cell(name: str, metrics: Mapping[str, float], baseline: Mapping[str, float]) -> str:
    text = format_value(name, metrics.get(name, math.nan))
    if describe(name).kind in ("count", "ms", "bytes") and finite(metrics, name) and baseline.get(name, 0) > 0:
        return f"{text} ({100 * metrics[name] / baseline[name]:.1f} %)"
    return text


def _history(record: SearchRecord, trials: Sequence[Trial], front: Front) -> dict[str, Any] | None:
    """The hypervolume by trials in order of finishing; None when nothing can be compared."""
    objectives = [axis(text) for text in record.config.get("objectives", ())] or [front.y, front.x]
    usable = comparable(trials, objectives)
    if not usable:
        return None
    finished = sorted(
        (trial for trial in trials if trial.finished_at is not None), key=lambda trial: trial.finished_at or 0.0
    )
    points = minimised(usable, objectives)
    corner = reference_point(points)
    volumes = hypervolume_history(finished, objectives, corner)
    box = float((corner - points.min(axis=0)).prod())
    at = ", ".join(
        f"{each.metric} {format_value(each.metric, each.sign * float(value))}"
        for each, value in zip(objectives, corner, strict=True)
    )
    return {"svg": history_svg((volumes / box).tolist()), "reference": at}


def _widest(trials: Sequence[Trial]) -> dict[str, int]:
    full: dict[str, int] = {}
    for trial in trials:
        for name, width in trial.candidate.widths.items():
            full[name] = max(full.get(name, 0), width)
    return full


def _width_bars(front: Front, full: Mapping[str, int]) -> list[WidthBars]:
    """A few members spread over the front."""
    shown = sorted({round(i * (len(front.trials) - 1) / (_SHOWN_WIDTHS - 1)) for i in range(_SHOWN_WIDTHS)})
    bars = []
    for trial in (front.trials[i] for i in shown if front.trials):
        kept = trial.candidate.widths
        groups = tuple((name, width, full[name], 100 * width / full[name]) for name, width in kept.items())
        axes = (front.y.metric, front.x.metric)
        summary = ", ".join(f"{name} {_cell(name, trial.metrics, front.baseline)}" for name in axes)
        bars.append(WidthBars(f"trial {trial.number}: {summary}", groups))
    return bars


def _stopped(trials: Sequence[Trial]) -> dict[str, int]:
    """How many trials racing stopped, and after how many images on average; empty without any."""
    images = [trial.metrics["images"] for trial in trials if _raced(trial)]
    return {"count": len(images), "images": round(sum(images) / len(images))} if images else {}


def _raced(trial: Trial) -> bool:
    return trial.state is TrialState.STOPPED and finite(trial.metrics, "images")


def _failures(trials: Sequence[Trial]) -> list[Trial]:
    accidents = (TrialState.FAILED, TrialState.DIVERGED, TrialState.INFEASIBLE)
    return [trial for trial in trials if trial.state in accidents]


def _at(config: Mapping[str, Any], *keys: str) -> Any:
    """A nested setting, None where the configuration has none."""
    value: Any = config
    for key in keys:
        value = value.get(key) if isinstance(value, Mapping) else None
    return value


def _yaml(config: Mapping[str, Any]) -> str:
    """The configuration as YAML; a password in the store's URL is not printed, since reports are passed around."""
    import yaml

    text = yaml.safe_dump(dict(config), sort_keys=False, allow_unicode=True, width=110)
    return re.sub(r"(://[^:/@\s]*):[^@\s]*@", r"\1:***@", text)
