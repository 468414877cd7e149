"""What ``autoprune latency-table`` and ``latency`` print."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from autoprune.cli.options import Format
from autoprune.cli.output import Table, print_csv, print_json, print_table, print_text

if TYPE_CHECKING:
    from autoprune.api.latency_trial import TrialLatency
    from autoprune.latency.advice import Advice
    from autoprune.latency.measure import Latency
    from autoprune.latency.table import LatencyTable

__all__ = ["print_latency", "print_latency_table", "print_trial_latency"]

_MOST_GROUPS = 16
_MULTIPLES = (1, 2, 4, 8, 16, 32)


def print_latency_table(table: LatencyTable, out: str, format: Format) -> None:
    """The error of the predictions, and the multiples that widths should have; ``out`` is the table's file."""
    if format is Format.json:
        return print_json(_summary(table, out))
    if format is Format.csv:
        return print_csv(_checked_rows(table), ("measured_ms", "predicted_ms", "error"))
    return _print(table)


def print_latency(found: Latency, spec: str, format: Format) -> None:
    """One network."""
    row = {
        "median_ms": found.median_ms,
        "p10_ms": found.p10_ms,
        "p90_ms": found.p90_ms,
        "min_ms": found.min_ms,
        "runs": found.runs,
        "disturbed": found.disturbed,
        "drift": found.drift,
        "settings": str(found.settings),
        "device": found.device,
    }
    if format is Format.json:
        return print_json(row)
    if format is Format.csv:
        return print_csv([row], tuple(row))
    caption = f"{found.settings}; {found.device}"
    table = Table("median", "p10", "p90", "least", "runs", "disturbed", "drift", title=spec, caption=caption)
    times = [_ms(value) for value in (found.median_ms, found.p10_ms, found.p90_ms, found.min_ms)]
    table.add(*times, str(found.runs), f"{100 * found.disturbed:.0f} %", f"{100 * found.drift:+.1f} %")
    print_table(table)
    return None


def print_trial_latency(found: TrialLatency, format: Format) -> None:
    """Dense and pruned network, measured and predicted."""
    content = found.to_dict()
    if format is Format.json:
        return print_json(content)
    rows = [{"network": kind, **content[kind]} for kind in ("dense", "pruned")]
    if format is Format.csv:
        return print_csv(rows, tuple(rows[0]))
    caption = f"{found.dense.settings}; {found.dense.device}"
    columns = ("median", "p10", "p90", "least", "predicted", "error")
    table = Table("network", *columns, left=("network",), title=found.name, caption=caption)
    for row in rows:
        predicted = row["predicted_ms"]
        known = (
            ["-", "-"] if predicted is None else [_ms(predicted), f"{100 * (predicted / row['median_ms'] - 1):+.1f} %"]
        )
        table.add(row["network"], *(_ms(row[key]) for key in ("median_ms", "p10_ms", "p90_ms", "min_ms")), *known)
    print_table(table)
    told = "" if found.predicted is None else f"; predicted {found.predicted.speedup:.2f}"
    low, high = found.speedup_low, found.speedup_high
    print_text(f"Speed-up {found.speedup:.2f} (half of the rounds: {low:.2f} to {high:.2f}){told}.")
    if found.remark:
        print_text(f"Note: {found.remark}.")
    return None


def _ms(value: float) -> str:
    return f"{value:.3f} ms"


def _print(table: LatencyTable) -> None:
    errors = table.held_out.errors
    checked = Table(
        "networks held out",
        "measured",
        "median error",
        "90th percentile",
        "largest",
        title=f"{table.name}: predicted against measured latency",
        caption=f"{table.settings}; {table.device}",
    )
    low, high = table.held_out.measured_ms.min(), table.held_out.measured_ms.max()
    shares = [f"{100 * value:.1f} %" for value in (table.median_error, table.p90_error, errors.max())]
    checked.add(str(len(errors)), f"{low:.2f} to {high:.2f} ms", *shares)
    print_table(checked)
    print_table(_steps(table))


def _steps(table: LatencyTable) -> Table:
    """Time lost by widths that are multiples of 1, 2, 4..., group by group, those with most of the time first."""
    from autoprune.api.latency import multiples

    whole, groups = multiples(table)
    shown = sorted(groups, key=lambda name: -groups[name].share)[:_MOST_GROUPS]
    hidden = f" The other {len(groups) - len(shown)} groups are in --format json." if len(shown) < len(groups) else ""
    steps = Table(
        "group",
        "channels",
        "share of time",
        *(f"of {multiple}" for multiple in _MULTIPLES),
        "multiple of",
        left=("group",),
        title="Time above the lower envelope of neighbouring widths, at widths that are multiples",
        caption=(
            "Suggested is the smallest multiple within 2 points of the best. A rule 'multiple: N' for all groups costs "
            "no more than the last line says." + hidden
        ),
    )
    for name in shown:
        steps.add(name, str(table.groups[name].channels), *_advice_cells(groups[name]))
    steps.add("all layers that were swept", "", *_advice_cells(whole))
    return steps


def _advice_cells(advice: Advice) -> list[str]:
    lost = [f"{100 * advice.waste[multiple]:.0f} %" if multiple in advice.waste else "-" for multiple in _MULTIPLES]
    return [f"{100 * advice.share:.0f} %" if advice.measured else "-", *lost, advice.text]


def _advice_data(advice: Advice) -> dict[str, Any]:
    multiple = advice.multiple if advice.measured and not advice.noisy else None
    return {
        "multiple": multiple,
        "share": advice.share,
        "waste": {str(key): item for key, item in advice.waste.items()},
    }


def _summary(table: LatencyTable, out: str) -> dict[str, Any]:
    from autoprune.api.latency import multiples

    whole, groups = multiples(table)
    return {
        "file": out,
        "name": table.name,
        "device": table.device,
        "settings": vars(table.settings),
        "made": table.made,
        "median_error": table.median_error,
        "p90_error": table.p90_error,
        "advice": _advice_data(whole),
        "groups": {name: _advice_data(advice) for name, advice in groups.items()},
        "held_out": _checked_rows(table),
        "staircases": [{**vars(item), "multiple": item.multiple} for item in table.staircases],
    }


def _checked_rows(table: LatencyTable) -> list[dict[str, float]]:
    timed = table.held_out
    rows = zip(timed.measured_ms, timed.predicted_ms, timed.errors, strict=True)
    return [{"measured_ms": float(m), "predicted_ms": float(p), "error": float(e)} for m, p, e in rows]
