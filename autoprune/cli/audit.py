"""``autoprune audit``: can a search's ranking be trusted?"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from autoprune.cli.options import Format, FormatOption, QuietOption, SearchName, StoreOption
from autoprune.cli.output import Table, print_csv, print_json, print_table, print_text
from autoprune.cli.runs import EpochsOption, ExecutorOption, RecipeOption, recipe, said, training

if TYPE_CHECKING:
    from autoprune.analysis.auditing import Audit

__all__ = ["register"]

_EXAMPLES = """\b
Examples:
  autoprune audit digits-quickstart
  autoprune audit digits-quickstart --candidates 24 --seeds 3
  autoprune audit digits-quickstart --candidates 12 --arm scratch_e --epochs 5

\b
The arms are those of 'autoprune compare'; runs are shared with it.
Files: agreement.csv, strata.csv, candidates.csv, runs.csv, audit.json, audit.png, report.html.
"""


def register(app: typer.Typer) -> None:
    app.command(epilog=_EXAMPLES)(audit)


def audit(
    name: SearchName,
    candidates: Annotated[int, typer.Option("--candidates", metavar="N", help="Candidates to train.")] = 20,
    arm: Annotated[
        str | None,
        typer.Option(
            "--arm", metavar="ARM", help="How.  [default: finetune_rewind; hypernet: scratch_e]", show_default=False
        ),
    ] = None,
    seeds: Annotated[int, typer.Option("--seeds", help="Trainings of each candidate.")] = 1,
    epochs: EpochsOption = None,
    overrides: RecipeOption = None,
    executor: ExecutorOption = None,
    out: Annotated[
        str | None, typer.Option("--out", metavar="DIR", help="[default: OUTPUT/NAME/audit]", show_default=False)
    ] = None,
    store: StoreOption = None,
    format: FormatOption = Format.table,
    quiet: QuietOption = False,
) -> None:
    """Say how well a search ranked its candidates.

    A sample of all sizes, from the whole ranking, is trained to its end; Kendall's tau says how well the two orders
    agree. Each run is stored when it ends; the same command again goes on.
    """
    from autoprune import api

    with training(executor, quiet=quiet) as progress:
        result = api.audit(
            name,
            candidates=candidates,
            arm=arm,
            seeds=seeds,
            overrides=recipe(overrides, epochs),
            executor=executor,
            out=out,
            store=store,
            progress=progress,
        )
    _print(result.audit, format)
    said(result, quiet=quiet)


def _print(audit: Audit, format: Format) -> None:
    from autoprune.analysis import auditing_report as report
    from autoprune.analysis import auditing_words as words

    if format is Format.json:
        return print_json(report.as_json(audit))
    if format is Format.csv:
        return print_csv(words.candidate_rows(audit), words.candidate_columns(audit))
    title = f"{audit.search}: {audit.main.n} candidates, {audit.seeds} training{'' if audit.seeds == 1 else 's'} each"
    for headings, rows, text in (
        (report.AGREEMENT_HEADINGS, report.agreement_cells(audit), title),
        (report.STRATA_HEADINGS, report.strata_cells(audit), "by size"),
    ):
        table = Table(*headings, left=["measure", "MACs"], title=text)
        for cells in rows:
            table.add(*cells)
        print_table(table)
        print_text("")
    warned = words.warning(audit)
    for line in (*words.sentences(audit), *([f"Warning: {warned}"] if warned else []), ""):
        print_text(line)
    for line in (*words.conventions(audit), *audit.notes):
        print_text(line)
    return None
