"""``autoprune criteria-report``: which criterion ranks channels as trying each of them does."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from autoprune.cli.failures import Interrupted
from autoprune.cli.options import Format, FormatOption, QuietOption
from autoprune.cli.output import Table, message, print_csv, print_json, print_table, print_text

if TYPE_CHECKING:
    from autoprune.analysis.criteria_report import CriteriaReport

__all__ = ["register"]

_EXAMPLES = """\b
Examples:
  autoprune criteria-report launch/quickstart.yaml
  autoprune criteria-report launch/cifar10_resnet20.yaml --criteria l1,taylor,random --images 300
  autoprune criteria-report FILE.yaml --draws 5 --out results/criteria

\b
Files: table.csv, layers.csv, scores.csv, report.md, correlations.png.
"""


def register(app: typer.Typer) -> None:
    app.command("criteria-report", epilog=_EXAMPLES)(criteria_report)


def criteria_report(
    config: Annotated[str, typer.Argument(metavar="CONFIG", help="A launch file (YAML).")],
    criteria: Annotated[
        str | None, typer.Option("--criteria", metavar="A,B,...", help="[default: all]", show_default=False)
    ] = None,
    images: Annotated[int, typer.Option("--images", metavar="N", help="Training images of the oracle.")] = 500,
    draws: Annotated[
        int, typer.Option("--draws", metavar="K", help="Draws of other training images for the criteria.")
    ] = 3,
    overrides: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Change one setting; may be repeated.", show_default=False),
    ] = None,
    out: Annotated[
        str | None, typer.Option("--out", metavar="DIR", help="[default: OUTPUT/NAME/criteria]", show_default=False)
    ] = None,
    format: FormatOption = Format.table,
    quiet: QuietOption = False,
) -> None:
    """Hold criteria against an oracle.

    The oracle ablates each channel alone and sees what the loss does.
    Spearman's rank correlation per layer and over all layers, as in Molchanov et al. 2017; their figures beside ours.
    The oracle is kept: another report on the same images takes seconds.
    """
    from autoprune import api
    from autoprune.cli.progress import make_progress

    try:
        with make_progress(quiet=quiet) as progress:
            result = api.criteria_report(
                config,
                criteria=[] if criteria is None else criteria.split(","),
                images=images,
                draws=draws,
                overrides=overrides or (),
                out=out,
                progress=progress,
            )
    except KeyboardInterrupt:
        raise Interrupted("the same command goes on from there.") from None
    _print(result.report, format)
    message(f"files are in {result.output}/", quiet=quiet)


def _print(report: CriteriaReport, format: Format) -> None:
    from autoprune.analysis import criteria_report_files as files

    if format is Format.json:
        return print_json(files.as_json(report))
    if format is Format.csv:
        return print_csv(files.rows(report), files.COLUMNS)
    left = ["criterion", "needs"]
    table = Table(*files.HEADINGS, left=left, optional=["needs", "seconds"], title=f"{report.name}: rank correlation")
    for row in (*report.rows, *report.controls):
        table.add(*files.cells(report, row))
    print_table(table)
    for text in ("", *(f"{name}: {value}" for name, value in report.facts.items()), ""):
        print_text(text)
    titles, rows = files.published_cells()
    published = Table(*titles, left=titles[:2], title=f"For reference, {files.SOURCE}: other networks and data")
    for cells in rows:
        published.add(*cells)
    print_table(published)
    for text in ("", *files.notes(report)):
        print_text(text)
    return None
