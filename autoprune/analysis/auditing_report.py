"""The files of an audit: tables as CSV, everything as JSON, the figure, and one HTML page."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from autoprune.analysis.auditing import Audit
from autoprune.analysis.auditing_plot import audit_figure
from autoprune.analysis.auditing_words import (
    AGREEMENT,
    STRATA,
    agreement_rows,
    candidate_columns,
    candidate_rows,
    conventions,
    in_brackets,
    measure_label,
    sentences,
    short,
    strata_rows,
    warning,
)
from autoprune.analysis.finite import finite
from autoprune.analysis.metrics import format_count, format_value
from autoprune.analysis.rethinking_report import csv_file, page
from autoprune.files import replacing, with_digest, write_text

__all__ = ["AGREEMENT_HEADINGS", "STRATA_HEADINGS", "agreement_cells", "as_json", "strata_cells", "write_audit"]

AGREEMENT_HEADINGS = ("measure", "tau within strata", "given size", "tau over all", "Spearman over all")
STRATA_HEADINGS = ("MACs", "candidates", "tau", "chosen ended at", "best", "at random", "best third shared")
_RUNS = ("trial", "arm", "seed", "top1", "test_top1")


def write_audit(audit: Audit, folder: Path, *, facts: Mapping[str, str]) -> None:
    """Write ``agreement.csv``, ``strata.csv``, ``candidates.csv``, ``runs.csv``, ``audit.json``, ``audit.png`` and
    ``report.html``; ``facts`` are hardware and versions."""
    folder.mkdir(parents=True, exist_ok=True)
    csv_file(folder / "agreement.csv", AGREEMENT, agreement_rows(audit))
    csv_file(folder / "strata.csv", STRATA, strata_rows(audit))
    csv_file(folder / "candidates.csv", candidate_columns(audit), candidate_rows(audit))
    csv_file(folder / "runs.csv", _RUNS, _run_rows(audit))
    content = {**as_json(audit), "facts": dict(facts)}
    write_text(folder / "audit.json", json.dumps(with_digest(finite(content)), indent=2) + "\n")
    with replacing(folder / "audit.png", durable=False) as temporary:
        audit_figure(audit).savefig(temporary, dpi=160)
    write_text(folder / "report.html", _page(audit, facts))


def as_json(audit: Audit) -> dict[str, Any]:
    """Everything that the files say, as plain data; numbers may be NaN. What a store keeps of an audit."""
    return {
        "search": audit.search,
        "arm": audit.arm,
        "epochs": audit.epochs,
        "seeds": audit.seeds,
        "measure": audit.measure,
        "ranked_by": audit.ranked_by,
        "short": short(audit),
        "warning": warning(audit),
        "sentences": sentences(audit),
        "agreement": agreement_rows(audit),
        "strata": strata_rows(audit),
        "candidates": candidate_rows(audit),
        "repeatability": audit.repeatability,
        "notes": [*conventions(audit), *audit.notes],
    }


def agreement_cells(audit: Audit) -> list[tuple[str, ...]]:
    """Rows under ``AGREEMENT_HEADINGS``."""
    return [
        (
            measure_label(audit, item.measure),
            in_brackets(item.within),
            in_brackets(item.given_size),
            in_brackets(item.overall),
            _two(item.spearman),
        )
        for item in audit.agreements
    ]


def strata_cells(audit: Audit) -> list[tuple[str, ...]]:
    """Rows under ``STRATA_HEADINGS``."""
    rows: list[tuple[str, ...]] = []
    for item in audit.results:
        low, high = (100 * value / audit.dense_macs for value in (item.low_macs, item.high_macs))
        rows.append(
            (
                f"{format_count(item.low_macs)} to {format_count(item.high_macs)} ({low:.0f}-{high:.0f} %)",
                str(item.n),
                _two(item.tau),
                f"{100 * item.chosen:.2f} % (trial {item.chosen_trial})",
                f"{100 * item.best:.2f} % (trial {item.best_trial})",
                f"{100 * item.mean:.2f} %",
                f"{item.shared} of {item.top}",
            )
        )
    return rows


def _two(value: float) -> str:
    return f"{value:.2f}" if math.isfinite(value) else "-"


def _run_rows(audit: Audit) -> list[dict[str, Any]]:
    return [
        {"trial": item.trial, "arm": audit.arm, "seed": seed, "top1": item.top1[place], "test_top1": test}
        for item in audit.sample
        for place, (seed, test) in enumerate(zip(item.seeds, item.test_top1, strict=True))
    ]


def _candidate_cells(audit: Audit) -> tuple[list[str], list[list[str]]]:
    """Headings and rows of the table of candidates."""
    names = [name for name in candidate_columns(audit) if name not in ("stratum", "macs_share", "test_top1_std")]
    shown = {"final_top1": "final top1", "test_top1": "final test top1", "final_rank": "final rank"}
    rows = []
    for row in candidate_rows(audit):
        share = f" ({100 * row['macs_share']:.0f} %)"
        cells = {name: format_value(name, row[name]) for name in names}
        cells |= {name: f"{100 * row[name]:.2f} %" for name in names if "top1" in name}
        cells |= {"trial": str(row["trial"]), "runs": str(row["runs"]), "macs": cells["macs"] + share}
        rows.append([cells[name] for name in names])
    return [shown.get(name, name) for name in names], rows


def _page(audit: Audit, facts: Mapping[str, str]) -> str:
    from autoprune.analysis.figures import inline_svg, roles

    headings, rows = _candidate_cells(audit)
    return page(
        "audit.html.j2",
        search=audit.search,
        sentences=sentences(audit),
        warning=warning(audit),
        svg=inline_svg(audit_figure(audit, roles()), f"what {audit.search} measured against final accuracy"),
        tables=[
            ("Agreement", AGREEMENT_HEADINGS, agreement_cells(audit)),
            ("By size", STRATA_HEADINGS, strata_cells(audit)),
            ("Candidates", headings, rows),
        ],
        notes=[*conventions(audit), *audit.notes],
        facts=dict(facts),
    )
