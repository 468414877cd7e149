"""``autoprune doctor``: what is here, and what is missing."""

from __future__ import annotations

from typing import Annotated

import typer

from autoprune.cli.options import Format, StoreOption

__all__ = ["register"]

_EXAMPLES = """\b
Examples:
  autoprune doctor
  autoprune doctor --store postgresql://me@db.example/autoprune --address 10.0.0.1:6379
  autoprune doctor --full
  autoprune doctor --json

\b
Exit code 7: there is a problem; warnings alone leave it at 0.
"""


def register(app: typer.Typer) -> None:
    app.command(epilog=_EXAMPLES)(doctor)


def doctor(
    address: Annotated[
        str | None,
        typer.Option(
            "--address",
            metavar="RAY",
            help="Join this Ray cluster: auto, host:port or ray://host:port.",
            show_default=False,
        ),
    ] = None,
    ray: Annotated[bool, typer.Option("--ray", help="Start a local Ray cluster, as a search does.")] = False,
    full: Annotated[
        bool, typer.Option("--full", help="Import torch and torchvision as well, and start Ray: half a minute.")
    ] = False,
    store: StoreOption = None,
    json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Look whether this machine has what a search needs.

    Packages, processor, memory, disks, GPUs, kernels, cache, store and Ray: what was found, what was expected, and what
    to do.
    """
    from autoprune import api
    from autoprune.cli.findings import show_findings
    from autoprune.cli.progress import make_progress

    slow = ray or full or address is not None
    with make_progress(quiet=not slow) as progress:
        report = api.doctor(
            store, address=address, ray=ray, full=full, progress=lambda text: progress.phase(f"looking at {text}")
        )
    raise typer.Exit(show_findings(report, Format.json if json else Format.table))
