"""Results on stdout as a table, JSON or CSV; messages on stderr."""

from __future__ import annotations

import csv
import json
import math
import sys
from collections.abc import Mapping, Sequence
from typing import Any

__all__ = ["Table", "message", "print_csv", "print_json", "print_table", "print_text"]

_PIPE_WIDTH = 100_000
"""Columns when stdout is no terminal: nothing is cut and nothing wraps, so a table can be searched with grep."""


class Table:
    """Rows of text under headings; numbers go right."""

    def __init__(self, *headings: str, left: Sequence[str] = (), title: str = "", caption: str = "") -> None:
        self.headings = headings
        self.left = frozenset(left)
        self.title = title
        self.caption = caption
        self.rows: list[tuple[tuple[str, ...], str]] = []

    def add(self, *cells: str, style: str = "") -> None:
        self.rows.append((cells, style))


def message(text: str, *, quiet: bool = False) -> None:
    """A line for the person at the screen."""
    if not quiet:
        sys.stderr.write(f"{text}\n")


def print_text(text: str) -> None:
    sys.stdout.write(text if text.endswith("\n") else f"{text}\n")


def print_json(content: object) -> None:
    """JSON that every parser reads: a number that is not finite becomes null."""
    print_text(json.dumps(_finite(content), indent=2, allow_nan=False))


def print_csv(rows: Sequence[Mapping[str, Any]], columns: Sequence[str]) -> None:
    """One line a row, in the order of ``columns``; what is missing or not finite stays empty."""
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(columns)
    for row in rows:
        cells = (_finite(row.get(column)) for column in columns)
        writer.writerow(["" if cell is None else cell for cell in cells])


def print_table(table: Table) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table as RichTable
    from rich.text import Text

    terminal = sys.stdout.isatty()
    console = Console(file=sys.stdout, width=None if terminal else _PIPE_WIDTH, highlight=False)
    drawn = RichTable(
        box=box.SIMPLE_HEAD, title=Text(table.title) if table.title else None, title_justify="left", title_style="bold"
    )
    for heading in table.headings:
        left = heading in table.left
        drawn.add_column(Text(heading), justify="left" if left else "right", overflow="fold", no_wrap=not left)
    for cells, style in table.rows:
        drawn.add_row(*(Text(cell) for cell in cells), style=style)
    console.print(drawn, crop=False)
    if table.caption:
        console.print(Text(table.caption, style="dim"), soft_wrap=True)


def _finite(content: Any) -> Any:
    if isinstance(content, float):
        return content if math.isfinite(content) else None
    if isinstance(content, Mapping):
        return {str(key): _finite(value) for key, value in content.items()}
    if isinstance(content, (list, tuple)):
        return [_finite(value) for value in content]
    return content
