"""``autoprune criteria``: what can rank channels."""

from __future__ import annotations

from dataclasses import asdict

import typer

from autoprune.cli.options import Format, FormatOption
from autoprune.cli.output import Table, print_csv, print_json, print_table

__all__ = ["register"]

_EXAMPLES = """\b
Examples:
  autoprune criteria
  autoprune criteria --format json
  autoprune search launch/quickstart.yaml --set evaluator.weights.criterion=taylor
  autoprune search launch/quickstart.yaml --set 'evaluator.weights.criterion={name: fpgm, norm_share: 0.1}'
"""
_CAPTION = (
    "For evaluator.weights.criterion: a name, or {name: ..., option: ...}. Images are training images\n"
    "(evaluator.weights.criterion_images). Groups that a criterion says nothing about go to its fallback."
)


def register(app: typer.Typer) -> None:
    app.command(epilog=_EXAMPLES)(criteria)


def criteria(format: FormatOption = Format.table) -> None:
    """List what channels can be ranked by.

    With what each criterion needs, and its options.
    """
    from autoprune import api

    found = api.criteria()
    if format is Format.json:
        return print_json([asdict(each) for each in found])
    rows = [
        {
            "criterion": each.name,
            "needs": ", ".join(each.needs),
            "measures": each.measures,
            "source": each.source,
            "options": ", ".join(f"{key}={'null' if value is None else value}" for key, value in each.options.items()),
        }
        for each in found
    ]
    headings = list(rows[0])
    if format is Format.csv:
        return print_csv(rows, headings)
    table = Table(*headings, left=headings, optional=("options", "source"), caption=_CAPTION)
    for row in rows:
        table.add(*row.values())
    print_table(table)
