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
from autoprune.analysis.history import History
from autoprune.analysis.metrics import describe, finite, format_value, is_intermediate
from autoprune.analysis.nodes import NodeFigures
from autoprune.analysis.overview import ACCIDENTS, Overview, search_objectives, summarise
from autoprune.analysis.timings import bottleneck, phase_times
from autoprune.files import write_text
from autoprune.types import SearchRecord, Trial

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
    overview: Overview | None = None,
    audits: Sequence[str] = (),
    nodes: Sequence[NodeFigures] = (),
) -> Path:
    """Write the report of a search; makes the folder.

    Test accuracies are shown where trials carry ``test_*`` metrics. ``facts`` are hardware and versions as they are
    to be printed. ``command`` runs the search again; by default from a file with the configuration that the report
    prints. ``channels``: those of each group in the baseline; without it, widths are shares of the widest trial's.
    ``overview``: of all trials, where ``trials`` are only some of them. ``audits``: what audits of the ranking found.
    ``nodes``: what each did, shown where there are several.
    """
    import jinja2

    overview = overview or summarise(record, trials, search_objectives(record))
    failures = [trial for trial in trials if trial.state in ACCIDENTS][:_SHOWN_FAILURES]
    times = phase_times(trials)
    function = _at(record.config, "space", "data", "name")  # of a search over a module in hand
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
        audits=audits,
        counts=_counts(overview),
        objectives=", ".join(record.config.get("objectives", ())) or f"{front.y}, {front.x}",
        budgets=", ".join(record.config.get("constraints", ())) or "none",
        front_svg=front_svg(front, trials, overview.others),
        history=_history(overview.history),
        table=_table(front),
        has_test=any(name.startswith("test_") for name in front.metric_names()),
        function=function,
        validation_images=_at(record.config, "evaluator", "validation_images"),
        fine_tuned=_at(record.config, "fidelity", "epochs"),
        widths=_width_bars(front, channels or _widest(trials)),
        widths_known=channels is not None,
        timings=times,
        bottleneck=bottleneck(times),
        nodes=nodes if len(nodes) > 1 else (),
        reused=overview.reused,
        stopped=_stopped(overview),
        failures=failures,
        failure_count=overview.failures,
        config=_yaml(record.config),
        command=command or _command(record.name, in_hand=bool(function)),
        facts=dict(facts or {}),
    )
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    write_text(target, page)
    return target


def _command(name: str, *, in_hand: bool) -> str:
    return f"autoprune.search_module(..., name={name!r})" if in_hand else f"autoprune search {shlex.quote(name)}.yaml"


def _counts(overview: Overview) -> dict[str, int]:
    return {state: count for state, count in overview.counts.items() if count or state == "complete"}


def _table(front: Front) -> dict[str, Any]:
    """Headings and rows of text; costs have their share of the baseline."""
    hidden = ("loss", "test_loss")
    names = [name for name in front.metric_names() if name not in hidden and not is_intermediate(name)]
    base = front.baseline
    rows = [[str(trial.number), *(_cell(name, trial.metrics, base) for name in names)] for trial in front.trials]
    rows += [[point.label, *(_cell(name, point.metrics, base) for name in names)] for point in front.points]
    rows.append(["baseline", *(_cell(name, base, {}) for name in names)])
    return {"names": names, "labels": [describe(name).label for name in names], "rows": rows}


def _cell(name: str, metrics: Mapping[str, float], baseline: Mapping[str, float]) -> str:
    text = format_value(name, metrics.get(name, math.nan))
    if describe(name).kind in ("count", "ms", "bytes") and finite(metrics, name) and baseline.get(name, 0) > 0:
        return f"{text} ({100 * metrics[name] / baseline[name]:.1f} %)"
    return text


def _history(history: History) -> dict[str, Any] | None:
    """The hypervolume by trial; None when nothing can be compared."""
    return {"svg": history_svg(history), "reference": history.describe_reference()} if history.box else None


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


def _stopped(overview: Overview) -> dict[str, Any]:
    """How many trials were stopped, and after how many images or epochs on average; empty without any."""
    count = overview.counts.get("stopped", 0)
    if overview.stopped_epochs is not None:
        return {"count": count, "epochs": f"{overview.stopped_epochs:.2g}"}
    return {} if overview.stopped_images is None else {"count": count, "images": round(overview.stopped_images)}


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
