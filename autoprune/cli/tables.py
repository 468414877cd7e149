"""How each result of the api looks as a table, as JSON and as CSV."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from autoprune.analysis.metrics import is_intermediate, ordered
from autoprune.analysis.timings import PHASES, bottleneck, in_words, phase_times
from autoprune.cli.formatting import format_count, format_duration, format_metric, format_time
from autoprune.cli.options import Format
from autoprune.cli.output import Table, print_csv, print_json, print_table, print_text

if TYPE_CHECKING:
    from pathlib import Path

    from autoprune.analysis.front import Front
    from autoprune.analysis.nodes import NodeFigures
    from autoprune.analysis.selection import Selection
    from autoprune.api import SpaceReport
    from autoprune.types import SearchRecord, Trial

__all__ = ["print_front", "print_nodes", "print_searches", "print_selection", "print_space", "print_trials"]

_MACS = "macs: multiply-accumulates of one forward pass at batch 1; flops = 2 * macs."
_SPLITS = "top1 and loss are of the search-val split; test_* are of the test split, which no search sees."


def print_front(front: Front, format: Format) -> None:
    """The front, cheapest first, and the baseline below it."""
    if format is Format.json:
        return print_text(front.to_json())
    if format is Format.csv:
        return print_text(front.to_csv())
    names = [name for name in front.metric_names() if not is_intermediate(name)]
    table = Table(
        "trial",
        *names,
        optional=_optional(front.x.metric, front.y.metric),
        title=f"{front.search}: {len(front.trials)} on the front of {front.considered} trials ({front.y}, {front.x})",
        caption=f"{_MACS} Percentages of the baseline." + (f"\n{_SPLITS}" if "top1" in names else ""),
    )
    for trial in front.trials:
        table.add(str(trial.number), *(format_metric(name, trial.metrics, front.baseline) for name in names))
    for point in front.points:
        table.add(point.label, *(format_metric(name, point.metrics, front.baseline) for name in names), style="yellow")
    table.add("baseline", *(format_metric(name, front.baseline) for name in names), style="dim")
    print_table(table)


def print_searches(records: Sequence[SearchRecord], format: Format) -> None:
    rows = [
        {
            "search": record.name,
            "state": record.state.value,
            "trials": sum(record.trial_counts.values()),
            "complete": record.trial_counts.get("complete", 0),
            "digest": record.digest,
            "created_at": record.created_at,
            "updated_at": record.updated_at,
        }
        for record in records
    ]
    if format is Format.json:
        extra = [{"trial_counts": dict(record.trial_counts), "baseline": dict(record.baseline)} for record in records]
        return print_json([{**row, **more} for row, more in zip(rows, extra, strict=True)])
    columns = list(rows[0]) if rows else ["search", "state", "trials", "complete", "digest", "created_at", "updated_at"]
    if format is Format.csv:
        return print_csv(rows, columns)
    table = Table("search", "state", "trials", "complete", "baseline", "updated", left=["search", "state", "baseline"])
    for record, row in zip(records, rows, strict=True):
        table.add(
            record.name,
            record.state.value,
            str(row["trials"]),
            str(row["complete"]),
            _summary(record.baseline),
            format_time(record.updated_at),
        )
    print_table(table)


def print_trials(trials: Sequence[Trial], format: Format) -> None:
    if format is Format.json:
        return print_json([_trial_content(trial) for trial in trials])
    names = ordered(name for trial in trials for name in trial.metrics)
    estimates = any(_estimated(trial, "top1") for trial in trials)
    if format is Format.csv:
        groups = list(dict.fromkeys(name for trial in trials for name in trial.candidate.widths))
        phases = list(dict.fromkeys([*PHASES, *(name for trial in trials for name in trial.timings)]))
        rows = [
            {
                **_trial_content(trial),
                **{f"{name}_seconds": value for name, value in trial.timings.items()},
                **trial.metrics,
                **trial.candidate.widths,
            }
            for trial in trials
        ]
        timed = [f"{name}_seconds" for name in phases]
        return print_csv(rows, ["trial", "state", *names, "attempt", "seconds", *timed, "worker", "reason", *groups])
    notes = [_time_spent(trials)]
    if estimates:
        notes.append("~ estimate of a trial that racing stopped after so many images (ASHA: epochs); never on a front.")
    caption = "\n".join(filter(None, notes))
    names = [name for name in names if not is_intermediate(name)]
    table = Table(
        "trial", "state", *names, "seconds", "why", left=["state", "why"], optional=_optional(), caption=caption
    )
    for trial in trials:
        seconds = _seconds(trial)
        table.add(
            str(trial.number),
            trial.state.value,
            *(_estimated(trial, name) + format_metric(name, trial.metrics) for name in names),
            "-" if seconds is None else format_duration(seconds),
            f"as {trial.duplicate_of}" if trial.duplicate_of else trial.reason,
        )
    print_table(table)


def print_selection(selection: Selection, format: Format) -> None:
    """The selected trial: metrics beside the baseline's, and the widths."""
    trial, baseline = selection.trial, selection.baseline
    names = ordered([*trial.metrics, *baseline])
    if format is Format.csv:
        row = {"trial": trial.number, **trial.metrics, **trial.candidate.widths}
        return print_csv([row], ["trial", *ordered(trial.metrics), *trial.candidate.widths])
    if format is Format.json:
        content = {
            "search": selection.search,
            "trial": trial.number,
            "digest": trial.candidate.digest,
            "widths": dict(trial.candidate.widths),
            "metrics": dict(trial.metrics),
            "baseline": dict(baseline),
            "considered": selection.considered,
            "timings": dict(trial.timings),
        }
        return print_json(content)
    title = f"{selection.search}: trial {trial.number} (of {selection.considered} complete trials)"
    measured = f"Measured on worker {trial.worker}: {in_words(trial.timings)}." if trial.timings else ""
    caption = "\n".join(filter(None, [_MACS, measured]))
    table = Table("", "selected", "baseline", left=[""], title=title, caption=caption)
    for name in names:
        table.add(name, format_metric(name, trial.metrics, baseline), format_metric(name, baseline))
    print_table(table)
    widths = Table("group", "channels kept", left=["group"])
    for group, width in trial.candidate.widths.items():
        widths.add(group, str(width))
    print_table(widths)


def print_space(space: SpaceReport, format: Format) -> None:
    rows: list[dict[str, Any]] = [
        {
            "group": group.name,
            "channels": group.channels,
            "unit": group.unit,
            "allowed": list(group.allowed),
            "members": list(group.members),
            "macs_share": group.macs_share,
            "error": group.error,
        }
        for group in space.groups
    ]
    if format is Format.json:
        content = {
            "name": space.name,
            "baseline": dict(space.baseline),
            "size": str(space.size),
            "groups": rows,
            "left_out": dict(space.left_out),
            "uncounted": list(space.uncounted),
            "prunable": space.prunable,
            "error": space.error,
        }
        return print_json(content)
    if format is Format.csv:
        for row, group in zip(rows, space.groups, strict=True):
            row["allowed"], row["members"] = " ".join(map(str, group.allowed)), " ".join(group.members)
        return print_csv(rows, ["group", "channels", "unit", "allowed", "members", "macs_share", "error"])
    table = Table(
        "group",
        "channels",
        "allowed",
        "share of MACs",
        *(["error"] if any(group.error is not None for group in space.groups) else []),
        "cut together",
        left=["group", "allowed", "cut together"],
        title=f"{space.name}: {len(space.groups)} groups, {_big(space.size)} candidates; {_summary(space.baseline)}",
        caption=f"{_MACS} A layer counts for each group that it touches.",
    )
    for group in space.groups:
        table.add(
            group.name,
            str(group.channels),
            _allowed(group.allowed),
            f"{100 * group.macs_share:.1f} %",
            *([f"{group.error:.0e}"] if group.error is not None else []),
            _members(group.members),
        )
    print_table(table)
    for line in _remarks(space):
        print_text(line)


def _estimated(trial: Trial, name: str) -> str:
    """``~`` before what a stopped trial measured on a part of the images; its costs are exact."""
    stopped = trial.state.value == "stopped" and name in ("top1", "loss") and name in trial.metrics
    return "~" if stopped else ""


def _optional(*axes: str) -> list[str]:
    """Metrics that follow from others or matter least, unless they are an axis."""
    spare = ("test_loss", "loss", "keep_ratio", "flops", "test_top5", "top5", "params")
    return [name for name in spare if name not in axes]


def _remarks(space: SpaceReport) -> list[str]:
    lines = [f"prunable: layers with {100 * space.prunable:.1f} % of the MACs"]
    lines += [f"left out: {name}: {reason}" for name, reason in space.left_out.items()]
    if space.uncounted:
        lines.append(f"not counted as MACs: {', '.join(space.uncounted)}")
    if space.error is not None:
        lines.append(f"checked: sliced and masked outputs differ by at most {space.error:.1e} (float64, relative)")
    return lines


def _trial_content(trial: Trial) -> dict[str, Any]:
    return {
        "trial": trial.number,
        "state": trial.state.value,
        "digest": trial.candidate.digest,
        "widths": dict(trial.candidate.widths),
        "metrics": dict(trial.metrics),
        "reason": trial.reason,
        "attempt": trial.attempt,
        "seconds": _seconds(trial),
        "timings": dict(trial.timings),
        "worker": trial.worker,
        "duplicate_of": trial.duplicate_of,
        "note": dict(trial.note),
    }


def _time_spent(trials: Sequence[Trial]) -> str:
    """Medians by phase, and what slows the search down."""
    phases = phase_times(trials)
    if not phases:
        return ""
    medians = in_words({phase.name: phase.median_seconds for phase in phases})
    return f"Median time a trial: {medians}. {bottleneck(phases)}"


def _seconds(trial: Trial) -> float | None:
    return None if trial.finished_at is None else max(trial.finished_at - trial.started_at, 0.0)


def _summary(metrics: Mapping[str, float]) -> str:
    """``top1 91.24 %, macs 40.8M, params 270k``."""
    return ", ".join(f"{name} {format_metric(name, metrics)}" for name in ("top1", "macs", "params") if name in metrics)


def _allowed(widths: Sequence[int]) -> str:
    """``4, 8, ..., 64`` where the steps are even, else all of them.

    >>> _allowed((4, 8, 12, 16)), _allowed((4, 8, 10)), _allowed((8,))
    ('4, 8, ..., 16', '4, 8, 10', '8')
    """
    steps = {high - low for low, high in pairwise(widths)}
    if len(widths) > 3 and len(steps) == 1:
        return f"{widths[0]}, {widths[1]}, ..., {widths[-1]}"
    return ", ".join(str(width) for width in widths)


def _members(members: Sequence[str]) -> str:
    """A few of the weights; biases and statistics always go with theirs.

    >>> _members(("a.weight[0]", "a.bias[0]", "b.weight[1]"))
    'a.weight[0], b.weight[1] and 1 more'
    """
    shown = [member for member in members if "weight[" in member][:3] or list(members[:3])
    hidden = len(members) - len(shown)
    return ", ".join(shown) + (f" and {hidden} more" if hidden else "")


def _big(number: int) -> str:
    return format_count(float(number)) if number < 10**9 else f"about 10^{len(str(number)) - 1}"


def print_nodes(nodes: Sequence[NodeFigures], folder: Path, format: Format) -> None:
    """As json with the folder of the report, or csv."""
    rows = [vars(node) for node in nodes]
    if format is Format.json:
        return print_json({"report": str(folder), "nodes": rows})
    print_csv(rows, ["node", "workers", "trials", "failures", "busy_seconds", "trials_per_minute", "share"])
