"""``autoprune prune``: a paper's whole pruning procedure on a base model."""

from __future__ import annotations

import textwrap
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from autoprune.cli.failures import Interrupted
from autoprune.cli.options import Format, FormatOption, QuietOption, StoreOption
from autoprune.cli.output import Table, message, print_csv, print_json, print_table, print_text
from autoprune.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from autoprune.api.pruning_presets import PresetInfo, PruneResult

__all__ = ["register"]

_EXAMPLES = """\b
Examples:
  autoprune prune --list
  autoprune prune li2016 launch/quickstart.yaml --budget "macs <= 0.5 * baseline"
  autoprune prune li2016 search_spaces/cifar10_vgg16_bn.yaml --table vgg16-a --out vgg16-a
  autoprune prune slimming launch/quickstart.yaml --budget "keep_ratio <= 0.6" --epochs 5
  autoprune prune li2016 --search digits-quickstart --budget "macs <= 0.5 * baseline" --no-finetune
  autoprune front digits-quickstart --presets
"""
_COLUMNS = ("stage", "macs", "params", "top1_before", "top1_after")


def register(app: typer.Typer) -> None:
    app.command(epilog=_EXAMPLES)(prune)


def prune(
    preset: Annotated[
        str | None, typer.Argument(metavar="PRESET", help="The paper's procedure; --list shows them.")
    ] = None,
    config: Annotated[
        str | None, typer.Argument(metavar="CONFIG", help="A launch file or a search space file (YAML).")
    ] = None,
    budget: Annotated[
        list[str] | None,
        typer.Option(
            "--budget",
            metavar="BUDGET",
            help="What the model may cost: 'macs <= 0.5 * baseline', 'keep_ratio <= 0.6'; may be repeated.",
            show_default=False,
        ),
    ] = None,
    table: Annotated[
        str | None,
        typer.Option(
            "--table", metavar="NAME", help="Instead: a network that Li et al. pruned by hand.", show_default=False
        ),
    ] = None,
    search: Annotated[
        str | None,
        typer.Option(
            "--search",
            metavar="NAME",
            help="Instead of CONFIG: a stored search, beside whose front the result is kept.",
            show_default=False,
        ),
    ] = None,
    overrides: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Change a setting of the file.", show_default=False),
    ] = None,
    recipe: Annotated[
        list[str] | None,
        typer.Option("--recipe", metavar="KEY=VALUE", help="Change all trainings: lr=0.01.", show_default=False),
    ] = None,
    epochs: Annotated[
        float | None,
        typer.Option(
            "--epochs",
            help="Of the last training; the others keep their proportion.  [default: the paper's share of the base's]",
            show_default=False,
        ),
    ] = None,
    finetune: Annotated[
        bool, typer.Option("--finetune/--no-finetune", help="Without: only cut, BatchNorm re-estimated as in a search.")
    ] = True,
    seed: Annotated[int, typer.Option("--seed", min=0)] = 0,
    out: Annotated[
        str | None, typer.Option("--out", metavar="DIR", help="Export the model there.", show_default=False)
    ] = None,
    licence: Annotated[str, typer.Option("--licence", help="Of the source model, for the export.")] = "unknown",
    listed: Annotated[
        bool, typer.Option("--list", help="Show the presets, and where they differ from the papers.")
    ] = False,
    store: StoreOption = None,
    format: FormatOption = Format.table,
    quiet: QuietOption = False,
) -> None:
    """Prune as a paper did, to a budget.

    Scores, rounds, training between them and at the end are the paper's; --list says what is approximated. The test
    images are opened once, for the final model. The same command goes on where it was cut.
    """
    from autoprune import api
    from autoprune.cli.progress import make_progress

    if listed:
        return _print_presets(api.preset_list(), format)
    if preset is None:
        raise ConfigError("no preset is named.", "'autoprune prune --list' shows them.")
    try:
        with make_progress(quiet=quiet) as progress:
            result = api.prune(
                preset,
                config,
                budget=budget or (),
                table=table,
                search=search,
                overrides=overrides or (),
                recipe=recipe or (),
                epochs=epochs,
                finetune=finetune,
                seed=seed,
                out=out,
                licence=licence,
                store=store,
                progress=progress,
            )
    except KeyboardInterrupt:
        raise Interrupted("the same command goes on from there.") from None
    _print(result, format)
    if result.output is not None:
        message(f"exported to {result.output}", quiet=quiet)
    if result.search is not None:
        message(f"see it beside the front: autoprune front {result.search} --presets", quiet=quiet)
    return None


def _print_presets(presets: Sequence[PresetInfo], format: Format) -> None:
    if format is Format.json:
        return print_json([asdict(each) for each in presets])
    if format is Format.csv:
        return print_csv([asdict(each) for each in presets], ("name", "paper", "steps", "deviations"))
    for each in presets:
        print_text(each.name)
        for text in (each.paper, f"Does: {each.steps}", f"Differs: {each.deviations}"):
            print_text(textwrap.fill(text, 110, initial_indent="  ", subsequent_indent="    "))
    return None


def _print(result: PruneResult, format: Format) -> None:
    rows = [
        {"stage": row.stage, "macs": row.macs, "params": row.params, "top1_before": row.before, "top1_after": row.after}
        for row in result.rows
    ]
    if format is Format.csv:
        return print_csv(rows, _COLUMNS)
    if format is Format.json:
        content = {**asdict(result), "rows": rows, "output": None if result.output is None else str(result.output)}
        return print_json(content)
    _print_rounds(result)
    _print_final(result)
    return None


def _print_rounds(result: PruneResult) -> None:
    from autoprune.cli.formatting import format_metric

    table = Table(
        "stage",
        "macs",
        "params",
        "top1, cut",
        "top1, trained",
        left=["stage"],
        title=f"{result.label}: round by round",
        caption="top1 on search-val: after the cut with BatchNorm re-estimated, and after the training that followed.\n"
        "macs: multiply-accumulates of one forward pass at batch 1. Percentages of the baseline.",
    )
    for row in result.rows:
        costs = {"macs": row.macs, "params": row.params}
        scores = ["-" if value is None else format_metric("top1", {"top1": value}) for value in (row.before, row.after)]
        table.add(row.stage, *(format_metric(name, costs, result.baseline) for name in costs), *scores)
    print_table(table)


def _print_final(result: PruneResult) -> None:
    from autoprune.analysis.metrics import ordered
    from autoprune.cli.formatting import format_metric

    table = Table("", "pruned", "baseline", left=[""], title="final model")
    for name in ordered(result.metrics):
        table.add(name, format_metric(name, result.metrics, result.baseline), format_metric(name, result.baseline))
    print_table(table)
    widths = Table("group", "channels kept", left=["group"])
    for group, width in result.widths.items():
        widths.add(group, str(width))
    print_table(widths)
