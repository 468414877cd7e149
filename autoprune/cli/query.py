"""``autoprune searches``, ``trials``, ``front`` and ``select``: reading the store."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from autoprune.cli.exporting import (
    EXPORT_FORMATS,
    BatchOption,
    ExportFormat,
    FoldOption,
    LicenceOption,
    batch_size,
)
from autoprune.cli.failures import Interrupted
from autoprune.cli.options import (
    CostOption,
    Format,
    FormatOption,
    QualityOption,
    QuietOption,
    SearchName,
    StoreOption,
    WhereOption,
)
from autoprune.cli.output import Table, message, print_table, print_text
from autoprune.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from autoprune.analysis.history import History

__all__ = ["register"]

_SEARCHES_EXAMPLES = """\b
Examples:
  autoprune searches
  autoprune searches --store sqlite:///other.db --format json
"""
_TRIALS_EXAMPLES = """\b
Examples:
  autoprune trials digits-quickstart
  autoprune trials digits-quickstart --state failed --state infeasible
  autoprune trials digits-quickstart --format csv > trials.csv
"""
_FRONT_EXAMPLES = """\b
Examples:
  autoprune front digits-quickstart
  autoprune front digits-quickstart --where "macs <= 0.5 * baseline" --where "params <= 100k"
  autoprune front digits-quickstart --x params --plot front.png
  autoprune front digits-quickstart --format json | jq '.front[].widths'
"""
_HISTORY_EXAMPLES = """\b
Examples:
  autoprune history digits-quickstart
  autoprune history digits-quickstart --x params --plot history.png
  autoprune history digits-quickstart --format csv > history.csv
"""
_SELECT_EXAMPLES = """\b
Examples:
  autoprune select digits-quickstart --where "macs <= 0.5 * baseline"
  autoprune select digits-quickstart --where "20M <= macs <= 30M" --where "params <= 50% of baseline"
  autoprune select digits-quickstart --where "top1 >= 0.95" --minimize macs --export model/
  autoprune select digits-quickstart --where "macs <= 20M" --export onnx/ --export-format onnx
  autoprune select digits-quickstart --where "macs <= 50%" --retrain finetune_rewind --export finished/
"""


def register(app: typer.Typer) -> None:
    app.command(epilog=_SEARCHES_EXAMPLES)(searches)
    app.command(epilog=_TRIALS_EXAMPLES)(trials)
    app.command(epilog=_FRONT_EXAMPLES)(front)
    app.command(epilog=_HISTORY_EXAMPLES)(history)
    app.command(epilog=_SELECT_EXAMPLES)(select)


def searches(store: StoreOption = None, format: FormatOption = Format.table) -> None:
    """List the searches of a store."""
    from autoprune import api
    from autoprune.cli.tables import print_searches

    print_searches(api.searches(store), format)


def trials(
    name: SearchName,
    state: Annotated[
        list[str] | None,
        typer.Option(
            "--state",
            metavar="STATE",
            help="Only these: running, complete, stopped, infeasible, diverged, failed. May be repeated.",
            show_default=False,
        ),
    ] = None,
    store: StoreOption = None,
    format: FormatOption = Format.table,
) -> None:
    """List the trials of a search."""
    from autoprune import api
    from autoprune.cli.tables import print_trials

    print_trials(api.trials(name, states=state or None, store=store), format)


def front(
    name: SearchName,
    x: CostOption = None,
    y: QualityOption = None,
    where: WhereOption = None,
    plot: Annotated[
        str | None,
        typer.Option("--plot", metavar="FILE", help="Also draw it: .png, .svg or .html.", show_default=False),
    ] = None,
    presets: Annotated[
        bool, typer.Option("--presets", help="Beside it: what 'autoprune prune --search NAME' made.")
    ] = False,
    store: StoreOption = None,
    format: FormatOption = Format.table,
    quiet: QuietOption = False,
) -> None:
    """Print the Pareto front of two metrics."""
    from autoprune import api
    from autoprune.cli.tables import print_front

    result = api.front(name, x=x, y=y, where=where or (), presets=presets, store=store)
    if plot is not None:
        api.plot(result, plot, store=store)
        message(f"the plot is in {plot}", quiet=quiet)
    print_front(result, format)


def history(
    name: SearchName,
    x: CostOption = None,
    y: QualityOption = None,
    plot: Annotated[
        str | None, typer.Option("--plot", metavar="FILE", help="Also draw it: .png or .svg.", show_default=False)
    ] = None,
    store: StoreOption = None,
    format: FormatOption = Format.table,
    quiet: QuietOption = False,
) -> None:
    """Print how the hypervolume of two metrics grew.

    One line for each trial that moved the front, and one for the last. The share is of the box between the best value
    of each metric and the reference point.
    """
    from autoprune import api

    result = api.history(name, x=x, y=y, store=store)
    if plot is not None:
        from autoprune.analysis.plots import plot_history

        plot_history(result, plot)
        message(f"the plot is in {plot}", quiet=quiet)
    _print_history(result, format)


def _print_history(history: History, format: Format) -> None:
    if format is Format.json:
        return print_text(history.to_json())
    if format is Format.csv:
        return print_text(history.to_csv())
    axes = ", ".join(map(str, history.objectives))
    title = f"{history.search}: hypervolume of {axes} over {len(history.numbers)} trials"
    caption = f"The share is of the box from the best values to the reference: {history.describe_reference()}."
    table = Table("trial", "share", "hypervolume", title=title, caption=caption)
    for row in history.rows():
        table.add(f"{row['trial']:.0f}", f"{100 * row['share']:.2f} %", f"{row['hypervolume']:.6g}")
    return print_table(table)


def select(
    name: SearchName,
    where: WhereOption = None,
    maximize: Annotated[
        str | None,
        typer.Option(
            "--maximize", metavar="METRIC", help="[default: the search's own, such as top1]", show_default=False
        ),
    ] = None,
    minimize: Annotated[
        str | None, typer.Option("--minimize", metavar="METRIC", help="Instead of --maximize.", show_default=False)
    ] = None,
    export: Annotated[
        str | None,
        typer.Option("--export", metavar="DIR", help="Also export the selected model there.", show_default=False),
    ] = None,
    export_format: Annotated[
        ExportFormat, typer.Option("--export-format", help=EXPORT_FORMATS)
    ] = ExportFormat.safetensors,
    retrain: Annotated[
        str | None,
        typer.Option(
            "--retrain",
            metavar="ARM",
            help="Train it first, as 'autoprune compare' does: finetune_rewind, scratch_b...",
            show_default=False,
        ),
    ] = None,
    recipe: Annotated[
        list[str] | None,
        typer.Option(
            "--recipe", metavar="KEY=VALUE", help="Change the recipe of --retrain: epochs=20.", show_default=False
        ),
    ] = None,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Of --retrain.")] = 0,
    fold_bn: FoldOption = False,
    batch: BatchOption = "dynamic",
    licence: LicenceOption = "unknown",
    store: StoreOption = None,
    format: FormatOption = Format.table,
    quiet: QuietOption = False,
) -> None:
    """Print the best model under all budgets at once.

    When there is none: exit code 5, and the trial that comes nearest with what it misses. With --retrain the model
    is trained to its end and scored on the test images before it is exported.
    """
    from autoprune import api
    from autoprune.cli.tables import print_selection

    if (retrain or recipe) and export is None:
        raise ConfigError("--retrain and --recipe need --export DIR: the folder for the trained model.")
    if recipe and retrain is None:
        raise ConfigError("--recipe has no effect without --retrain ARM.", "For example --retrain finetune_rewind.")
    selection = api.select(name, where=where or (), maximize=maximize, minimize=minimize, store=store)
    print_selection(selection, format)
    for item in api.stored_audits(name, store=store):
        if item["warning"]:
            message(f"{item['short']}. Warning: {item['warning']}", quiet=quiet)
    if export is not None:
        options: dict[str, Any] = {
            "format": export_format.value,
            "fold_bn": fold_bn,
            "batch": batch_size(batch),
            "licence": licence,
            "store": store,
        }
        number = selection.trial.number
        try:
            text = _exported(name, number, export, retrain, {"seed": seed, "overrides": recipe or ()}, options, quiet)
        except KeyboardInterrupt:
            raise Interrupted("the same command goes on from there.") from None
        message(text, quiet=quiet)


def _exported(
    name: str,
    number: int,
    folder: str,
    retrain: str | None,
    training: Mapping[str, Any],
    options: Mapping[str, Any],
    quiet: bool,
) -> str:
    """Write the trial's model, trained first where ``retrain`` names an arm; what was done, in a sentence."""
    from autoprune import api
    from autoprune.cli.progress import make_progress

    with make_progress(quiet=quiet) as progress:
        if retrain is None:
            return f"exported trial {number} to {api.export(name, number, folder, progress=progress, **options)}"
        done = api.retrain(name, number, folder, arm=retrain, progress=progress, **training, **options)
    top1, test = (100 * done.metrics[key] for key in ("top1", "test_top1"))
    return (
        f"trained trial {number} by {done.arm} for {done.epochs} epochs: top1 {top1:.2f} % on search-val, {test:.2f} % "
        f"on test; exported to {done.output}"
    )
