"""``autoprune worker``, and ``autoprune drive``, which it starts for each launch."""

from __future__ import annotations

import signal
from typing import Annotated

import typer

from autoprune.cli.failures import Interrupted
from autoprune.cli.options import Format, LogFileOption, LogLevelOption, QuietOption, RayAddressOption, StoreOption
from autoprune.cli.output import message
from autoprune.logs import writing

__all__ = ["register"]

_EXAMPLES = """\b
Examples:
  autoprune serve --parallel 0 --store sqlite:////shared/autoprune.db
  autoprune worker --parallel 2 --store sqlite:////shared/autoprune.db
"""


def register(app: typer.Typer) -> None:
    app.command(epilog=_EXAMPLES)(worker)
    app.command(hidden=True)(drive)


def worker(
    parallel: Annotated[int, typer.Option("--parallel", min=1, help="Searches that run at once.")] = 1,
    ray_address: RayAddressOption = None,
    until_idle: Annotated[bool, typer.Option("--until-idle", help="End when nothing waits and nothing runs.")] = False,
    store: StoreOption = None,
    quiet: QuietOption = False,
    log_file: LogFileOption = None,
    log_level: LogLevelOption = "info",
) -> None:
    """Run the searches that wait in a store's queue.

    As 'autoprune serve' does itself. Each runs in a process of its own. Ctrl-C interrupts them; the next worker, or
    server, goes on with them. Jobs of a cluster go on without a worker, and the next one looks after them.
    """
    from autoprune.api.working import Worker

    made = Worker(store, parallel=parallel, say=lambda text: message(text, quiet=quiet), ray_address=ray_address)
    signal.signal(signal.SIGTERM, lambda number, frame: made.stop())
    try:
        with writing(log_file, log_level):
            made.run(until_idle=until_idle)
    except KeyboardInterrupt:
        raise Interrupted("its launches wait for the next worker.") from None


def drive(
    launch: Annotated[int, typer.Argument(metavar="LAUNCH", min=1, help="The number of a launch.")],
    store: StoreOption = None,
    log_file: LogFileOption = None,
    log_level: LogLevelOption = "info",
) -> None:
    """Run the search of one launch in this process."""
    from autoprune.api.launches import drive as drive_launch
    from autoprune.cli.progress import make_progress
    from autoprune.cli.run import show

    # A worker that a shell started in the background is deaf to Ctrl-C, and so would be its children.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with writing(log_file, log_level), make_progress(quiet=False) as progress:
            result = drive_launch(launch, store=store, progress=progress)
    except KeyboardInterrupt:
        raise Interrupted("resume it from where it was launched.") from None
    show(result, store, Format.table, False)
