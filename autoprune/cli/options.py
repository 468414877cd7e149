"""Options that several commands share."""

from __future__ import annotations

from enum import Enum
from typing import Annotated

import typer

__all__ = [
    "CostOption",
    "Format",
    "FormatOption",
    "LogFileOption",
    "LogLevelOption",
    "QualityOption",
    "QuietOption",
    "RayAddressOption",
    "SearchName",
    "StoreOption",
    "WhereOption",
]


class Format(str, Enum):
    table = "table"
    json = "json"
    csv = "csv"


StoreOption = Annotated[
    str | None,
    typer.Option(
        "--store",
        metavar="URL",
        envvar="AUTOPRUNE_STORE",
        help="Where searches are kept.  [default: sqlite:///results/autoprune.db]",
        show_default=False,
    ),
]
FormatOption = Annotated[
    Format, typer.Option("--format", metavar="table|json|csv", help="How to print the result.", case_sensitive=False)
]
LogFileOption = Annotated[
    str | None,
    typer.Option(
        "--log-file",
        metavar="FILE",
        envvar="AUTOPRUNE_LOG",
        help="Append what happens as lines of JSON; processes may share the file.",
        show_default=False,
    ),
]
LogLevelOption = Annotated[
    str,
    typer.Option(
        "--log-level", metavar="debug|info|warning|error", envvar="AUTOPRUNE_LOG_LEVEL", help="From which level on."
    ),
]
QuietOption = Annotated[bool, typer.Option("--quiet", "-q", help="No progress and no messages, only the result.")]
WhereOption = Annotated[
    list[str] | None,
    typer.Option(
        "--where",
        metavar="BUDGET",
        help="A budget such as 'macs <= 0.5 * baseline' or 'params <= 200k'; may be given several times.",
        show_default=False,
    ),
]
RayAddressOption = Annotated[
    str | None,
    typer.Option(
        "--ray-address",
        metavar="URL",
        help="Run searches as jobs of the Ray cluster with this job server, such as http://head:8265.",
        show_default=False,
    ),
]
SearchName = Annotated[str, typer.Argument(metavar="NAME", help="The search's name; 'autoprune searches' lists them.")]
CostOption = Annotated[
    str | None,
    typer.Option(
        "--x",
        metavar="METRIC",
        help="The cost: macs, flops, params, latency_ms...  [default: the search's own]",
        show_default=False,
    ),
]
QualityOption = Annotated[
    str | None,
    typer.Option(
        "--y",
        metavar="METRIC",
        help="The quality; 'METRIC max' sets its direction.  [default: the search's own]",
        show_default=False,
    ),
]
