"""``autoprune bench``: how fast autoprune is on this machine."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from autoprune.cli.options import Format, FormatOption, QuietOption
from autoprune.cli.output import Table, message, print_csv, print_json, print_table

if TYPE_CHECKING:
    from autoprune.analysis.speed import SpeedReport, SpeedRow

__all__ = ["print_speed", "register"]

_EXAMPLES = """\b
Examples:
  autoprune bench
  autoprune bench --quick --plot speed.png
  autoprune bench --only queries --trials 1000000
  autoprune bench --format json > speed.json

\b
Sections: evaluation, channels, groups, start-up, queries, search.
"""


def register(app: typer.Typer) -> None:
    app.command(epilog=_EXAMPLES)(bench)


def bench(
    quick: Annotated[bool, typer.Option("--quick", help="Half a minute instead of two, with wider spreads.")] = False,
    trials: Annotated[
        int | None,
        typer.Option(
            "--trials", min=1000, help="Stored trials to query.  [default: 100000; quick: 20000]", show_default=False
        ),
    ] = None,
    only: Annotated[
        list[str] | None,
        typer.Option(
            "--only",
            metavar="SECTION",
            help="Only this section; may be repeated.",
            show_default=False,
        ),
    ] = None,
    plot: Annotated[
        str | None,
        typer.Option("--plot", metavar="FILE", help="Also draw it: .png, .svg or .html.", show_default=False),
    ] = None,
    format: FormatOption = Format.table,
    quiet: QuietOption = False,
) -> None:
    """Measure how fast autoprune is on this machine.

    Evaluation against the matrix-multiply peak, the cost of a search beside bare loops, queries over a large store,
    start-up, and which multiple widths should be rounded to here. Needs no data; touches no store of yours. Run it on
    a machine that does nothing else: the load average is printed with the result.
    """
    import dataclasses

    from autoprune.analysis.speed_plot import check_plot_path, plot_speed
    from autoprune.bench.suite import Effort, run
    from autoprune.cli.progress import make_progress

    if plot is not None:
        check_plot_path(plot)
    effort = Effort.quick() if quick else Effort()
    if trials is not None:
        effort = dataclasses.replace(effort, stored_trials=trials)
    with make_progress(quiet=quiet) as progress:
        report = run(progress, only=only or (), effort=effort)
    print_speed(report, format)
    if plot is not None:
        plot_speed(report, plot)
        message(f"the plot is in {plot}", quiet=quiet)


def print_speed(report: SpeedReport, format: Format) -> None:
    """The rows with median, spread and target, then notes and the machine."""
    if format is Format.json:
        return print_json(report.content())
    if format is Format.csv:
        rows = report.content()["rows"]
        columns = ("section", "name", "unit", "median", "low", "high", "n", "target", "met", "note")
        return print_csv(rows, columns)
    facts = ", ".join(f"{name} {value}" for name, value in report.facts.items())
    table = Table(
        "section",
        "measured",
        "median",
        "spread",
        "unit",
        "target",
        "met",
        "note",
        left=["section", "measured", "unit", "met", "note"],
        optional=["note", "section"],
        caption="\n".join([*report.notes, facts]),
    )
    for row in report.rows:
        table.add(*_cells(row))
    print_table(table)


def _cells(row: SpeedRow) -> list[str]:
    from autoprune.analysis.speed import format_amount

    spread = "-" if row.n == 1 else f"{format_amount(row.low)}-{format_amount(row.high)} (n={row.n})"
    sign = "≥" if row.target_is_least else "≤"
    target = "" if row.target is None else f"{sign} {format_amount(row.target)}"
    met = "" if row.met is None else "yes" if row.met else "no"
    return [row.section, row.name, format_amount(row.median), spread, row.unit, target, met, row.note]
