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
from autoprune.files import replacing, with_digest, write_text

__all__ = ["HEADINGS", "as_json", "cells", "csv_file", "page", "sentences", "write_comparison"]

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
    csv_file(folder / "table.csv", COLUMNS, rows(comparison))
    csv_file(folder / "runs.csv", _RUNS, run_rows(comparison))
    csv_file(folder / "differences.csv", DIFFERENCES, differences(comparison))
    content = {**as_json(comparison), "facts": dict(facts)}
    write_text(folder / "comparison.json", json.dumps(with_digest(finite(content)), indent=2) + "\n")
    _figure(comparison, folder / "arms.png")
    write_text(folder / "report.html", _page(comparison, facts))


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
        "audits": list(comparison.audits),
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
    """The verdicts, and what is known of the search's own ranking."""
    return [*verdicts(comparison), audit(comparison), *comparison.audits]


def _spread(mean: float, std: float) -> str:
    if not math.isfinite(mean):
        return "-"
    return f"{100 * mean:.2f} +- {100 * std:.2f} %" if math.isfinite(std) else f"{100 * mean:.2f} %"


def csv_file(path: Path, columns: Sequence[str], content: Sequence[Mapping[str, Any]]) -> None:
    """One line a row, six digits; what is not finite stays empty."""
    with replacing(path, durable=False) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(columns)
        for row in content:
            values = (finite(row[column]) for column in columns)
            writer.writerow(["" if value is None else _short(value) for value in values])


def _short(value: Any) -> Any:
    return f"{value:.6g}" if isinstance(value, float) else value


def _figure(comparison: Comparison, path: Path) -> None:
    with replacing(path, durable=False) as temporary:
        arms_figure(comparison).savefig(temporary, dpi=160)


def page(template: str, **content: Any) -> str:
    """A template of this package with its content, as HTML."""
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("autoprune.analysis"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(template).render(**content)


def _page(comparison: Comparison, facts: Mapping[str, str]) -> str:
    from autoprune.analysis.figures import inline_svg, roles

    title = f"test accuracy by arm, {comparison.search}"
    return page(
        "comparison.html.j2",
        search=comparison.search,
        verdicts=verdicts(comparison),
        audit=audit(comparison),
        audits=comparison.audits,
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
