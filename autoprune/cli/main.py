"""The ``autoprune`` command: its sub-commands, and what a user sees when something goes wrong.

Nothing heavy is imported here, so that ``autoprune --help`` answers at once.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import Annotated, TextIO

import typer

from autoprune.cli import (
    audit,
    bench,
    bench_export,
    benchmark_controllers,
    compare,
    criteria,
    criteria_report,
    delete,
    doctor,
    failures,
    latency,
    models,
    prepare,
    prune,
    query,
    run,
    serve,
    store,
    submit,
    worker,
)

__all__ = ["app", "main"]

_EPILOG = """\b
Examples:
  autoprune search launch/quickstart.yaml
  autoprune front digits-quickstart --where "macs <= 0.5 * baseline"
  autoprune select digits-quickstart --where "macs <= 0.5 * baseline" --export model/

\b
Results go to stdout, progress and messages to stderr.
Exit codes:
  0    done
  1    another error of autoprune
  2    wrong usage, configuration, expression or file
  3    no such search or trial, or its name is taken
  4    the store cannot be used, or the search cannot go on
  5    nothing meets the budgets (the message has the nearest miss)
  6    an exported model does not reproduce its trial
  7    'doctor' or 'store check' found a problem
  70   a defect in autoprune (a log file has the details)
  130  interrupted
  141  the reader of the output closed it
"""

app = typer.Typer(
    name="autoprune",
    help="AutoML search for pruned CNNs: how many channels in each layer, under your budget.",
    epilog=_EPILOG,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    add_completion=False,
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
)
run.register(app)
prepare.register(app)
query.register(app)
models.register(app)
latency.register(app)
compare.register(app)
prune.register(app)
audit.register(app)
bench.register(app)
bench_export.register(app)
benchmark_controllers.register(app)
criteria.register(app)
criteria_report.register(app)
serve.register(app)
submit.register(app)
worker.register(app)
store.register(app)
delete.register(app)
doctor.register(app)


def _print_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import PackageNotFoundError, version

        try:
            sys.stdout.write(f"autoprune {version('autoprune')}\n")
        except PackageNotFoundError:
            sys.stdout.write("autoprune (not installed: run from a source folder)\n")
        raise typer.Exit


@app.callback()
def _common(
    debug: Annotated[
        bool, typer.Option("--debug", help="Show the traceback of a defect (may stand anywhere in the line).")
    ] = False,
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    pass


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command line; always leaves by SystemExit."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    debug = "--debug" in arguments
    arguments = [argument for argument in arguments if argument != "--debug"]
    try:
        app(arguments, prog_name="autoprune")
    except SystemExit as leaving:
        # typer turns a closed pipe into exit code 1, which would read as an error
        closed = isinstance(leaving.__context__, BrokenPipeError)
        sys.exit(_closed_pipe() if closed else _flushed(leaving.code))
    except BrokenPipeError:
        sys.exit(_closed_pipe())
    except Exception as error:  # noqa: BLE001 - the last line of defence: no traceback reaches a user
        sys.exit(failures.report(error, debug=debug))


def _flushed(code: int | str | None) -> int | str | None:
    """Flush now, since a closed pipe or a full disk would otherwise complain while Python shuts down."""
    try:
        sys.stderr.flush()
    except OSError:  # messages that nobody can read any more
        _discard(sys.stderr)
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        return _closed_pipe()
    except OSError as error:
        _discard(sys.stdout)
        return failures.report(error, debug=False)
    return code


def _closed_pipe() -> int:
    """The reader has gone, as in ``| head``: leave without a word, with the code of a process ended by SIGPIPE."""
    _discard(sys.stdout)
    return 141


def _discard(stream: TextIO) -> None:
    os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
