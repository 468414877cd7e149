"""``autoprune delete``: a search and its trials, for good."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from autoprune.cli.options import SearchName, StoreOption
from autoprune.cli.output import message, print_json, print_text

if TYPE_CHECKING:
    from autoprune.types import SearchRecord

__all__ = ["register"]

_EXAMPLES = """\b
Examples:
  autoprune delete digits-quickstart
  autoprune delete digits-quickstart --yes --json
  autoprune store export digits-quickstart --to digits.jsonl.gz   (to keep it elsewhere first)
"""


def register(app: typer.Typer) -> None:
    app.command(epilog=_EXAMPLES)(delete)


def delete(
    name: SearchName,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask; for scripts.")] = False,
    store: StoreOption = None,
    json: Annotated[bool, typer.Option("--json", help="Print what was deleted as JSON.")] = False,
) -> None:
    """Delete a search with its trials for good.

    A search that is being run, or waits to be run, is refused. Reports, exported models and what 'compare' trained
    stay.
    """
    from autoprune.api.launches import delete as delete_search
    from autoprune.api.maintenance import described

    record = described(name, store=store)
    if not yes:
        _ask(record)
    delete_search(name, store=store)
    if json:
        return print_json({"deleted": name, "trials": sum(record.trial_counts.values()), "state": record.state.value})
    print_text(f"deleted {name!r} with {sum(record.trial_counts.values())} trials")


def _ask(record: SearchRecord) -> None:
    """Raises ConfigError where nobody can be asked, and Abort for another answer."""
    from autoprune.cli.formatting import format_time
    from autoprune.errors import ConfigError

    trials = sum(record.trial_counts.values())
    message(
        f"'{record.name}' ({record.state.value}, begun {format_time(record.created_at)}) goes for good: {trials} trials"
        " with their metrics, its audits, its queue entries. Files stay."
    )
    if not sys.stdin.isatty():
        raise ConfigError(f"deleting {record.name!r} was not confirmed.", "Add --yes; nothing was deleted.")
    sys.stderr.write(f"Type its name to delete it: [{record.name}] ")
    sys.stderr.flush()
    if sys.stdin.readline().strip() != record.name:
        raise ConfigError("that is not its name: nothing was deleted.")
