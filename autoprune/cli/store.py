"""``autoprune store``: checking a store, keeping it small and up to date, moving searches between stores."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated

import typer

from autoprune.cli.failures import Interrupted
from autoprune.cli.options import Format, FormatOption, QuietOption, StoreOption
from autoprune.cli.output import message, print_json, print_text

if TYPE_CHECKING:
    from autoprune.api.maintenance_transfer import Transfer

__all__ = ["register"]

_CHECK_EXAMPLES = """\b
Examples:
  autoprune store check
  autoprune store check --store sqlite:////shared/autoprune.db --format json
  autoprune store check --repair

\b
Exit code 7: something was found that must be mended.
"""
_VACUUM_EXAMPLES = """\b
Examples:
  autoprune store vacuum
"""
_MIGRATE_EXAMPLES = """\b
Examples:
  autoprune store migrate --dry-run
  autoprune store migrate
"""
_EXPORT_EXAMPLES = """\b
Examples:
  autoprune store export --to all.jsonl.gz
  autoprune store export digits-quickstart --to digits.jsonl
  autoprune store export digits-quickstart --optuna sqlite:///optuna.db
  autoprune store export digits-quickstart --optuna optuna.log && optuna-dashboard optuna.log
"""
_IMPORT_EXAMPLES = """\b
Examples:
  autoprune store import all.jsonl.gz --store postgresql://me@db.example/autoprune
  autoprune store import digits.jsonl --rename digits-quickstart=from-the-laptop
  autoprune store import all.jsonl.gz --skip-existing
"""

_store = typer.Typer(help="Check a store, shrink it, move searches.", no_args_is_help=True)
JsonOption = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]


def register(app: typer.Typer) -> None:
    app.add_typer(_store, name="store", rich_help_panel=None)


@_store.command(epilog=_CHECK_EXAMPLES)
def check(
    repair: Annotated[
        bool,
        typer.Option("--repair", help="Make packs again that disagree with rows; delete rows that belong to nothing."),
    ] = False,
    store: StoreOption = None,
    format: FormatOption = Format.table,
    quiet: QuietOption = False,
) -> None:
    """Look whether what a store says can be trusted.

    The database itself, the trials of every search and the exports beside the store. Searches may be running.
    """
    from autoprune import api
    from autoprune.cli.findings import show_findings
    from autoprune.cli.progress import make_progress

    with make_progress(quiet=quiet) as progress:
        report = api.check_store(store, repair=repair, progress=lambda text: progress.phase(f"checking {text}"))
    raise typer.Exit(show_findings(report, format, quiet=quiet))


@_store.command(epilog=_VACUUM_EXAMPLES)
def vacuum(store: StoreOption = None, json: JsonOption = False) -> None:
    """Give back the space of what was deleted.

    Needs as much free space as the file has bytes. A file is not touched while a search in it is being run.
    """
    from autoprune.api.maintenance import vacuum_store

    before, after = vacuum_store(store)
    if json:
        return print_json({"bytes_before": before, "bytes_after": after})
    print_text(f"{before:,} bytes before, {after:,} bytes after")


@_store.command(epilog=_MIGRATE_EXAMPLES)
def migrate(
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be done, and do nothing.")] = False,
    store: StoreOption = None,
    json: JsonOption = False,
) -> None:
    """Bring a store of an older autoprune up to date.

    Every command that writes does the same. A copy of a file stays beside it.
    """
    from autoprune.api.maintenance import migrate_store

    done = migrate_store(store, dry_run=dry_run)
    if json:
        content = {"before": done.before, "after": done.after, "copy": done.copy and str(done.copy)}
        return print_json({**content, "dry_run": dry_run, "held": list(done.held)})
    if done.before == done.after:
        return print_text(f"schema version {done.before}: up to date.")
    would = "would be brought" if dry_run else "was brought"
    print_text(f"the schema {would} from version {done.before} to {done.after}.")
    if done.copy is not None:
        print_text(f"a copy as it was: {done.copy}")
    if done.held:
        message(f"warning: {', '.join(done.held)} is being run; an older autoprune cannot go on with it afterwards.")


@_store.command(epilog=_EXPORT_EXAMPLES)
def export(
    names: Annotated[
        list[str] | None, typer.Argument(metavar="[SEARCH]...", help="Which searches; all unless named.")
    ] = None,
    to: Annotated[
        str | None,
        typer.Option("--to", metavar="FILE", help="A file of JSON Lines; .gz: compressed.", show_default=False),
    ] = None,
    optuna: Annotated[
        str | None,
        typer.Option(
            "--optuna",
            metavar="URL|FILE",
            help="Write a study for optuna-dashboard instead, into a database or (much faster) a journal file.",
            show_default=False,
        ),
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a file that exists.")] = False,
    store: StoreOption = None,
    json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Write searches into a file, to be taken into another store.

    With trials, metrics, trainings, audits and all else that their reports need; without weights. A file that was cut
    or changed is refused when it is imported.
    """
    if (to is None) == (optuna is None):
        raise typer.BadParameter("give one of --to FILE and --optuna URL.")
    if optuna is not None:
        return _to_optuna(names or [], optuna, store, json, quiet)
    from autoprune.api.maintenance_transfer import export_searches

    with _counting("exporting", quiet) as progress:
        done = export_searches(to or "", names or (), store=store, overwrite=overwrite, progress=progress)
    _show(done, json, "exported")


def _to_optuna(names: list[str], storage: str, store: str | None, json: bool, quiet: bool) -> None:
    if not names:
        raise typer.BadParameter("--optuna needs the names of searches.")
    from autoprune.api.maintenance_optuna import export_to_optuna
    from autoprune.errors import without_password

    counts = {}
    for name in names:
        with _counting(f"exporting {name}", quiet) as progress:
            counts[name] = export_to_optuna(name, storage, store=store, progress=progress)
    if json:
        return print_json({"studies": counts})
    for name, count in counts.items():
        print_text(f"study {name!r} with {count} trials is in {without_password(storage)}")


@_store.command("import", epilog=_IMPORT_EXAMPLES)
def import_(
    file: Annotated[str, typer.Argument(metavar="FILE", help="What 'autoprune store export' wrote.")],
    rename: Annotated[
        list[str] | None,
        typer.Option("--rename", metavar="OLD=NEW", help="Another name; may be repeated.", show_default=False),
    ] = None,
    skip_existing: Annotated[
        bool, typer.Option("--skip-existing", help="Leave out searches whose name the store has.")
    ] = False,
    store: StoreOption = None,
    json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Take exported searches into a store.

    All of them, or none when the file is cut or damaged, or a name is taken.
    """
    from autoprune.api.maintenance_transfer import import_searches

    pairs = dict(_pair(text) for text in rename or ())
    with _counting("importing", quiet) as progress:
        done = import_searches(file, store=store, rename=pairs, skip_existing=skip_existing, progress=progress)
    _show(done, json, "imported")


def _pair(text: str) -> tuple[str, str]:
    old, _, new = text.partition("=")
    if not old or not new:
        raise typer.BadParameter(f"--rename {text!r}: expected OLD=NEW.")
    return old, new


def _show(done: Transfer, json: bool, verb: str) -> None:
    from autoprune.api.maintenance_lines import counted

    if json:
        print_json({"file": str(done.file), "counts": dict(done.counts), "skipped": list(done.skipped)})
        return
    print_text(f"{verb} {counted(done.counts)}: {done.file}")
    if done.skipped:
        print_text(f"left out, since the store has them: {', '.join(done.skipped)}")


@contextmanager
def _counting(title: str, quiet: bool) -> Iterator[Callable[[int, int], None]]:
    """A bar of trials; Ctrl-C within leaves nothing behind."""
    from autoprune.cli.progress import make_progress

    try:
        with make_progress(quiet=quiet) as progress:
            before = -1

            def show(done: int, total: int) -> None:
                nonlocal before
                if before < 0:
                    progress.phase(title, total)
                    before = 0
                progress.advance(step=done - before)
                before = done

            yield show
    except KeyboardInterrupt:
        raise Interrupted("run the same command again.") from None
