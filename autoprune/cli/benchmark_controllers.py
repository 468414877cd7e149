"""``autoprune benchmark-controllers``: which controller to use, measured."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from autoprune.cli.failures import Interrupted
from autoprune.cli.options import Format, FormatOption, QuietOption
from autoprune.cli.output import Table, message, print_csv, print_json, print_table, print_text

if TYPE_CHECKING:
    from autoprune.analysis.controller_benchmark import ControllerBenchmark

__all__ = ["register"]

_EXAMPLES = """\b
Examples:
  autoprune benchmark-controllers launch/benchmark_controllers_digits.yaml
  autoprune benchmark-controllers launch/benchmark_controllers_digits.yaml --recorded-only
  autoprune benchmark-controllers FILE.yaml --set trials=60 --set seeds=3 --workers 4

\b
Files: table.csv, curves.csv, table.md, gains.png and a figure of curves a setting, in OUTPUT/NAME/.
"""


def register(app: typer.Typer) -> None:
    app.command("benchmark-controllers", epilog=_EXAMPLES)(benchmark_controllers)


def benchmark_controllers(
    config: Annotated[str, typer.Argument(metavar="FILE", help="A benchmark file (YAML).")],
    overrides: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Change one setting; may be repeated.", show_default=False),
    ] = None,
    workers: Annotated[
        int | None, typer.Option("--workers", min=1, help="Processes.  [default: one a core]", show_default=False)
    ] = None,
    recorded_only: Annotated[
        bool, typer.Option("--recorded-only", help="Measure nothing; needs neither data nor trained weights.")
    ] = False,
    from_store: Annotated[
        str | None,
        typer.Option(
            "--from-store",
            metavar="URL",
            help="Record a store's trials of the same evaluation first.",
            show_default=False,
        ),
    ] = None,
    format: FormatOption = Format.table,
    quiet: QuietOption = False,
) -> None:
    """Compare controllers at equal evaluations.

    Every measured candidate is recorded, so that a second run, or one that was killed, measures only what is missing.
    """
    from autoprune import api
    from autoprune.cli.progress import make_progress

    try:
        with make_progress(quiet=quiet) as progress:
            result = api.benchmark_controllers(
                config,
                overrides=overrides or (),
                workers=workers,
                recorded_only=recorded_only,
                from_store=from_store,
                progress=progress,
            )
    except KeyboardInterrupt:
        raise Interrupted("the same command goes on from there.") from None
    _print(result.benchmark, format)
    found = result.benchmark
    message(
        f"{found.measured} candidates were measured, {found.recorded} are recorded; files are in {result.output}/",
        quiet=quiet,
    )


def _print(benchmark: ControllerBenchmark, format: Format) -> None:
    from autoprune.analysis import controller_report as report

    if format is Format.json:
        content = {
            "name": benchmark.name,
            "settings": {item.name: str(item) for item in benchmark.settings},
            "arms": dict(benchmark.arms),
            "trials": benchmark.trials,
            "seeds": benchmark.seeds,
            "parallel": benchmark.parallel,
            "results": report.rows(benchmark),
            "verdicts": benchmark.verdicts(),
            "recommended": benchmark.recommended,
            "notes": report.notes(benchmark),
        }
        return print_json(content)
    if format is Format.csv:
        return print_csv(report.rows(benchmark), report.COLUMNS)
    for setting in benchmark.settings:
        titles = report.headings(benchmark, setting)
        table = Table(*titles, left=["arm"], optional=titles[-2:], title=f"{setting.name}: {setting}")
        for item in benchmark.results:
            if item.setting == setting.name:
                table.add(*report.cells(benchmark, setting, item))
        print_table(table)
        print_text("")
    for text in (*benchmark.verdicts(), "", *report.notes(benchmark)):
        print_text(text)
    return None
