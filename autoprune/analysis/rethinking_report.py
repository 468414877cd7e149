"""The files of a comparison: tables as CSV, everything as JSON, the figure, and one HTML page."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from autoprune.analysis.finite import finite
from autoprune.analysis.metrics import format_count
from autoprune.analysis.rethinking import Comparison
from autoprune.analysis.rethinking_plot import arms_figure
from autoprune.analysis.rethinking_words import (
    COLUMNS,
    DIFFERENCES,
    audit,
    conventions,
    differences,
    rows,
    run_rows,
    verdicts,
)

__all__ = ["HEADINGS", "as_json", "cells", "sentences", "write_comparison"]

HEADINGS = (
    "model",
    "MACs",
    "arm",
    "epochs",
    "runs",
    "search-val top1",
    "test top1",
    "training MACs",
    "total",
    "seconds",
)
_RUNS = ("subject", "arm", "seed", "epochs", "top1", "test_top1", "training_macs", "seconds")


def write_comparison(comparison: Comparison, folder: Path, *, facts: Mapping[str, str]) -> None:
    """Write ``table.csv``, ``runs.csv``, ``differences.csv``, ``comparison.json``, ``arms.png`` and ``report.html``;
    ``facts`` are hardware and versions."""
    folder.mkdir(parents=True, exist_ok=True)
    _csv(folder / "table.csv", COLUMNS, rows(comparison))
    _csv(folder / "runs.csv", _RUNS, run_rows(comparison))
    _csv(folder / "differences.csv", DIFFERENCES, differences(comparison))
    content = {**as_json(comparison), "facts": dict(facts)}
    (folder / "comparison.json").write_text(json.dumps(finite(content), indent=2) + "\n", encoding="utf-8")
    _figure(comparison, folder / "arms.png")
    (folder / "report.html").write_text(_page(comparison, facts), encoding="utf-8")


def as_json(comparison: Comparison) -> dict[str, Any]:
    """Everything that the files say, as plain data; numbers may be NaN."""
    return {
        "search": comparison.search,
        "seeds": list(comparison.seeds),
        "base_training_macs": comparison.base_training_macs,
        "subjects": [{**asdict(item), "widths": dict(item.widths)} for item in comparison.subjects],
        "table": rows(comparison),
        "differences": differences(comparison),
        "verdicts": verdicts(comparison),
        "tau": {**asdict(comparison.tau), "arm": comparison.audit_arm, "warning": comparison.tau.warning},
        "notes": [*conventions(comparison), *comparison.notes],
    }


def cells(row: Mapping[str, Any]) -> tuple[str, ...]:
    """A row of ``rows()`` under ``HEADINGS``."""
    failed = f", {row['diverged']} diverged" if row["diverged"] else ""
    return (
        str(row["subject"]),
        f"{format_count(row['macs'])} ({100 * row['macs_share']:.0f} %)",
        str(row["arm"]),
        str(row["epochs"]),
        f"{row['runs']}{failed}",
        _spread(row["top1"], row["top1_std"]),
        _spread(row["test_top1"], row["test_top1_std"]),
        format_count(row["training_macs"]),
        format_count(row["total_macs"]),
        f"{row['seconds']:.1f}",
    )


def sentences(comparison: Comparison) -> list[str]:
    """The verdicts and the audit of the search's own accuracy."""
    return [*verdicts(comparison), audit(comparison)]


def _spread(mean: float, std: float) -> str:
    if not math.isfinite(mean):
        return "-"
    return f"{100 * mean:.2f} +- {100 * std:.2f} %" if math.isfinite(std) else f"{100 * mean:.2f} %"


def _csv(path: Path, columns: Sequence[str], content: Sequence[Mapping[str, Any]]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(columns)
        for row in content:
            values = (finite(row[column]) for column in columns)
            writer.writerow(["" if value is None else _short(value) for value in values])


def _short(value: Any) -> Any:
    return f"{value:.6g}" if isinstance(value, float) else value


def _figure(comparison: Comparison, path: Path) -> None:
    arms_figure(comparison).savefig(path, dpi=160)


def _page(comparison: Comparison, facts: Mapping[str, str]) -> str:
    import jinja2

    from autoprune.analysis.figures import inline_svg, roles

    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("autoprune.analysis"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    title = f"test accuracy by arm, {comparison.search}"
    return environment.get_template("comparison.html.j2").render(
        search=comparison.search,
        verdicts=verdicts(comparison),
        audit=audit(comparison),
        svg=inline_svg(arms_figure(comparison, roles()), title),
        headings=HEADINGS,
        rows=[(row["subject"] == "dense", cells(row)) for row in rows(comparison)],
        differences=[_difference_cells(row) for row in differences(comparison)],
        notes=[*conventions(comparison), *comparison.notes],
        facts=dict(facts),
    )


def _difference_cells(row: Mapping[str, Any]) -> tuple[bool, tuple[str, ...]]:
    return bool(row["clear"]), (
        str(row["subject"]),
        f"{row['first']} - {row['second']}",
        f"{row['n']}",
        f"{100 * row['mean']:+.2f}",
        f"{100 * row['low']:+.2f} to {100 * row['high']:+.2f}",
        f"{100 * row['bootstrap_low']:+.2f} to {100 * row['bootstrap_high']:+.2f}",
        f"{row['epochs_ratio']:.2f}",
        f"{row['compute_ratio']:.2f}",
    )
