"""``autoprune serve``: the web page and the REST interface."""

from __future__ import annotations

from typing import Annotated

import typer

from autoprune.cli.options import LogFileOption, LogLevelOption, RayAddressOption, StoreOption
from autoprune.logs import writing

__all__ = ["register"]

_EXAMPLES = """\b
Examples:
  autoprune serve
  autoprune serve --store sqlite:///results/autoprune.db --data-root /data
  autoprune serve --host 0.0.0.0 --token-file tokens.txt
  autoprune serve --ray-address http://head:8265 --store sqlite:////shared/autoprune.db
"""


def register(app: typer.Typer) -> None:
    app.command(epilog=_EXAMPLES)(serve)


def serve(
    host: Annotated[
        str, typer.Option("--host", metavar="ADDRESS", help="Where to listen. Others than this machine need a token.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", min=0, max=65535, help="0: any free one.")] = 8642,
    store: StoreOption = None,
    data_root: Annotated[
        str,
        typer.Option("--data-root", metavar="DIR", help="Launched searches read data and checkpoints only in here."),
    ] = "data",
    token_file: Annotated[
        str | None,
        typer.Option(
            "--token-file",
            metavar="FILE",
            help="Ask for a token of this file; where there is none, one is made with a read and a launch token.",
            show_default=False,
        ),
    ] = None,
    allow_code: Annotated[
        bool,
        typer.Option(
            "--allow-code",
            help="Launched searches may name Python files, any path and any cluster: whoever can launch can run code.",
        ),
    ] = False,
    allow_host: Annotated[
        list[str] | None,
        typer.Option(
            "--allow-host",
            metavar="NAME",
            help="A further name of this server, such as a proxy's; may be repeated.",
            show_default=False,
        ),
    ] = None,
    parallel: Annotated[
        int, typer.Option("--parallel", min=0, help="Searches that run at once; 0: leave them to 'autoprune worker'.")
    ] = 1,
    ray_address: RayAddressOption = None,
    output: Annotated[
        str, typer.Option("--output", metavar="DIR", help="Where launched searches leave their reports.")
    ] = "results",
    log_file: LogFileOption = None,
    log_level: LogLevelOption = "info",
) -> None:
    """Serve the web page and the REST interface.

    Runs until Ctrl-C. Searches that are launched there run in processes of their own; a server that starts again goes
    on with those that were cut off.
    """
    from autoprune.service.run import run

    with writing(log_file, log_level):
        run(
            store=store,
            host=host,
            port=port,
            data_root=data_root,
            token_file=token_file,
            allow_code=allow_code,
            allowed_hosts=allow_host or (),
            parallel=parallel,
            output=output,
            ray_address=ray_address,
        )
