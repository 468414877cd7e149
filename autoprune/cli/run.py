"""``autoprune search`` and ``autoprune resume``."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from autoprune.cli.failures import Interrupted
from autoprune.cli.options import (
    Format,
    FormatOption,
    LogFileOption,
    LogLevelOption,
    QuietOption,
    SearchName,
    StoreOption,
)
from autoprune.cli.output import message
from autoprune.cli.signals import ended_like_ctrl_c
from autoprune.errors import without_password
from autoprune.logs import writing

if TYPE_CHECKING:
    from autoprune.api import SearchResult

__all__ = ["register", "show"]

_SEARCH_EXAMPLES = """\b
Examples:
  autoprune search launch/quickstart.yaml
  autoprune search launch/cifar10_resnet20.yaml --set space.data.root=/data/cifar10
  autoprune search launch/quickstart.yaml --set name=longer --set limits.trials=200
  autoprune search launch/quickstart.yaml --quiet --format json > front.json
"""
_RESUME_EXAMPLES = """\b
Examples:
  autoprune resume digits-quickstart
  autoprune resume digits-quickstart --trials 200
"""


def register(app: typer.Typer) -> None:
    app.command(epilog=_SEARCH_EXAMPLES)(search)
    app.command(epilog=_RESUME_EXAMPLES)(resume)


def search(
    config: Annotated[str, typer.Argument(metavar="CONFIG", help="A launch file (YAML).")],
    overrides: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Change one setting; may be repeated.", show_default=False),
    ] = None,
    store: StoreOption = None,
    format: FormatOption = Format.table,
    quiet: QuietOption = False,
    log_file: LogFileOption = None,
    log_level: LogLevelOption = "info",
) -> None:
    """Run a search and print its Pareto front.

    Trains or loads the base model, finds the channels that can be pruned, measures candidates and writes front.csv,
    front.png and report.html. The same file again goes on where it stopped.
    """
    from autoprune import api
    from autoprune.cli.progress import make_progress

    try:
        with writing(log_file, log_level), ended_like_ctrl_c(), make_progress(quiet=quiet) as progress:
            result = api.search(config, overrides=overrides or (), store=store, progress=progress)
    except KeyboardInterrupt:
        raise Interrupted(_resume_hint(_name_in(config, overrides or ()), store)) from None
    show(result, store, format, quiet)


def resume(
    name: SearchName,
    trials: Annotated[
        int | None, typer.Option("--trials", min=1, help="A new limit of trials.", show_default=False)
    ] = None,
    store: StoreOption = None,
    format: FormatOption = Format.table,
    quiet: QuietOption = False,
    log_file: LogFileOption = None,
    log_level: LogLevelOption = "info",
) -> None:
    """Go on with an interrupted search, or extend one."""
    from autoprune import api
    from autoprune.cli.progress import make_progress

    try:
        with writing(log_file, log_level), ended_like_ctrl_c(), make_progress(quiet=quiet) as progress:
            result = api.resume(name, store=store, trials=trials, progress=progress)
    except KeyboardInterrupt:
        raise Interrupted(_resume_hint(name, store)) from None
    show(result, store, format, quiet)


def show(result: SearchResult, store: str | None, format: Format, quiet: bool) -> None:
    """The front so far; a search that was stopped in good order ends like one that Ctrl-C cut off."""
    from autoprune.cli.tables import print_front
    from autoprune.types import SearchState

    if result.reused:
        message(f"'{result.record.name}' was complete already; nothing was run.", quiet=quiet)
    print_front(result.front, format)
    message(f"{result.trials} trials; report, plot and table are in {result.output}/", quiet=quiet)
    if result.record.state is SearchState.INTERRUPTED:
        raise Interrupted(_resume_hint(result.record.name, store))


def _resume_hint(name: str, store: str | None) -> str:
    given = store and store != os.environ.get("AUTOPRUNE_STORE")  # the option's value may come from there
    return f"resume with: autoprune resume {name}" + (f" --store {without_password(store or '')}" if given else "")


def _name_in(config: str, overrides: Sequence[str]) -> str:
    """The search's name, read without the rest of the configuration: this runs while the user waits after Ctrl-C."""
    for override in reversed(overrides):
        key, _, value = override.partition("=")
        if key.strip() == "name":
            return value.strip()
    import yaml

    try:
        with open(config, encoding="utf-8") as file:
            content = yaml.safe_load(file)
    except (OSError, UnicodeDecodeError, yaml.YAMLError):
        return "NAME"
    return str(content.get("name", "NAME")) if isinstance(content, dict) else "NAME"
