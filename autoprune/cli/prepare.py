"""``autoprune prepare``: the trainings of a search before the search."""

from __future__ import annotations

import shlex
from dataclasses import asdict
from typing import Annotated

import typer

from autoprune.cli.failures import Interrupted
from autoprune.cli.options import Format, FormatOption, QuietOption
from autoprune.cli.output import Table, message, print_csv, print_json, print_table

__all__ = ["register"]

_EXAMPLES = """\b
Examples:
  autoprune prepare launch/digits_metapruning.yaml
  autoprune prepare launch/cifar10_resnet20.yaml --set "evaluator.weights={kind: hypernet, recipe: {epochs: 10}}"
  autoprune prepare launch/digits_metapruning.yaml --quiet --format json
"""
_COLUMNS = ("what", "parameters", "trained", "seconds", "digest", "path")


def register(app: typer.Typer) -> None:
    app.command(epilog=_EXAMPLES)(prepare)


def prepare(
    config: Annotated[str, typer.Argument(metavar="CONFIG", help="A launch file (YAML).")],
    overrides: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Change one setting; may be repeated.", show_default=False),
    ] = None,
    format: FormatOption = Format.table,
    quiet: QuietOption = False,
) -> None:
    """Train what a search needs beforehand.

    That is the base model, and the hypernetwork where one makes the weights. A search does this by itself; here it is
    done beforehand, on another machine (copy the file and name it as evaluator.weights.checkpoint), or once for
    several searches over one space. The same command goes on where it was cut.
    """
    from autoprune import api
    from autoprune.cli.progress import make_progress

    try:
        with make_progress(quiet=quiet) as progress:
            networks = api.prepare(config, overrides=overrides or (), progress=progress)
    except KeyboardInterrupt:
        raise Interrupted("the same command goes on where it last saved.") from None
    rows = [{**asdict(item), "path": str(item.path)} for item in networks]
    if format is Format.json:
        print_json(rows)
    elif format is Format.csv:
        print_csv(rows, _COLUMNS)
    else:
        from autoprune.cli.formatting import format_duration

        table = Table("network", "parameters", "took", "file", left=("network", "took", "file"))
        for item in networks:
            took = f"trained in {format_duration(item.seconds)}" if item.trained else "was there"
            table.add(item.what, f"{item.parameters:,}", took, str(item.path))
        print_table(table)
    settings = "".join(f" --set {shlex.quote(item)}" for item in overrides or ())
    message(f"search with: autoprune search {shlex.quote(config)}{settings}", quiet=quiet)
