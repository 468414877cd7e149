"""How ``doctor`` and ``store check`` say what they found."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from autoprune.cli.options import Format
from autoprune.cli.output import Table, message, print_csv, print_json, print_table

if TYPE_CHECKING:
    from autoprune.api import Finding, Findings

__all__ = ["PROBLEM", "show_findings"]

PROBLEM = 7
"""Exit code when something was found that must be mended."""
_STYLES = {"ok": "", "warning": "yellow", "problem": "bold red"}
_COLUMNS = ("check", "search", "status", "found", "expected", "hint")


def show_findings(report: Findings, format: Format, *, quiet: bool = False) -> int:
    """Print all findings on stdout and a summary on stderr; returns the exit code."""
    if format is Format.json:
        print_json(report.to_dict())
    elif format is Format.csv:
        print_csv([vars(item) for item in report.items], _COLUMNS)
    else:
        _print_table(report.items)
    problems, warnings = len(report.problems), len(report.warnings)
    if format is Format.table and (problems or warnings):
        _print_hints(report)
    said = f"{problems} problem{'' if problems == 1 else 's'}, {warnings} warning{'' if warnings == 1 else 's'}"
    message(f"{said}, {len(report.items)} checks.", quiet=quiet)
    return PROBLEM if problems else 0


def _print_table(items: Sequence[Finding]) -> None:
    searches = any(item.search for item in items)
    headings = ["check", *(["search"] if searches else []), "status", "found"]
    table = Table(*headings, left=headings)
    for item in _shortened(items):
        named = [item.search or "-"] if searches else []
        table.add(item.check, *named, item.status, item.found, style=_STYLES[item.status])
    print_table(table)


def _shortened(items: Sequence[Finding]) -> list[Finding]:
    """All that is fine with one search in one line."""
    from dataclasses import replace

    fine: dict[str, list[str]] = {}
    for item in items:
        if item.search and item.status == "ok" and item.check != "repair":
            fine.setdefault(item.search, []).append(item.check)
    lines: list[Finding] = []
    for item in items:
        if not (item.search and item.status == "ok" and item.check != "repair"):
            lines.append(item)
        elif names := fine.pop(item.search, None):
            lines.append(replace(item, check="trials" if len(names) > 1 else item.check, found=", ".join(names)))
    return lines


def _print_hints(report: Findings) -> None:
    from autoprune.cli.output import print_text

    said = dict.fromkeys(
        f"{item.status}: {item.check}{f' of {item.search}' if item.search else ''}"
        + (f": expected {item.expected}." if item.expected else ".")
        + (f" {item.hint}" if item.hint else "")
        for item in (*report.problems, *report.warnings)
        if item.expected or item.hint
    )
    print_text("\n".join(["", *said]) if said else "")
