"""A report on criteria as tables and files: table.csv, layers.csv, scores.csv, report.md, correlations.png."""

from __future__ import annotations

import csv
import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from autoprune.analysis import criteria_published as published
from autoprune.analysis.criteria_published import SOURCE
from autoprune.analysis.criteria_report import MEASURES, CriteriaReport, Figure, Row
from autoprune.files import replacing, write_text

__all__ = ["COLUMNS", "HEADINGS", "SOURCE", "as_json", "cells", "notes", "published_cells", "rows", "write_report"]

_KEYS = ("per_layer", "all_layers", "all_layers_l2")
COLUMNS = (
    *("criterion", "needs"),
    *(f"{key}{part}" for key in _KEYS for part in ("", "_low", "_high")),
    *("groups", "seconds"),
)
HEADINGS = ("criterion", *MEASURES, "groups", "seconds", "needs")


def rows(report: CriteriaReport) -> list[dict[str, Any]]:
    """One mapping a criterion with the keys ``COLUMNS``, best per layer first, then the controls; a number that does
    not exist is None."""
    return [_row(row) for row in (*report.rows, *report.controls)]


def _row(row: Row) -> dict[str, Any]:
    content: dict[str, Any] = {"criterion": row.criterion, "needs": row.needs}
    for key, figure in zip(_KEYS, row.figures, strict=True):
        parts = {"": figure.value, "_low": figure.low, "_high": figure.high}
        content |= {f"{key}{part}": _number(value) for part, value in parts.items()}
    return {**content, "groups": row.groups, "seconds": _number(row.seconds)}


def cells(report: CriteriaReport, row: Row) -> list[str]:
    """One row for people, under ``HEADINGS``."""
    groups = f"{row.groups} of {len(report.groups)}"
    seconds = "" if math.isnan(row.seconds) else f"{row.seconds:.1f}"
    return [row.criterion, *map(_shown, row.figures), groups, seconds, row.needs]


def _shown(figure: Figure) -> str:
    if math.isnan(figure.value):
        return "-"
    text = f"{figure.value:.2f}"
    return text if math.isnan(figure.error) else f"{text} ({figure.low:.2f} to {figure.high:.2f})"


def published_cells() -> tuple[list[str], list[list[str]]]:
    """Headings and rows of the published table."""
    found = []
    for row in published.TABLE:
        values = ["" if value is None else f"{value:.2f}" for value in row.values]
        found.append([row.network, row.measure, *values])
    return ["network / data", "", *published.CRITERIA], found


def notes(report: CriteriaReport) -> list[str]:
    """What the numbers mean, and which groups a criterion does not cover."""
    found = [
        "Spearman's rank correlation (ties share their rank) with the oracle, |change of the loss| when all consumers "
        "ignore one unit of a group. Per layer: mean over the groups. All layers: all units at once; l2: a criterion's "
        "scores divided by their Euclidean norm in each group, the oracle as it is. That alone puts units of narrow "
        "groups first, which can lift random above 0 there.",
        "Intervals: 95 %, over the choice of images: jackknife over blocks of the oracle's, and the spread over draws "
        "of the criterion's. The network is given; another one may rank criteria otherwise.",
        "oracle-loss: the change with its sign. By halves: the oracle on one half of the images against the other, r, "
        "which says how reliable it is: even a perfect criterion would reach about sqrt(2 r / (1 + r)) "
        "(Spearman and Brown) against an oracle on all of them.",
        "seconds: processor time of a criterion's scores on one draw, the pass over the images included.",
        f"{SOURCE}, is printed for reference: other networks, data and implementations.",
    ]
    for each in report.criteria:
        for reason in dict.fromkeys(each.left_out.values()):
            names = [name for name, why in each.left_out.items() if why == reason]
            found.append(
                f"{each.name} leaves out {len(names)} of {len(report.groups)} groups ({_few(names)}): {reason}"
            )
    return found


def _few(names: Sequence[str], most: int = 3) -> str:
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def as_json(report: CriteriaReport) -> dict[str, Any]:
    """Everything but the scores themselves."""
    return {
        "name": report.name,
        "facts": dict(report.facts),
        "groups": {name: len(changes) for name, changes in report.oracle.changes.items()},
        "criteria": rows(report),
        "layers": report.layers,
        "left_out": {each.name: dict(each.left_out) for each in report.criteria if each.left_out},
        "published": {
            "source": SOURCE,
            "criteria": list(published.CRITERIA),
            "rows": [
                {"network": row.network, "measure": row.measure, "values": list(row.values)} for row in published.TABLE
            ],
        },
        "notes": notes(report),
    }


def write_report(report: CriteriaReport, folder: Path) -> list[Path]:
    """Write all files; makes the folder. Raises StoreError when one cannot be written."""
    from autoprune.analysis.criteria_report_plot import correlations_figure

    folder.mkdir(parents=True, exist_ok=True)
    names = ("table.csv", "layers.csv", "scores.csv", "report.md", "correlations.png")
    table, layers, scores, text, picture = (folder / name for name in names)
    _write_csv(table, COLUMNS, ([row[key] for key in COLUMNS] for row in rows(report)))
    criteria = [each.name for each in report.criteria]
    by_layer = ([name, *(report.layers[each].get(name) for each in criteria)] for name in report.groups)
    _write_csv(layers, ("group", *criteria), by_layer)
    _write_csv(scores, ("group", "unit", "oracle_loss", "oracle_abs", *criteria), _unit_rows(report))
    write_text(text, _markdown(report, picture.name))
    with replacing(picture, durable=False) as temporary:
        correlations_figure(report).savefig(temporary, dpi=130)
    return [table, layers, scores, text, picture]


def _unit_rows(report: CriteriaReport) -> Iterable[list[Any]]:
    """Unit by unit; of a criterion the scores of its first draw."""
    signed, absolute = report.oracle.signed(), report.oracle.absolute()
    for name in report.groups:
        columns = [signed[name], absolute[name], *(each.draws[0].get(name) for each in report.criteria)]
        for unit in range(len(signed[name])):
            yield [name, unit, *(None if column is None else float(column[unit]) for column in columns)]


def _write_csv(path: Path, columns: Sequence[str], content: Iterable[Sequence[Any]]) -> None:
    with replacing(path, durable=False) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(columns)
        for row in content:
            writer.writerow([f"{cell:.6g}" if isinstance(cell, float) else cell for cell in row])


def _markdown(report: CriteriaReport, picture: str) -> str:
    lines = [f"# Criteria against the oracle: {report.name}", ""]
    lines += [f"- {name}: {value}" for name, value in report.facts.items()]
    lines += ["", f"![rank correlations]({picture})", "", _line(HEADINGS), _line(["---"] * len(HEADINGS))]
    lines += [_line(cells(report, row)) for row in (*report.rows, *report.controls)]
    lines += ["", *(f"- {text}" for text in notes(report)), "", f"## {SOURCE}", ""]
    titles, content = published_cells()
    lines += [_line(titles), _line(["---"] * len(titles)), *map(_line, content)]
    return "\n".join(lines) + "\n"


def _line(texts: Sequence[str]) -> str:
    return f"| {' | '.join(texts)} |"


def _number(value: float) -> float | None:
    return round(value, 6) if math.isfinite(value) else None
