"""Results on stdout as a table, JSON or CSV; messages on stderr."""

from __future__ import annotations

import csv
import errno
import json
import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, TextIO

from autoprune.analysis.finite import finite

if TYPE_CHECKING:
    from rich.console import Console

__all__ = ["Table", "message", "print_csv", "print_json", "print_table", "print_text", "said_unless_full"]

_PADDING = 3
"""Characters between two columns."""
_WRAPPED_WIDTH = 24
"""A column of words may be wrapped down to this."""


class Table:
    """Rows of text under headings; numbers go right, the columns of ``left`` go left and may wrap."""

    def __init__(
        self,
        *headings: str,
        left: Sequence[str] = (),
        optional: Sequence[str] = (),
        title: str = "",
        caption: str = "",
    ) -> None:
        self.headings = headings
        self.left = frozenset(left)
        self.optional = tuple(optional)
        """Columns that a narrow terminal does without, first to go first."""
        self.title = title
        self.caption = caption
        self.rows: list[tuple[tuple[str, ...], str]] = []

    def add(self, *cells: str, style: str = "") -> None:
        self.rows.append((cells, style))

    def fitting(self, width: int) -> tuple[list[int], int]:
        """The columns to show in ``width`` characters, and the characters that they need at least."""
        needed = [self._needed(column) for column in range(len(self.headings))]
        shown = list(range(len(self.headings)))
        for heading in self.optional:
            if sum(needed[column] for column in shown) <= width:
                break
            shown = [column for column in shown if self.headings[column] != heading]
        return shown, sum(needed[column] for column in shown)

    def lines(self) -> list[str]:
        """One line a row: nothing is cut and nothing wraps, so that it can be searched with grep."""
        rows = [self.headings, *(tuple(" ".join(cell.split("\n")) for cell in cells) for cells, _ in self.rows)]
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        places = [
            f"{'<' if heading in self.left else '>'}{width}"
            for heading, width in zip(self.headings, widths, strict=True)
        ]
        drawn = [" " + "   ".join(map(format, row, places)) for row in rows]
        rule = "─" * (sum(widths) + _PADDING * len(widths) - 1)
        around = ([self.title] if self.title else [], [self.caption] if self.caption else [])
        return [line.rstrip() for line in (*around[0], drawn[0], rule, *drawn[1:], *around[1])]

    def _needed(self, column: int) -> int:
        longest = max(len(text) for text in (self.headings[column], *(cells[column] for cells, _ in self.rows)))
        return _PADDING + (min(longest, _WRAPPED_WIDTH) if self.headings[column] in self.left else longest)


def message(text: str, *, quiet: bool = False) -> None:
    """A line for the person at the screen."""
    if not quiet:
        said_unless_full(sys.stderr, text)


def said_unless_full(stream: TextIO, text: str) -> None:
    """Write a line and flush it, or forget it where the disk is full: a log is no reason to end a search."""
    try:
        stream.write(f"{text}\n")
        stream.flush()
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise


def print_text(text: str) -> None:
    sys.stdout.write(text if text.endswith("\n") else f"{text}\n")


def print_json(content: object) -> None:
    """JSON that every parser reads: a number that is not finite becomes null."""
    print_text(json.dumps(finite(content), indent=2, allow_nan=False))


def print_csv(rows: Sequence[Mapping[str, Any]], columns: Sequence[str]) -> None:
    """One line a row, in the order of ``columns``; what is missing or not finite stays empty."""
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(columns)
    for row in rows:
        cells = (finite(row.get(column)) for column in columns)
        writer.writerow(["" if cell is None else cell for cell in cells])


def print_table(table: Table) -> None:
    """Draw the table: plain text into files and pipes, by rich on a terminal.

    Numbers are never cut: a narrow terminal loses optional columns, and then wraps.
    """
    if not sys.stdout.isatty():
        print_text("\n".join(table.lines()))
        return
    from rich.console import Console
    from rich.text import Text

    console = Console(file=sys.stdout, highlight=False)
    shown, needed = table.fitting(console.width)
    console.width = max(console.width, needed)
    _draw(table, shown, console)
    hidden = [heading for column, heading in enumerate(table.headings) if column not in shown]
    if hidden:
        console.print(Text(f"Not shown for want of room: {', '.join(hidden)}.", style="dim"), soft_wrap=True)


def _draw(table: Table, columns: Sequence[int], console: Console) -> None:
    from rich import box
    from rich.table import Table as RichTable
    from rich.text import Text

    if table.title:
        console.print(Text(table.title, style="bold"), soft_wrap=True)
    drawn = RichTable(box=box.SIMPLE_HEAD, show_edge=False)
    for column in columns:
        heading = table.headings[column]
        left = heading in table.left
        drawn.add_column(Text(heading), justify="left" if left else "right", overflow="fold", no_wrap=not left)
    for cells, style in table.rows:
        drawn.add_row(*(Text(cells[column]) for column in columns), style=style)
    console.print(drawn)
    if table.caption:
        console.print(Text(table.caption, style="dim"), soft_wrap=True)
