"""Tables in pipes against what rich draws on a terminal that is wide enough."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from autoprune.cli import output
from autoprune.cli.output import Table


def drawn_by_rich(table: Table) -> list[str]:
    text = io.StringIO()
    console = Console(file=text, width=10_000, color_system=None, highlight=False)
    output._draw(table, range(len(table.headings)), console)
    return [line.rstrip() for line in text.getvalue().splitlines()]


@pytest.mark.parametrize("rows", [0, 1, 3])
def test_a_pipe_gets_the_table_that_a_terminal_shows(rows: int, capsys: pytest.CaptureFixture[str]) -> None:
    table = Table("group", "kept", "why", left=["group", "why"], title="A title", caption="First line\nSecond line")
    for number in range(rows):
        table.add(f"layer{10**number}", str(7**number), "because " * 20 * number)
    output.print_table(table)
    lines = capsys.readouterr().out.splitlines()
    assert lines == drawn_by_rich(table)
    assert len(lines) == rows + 5


def test_a_row_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    table = Table("trial", "why", left=["why"])
    table.add("3", "first\nsecond")
    output.print_table(table)
    assert capsys.readouterr().out.splitlines()[-1] == "     3   first second"
