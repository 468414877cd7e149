"""``autoprune compare``: does inheriting weights help?"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from autoprune.cli.options import Format, FormatOption, QuietOption, SearchName, StoreOption, WhereOption
from autoprune.cli.output import Table, print_csv, print_json, print_table, print_text
from autoprune.cli.runs import EpochsOption, ExecutorOption, RecipeOption, recipe, said, training

if TYPE_CHECKING:
    from autoprune.analysis.rethinking import Comparison

__all__ = ["register"]

_EXAMPLES = """\b
Examples:
  autoprune compare digits-quickstart
  autoprune compare digits-quickstart --trial 12 --arms finetune,finetune_rewind,scratch_e,scratch_b:cap=2
  autoprune compare digits-quickstart --where "macs <= 0.5 * baseline" --top 2 --seeds 3 --with-random 50

\b
Arms (with their options):
  finetune           inherited weights, constant rate          :lr=0.001 :share=0.25
  finetune_cosine    inherited weights, cosine from a rate     :lr=0.01 :share=0.25
  finetune_rewind    inherited weights, the base's schedule    :share=1 (its last share)
  scratch_e          new weights, epochs of the baseline
  scratch_b          new weights, compute of the baseline      :cap=2 :plus_finetune=0.25
  rewind             the base model's initial weights
  hypernet           weights of the search's hypernetwork      :share=1
share: of the baseline's epochs; plus_finetune: epochs on top, as such a share.

\b
Files: table.csv, runs.csv, differences.csv, comparison.json, arms.png, report.html.
"""


def register(app: typer.Typer) -> None:
    app.command(epilog=_EXAMPLES)(compare)


def compare(
    name: SearchName,
    trial: Annotated[
        list[int] | None,
        typer.Option("--trial", metavar="N", help="A trial to train; may be repeated.", show_default=False),
    ] = None,
    top: Annotated[
        int | None,
        typer.Option("--top", min=1, help="The best so many within --where.  [default: near 70, 50, 30 % MACs]"),
    ] = None,
    where: WhereOption = None,
    arms: Annotated[
        str | None, typer.Option("--arms", metavar="A,B,...", help="[default: all but hypernet]", show_default=False)
    ] = None,
    seeds: Annotated[int, typer.Option("--seeds", help="Runs of each arm.")] = 5,
    epochs: EpochsOption = None,
    overrides: RecipeOption = None,
    executor: ExecutorOption = None,
    with_random: Annotated[
        int, typer.Option("--with-random", metavar="N", help="Measure N random candidates of equal MACs as reference.")
    ] = 0,
    out: Annotated[
        str | None, typer.Option("--out", metavar="DIR", help="[default: OUTPUT/NAME/compare]", show_default=False)
    ] = None,
    store: StoreOption = None,
    format: FormatOption = Format.table,
    quiet: QuietOption = False,
) -> None:
    """Compare inherited weights with new ones.

    Always beside them: the dense model, uniform widths and the best of random search at equal MACs. Each run is
    stored when it ends; the same command again goes on.
    """
    from autoprune import api

    with training(executor, quiet=quiet) as progress:
        result = api.compare(
            name,
            trials=trial or (),
            where=where or (),
            top=top,
            arms=[] if arms is None else arms.split(","),
            seeds=seeds,
            overrides=recipe(overrides, epochs),
            executor=executor,
            with_random=with_random,
            out=out,
            store=store,
            progress=progress,
        )
    _print(result.comparison, format)
    said(result, quiet=quiet)


def _print(comparison: Comparison, format: Format) -> None:
    from autoprune.analysis import rethinking_report as report
    from autoprune.analysis import rethinking_words as words

    if format is Format.json:
        return print_json(report.as_json(comparison))
    if format is Format.csv:
        return print_csv(words.rows(comparison), words.COLUMNS)
    table = Table(
        *report.HEADINGS,
        left=["model", "arm"],
        optional=["seconds", "total", "runs"],
        title=f"{comparison.search}: {len(comparison.seeds)} seeds an arm",
    )
    for row in words.rows(comparison):
        table.add(*report.cells(row))
    print_table(table)
    for text in ("", *report.sentences(comparison), "", *words.conventions(comparison), *comparison.notes):
        print_text(text)
    return None
