"""``autoprune bench-export``: is the pruned model faster in onnxruntime?"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from autoprune.cli.options import Format, FormatOption, StoreOption
from autoprune.cli.output import Table, print_csv, print_json, print_table, print_text

if TYPE_CHECKING:
    from autoprune.api import ExportBench

__all__ = ["register"]

_EXAMPLES = """\b
Examples:
  autoprune bench-export digits-quickstart 41
  autoprune bench-export digits-quickstart 41 --batch 32 --threads 2 --format json
  autoprune bench-export model/
"""


def register(app: typer.Typer) -> None:
    app.command("bench-export", epilog=_EXAMPLES)(bench_export)


def bench_export(
    target: Annotated[str, typer.Argument(metavar="NAME|DIR", help="A search's name, or the folder of an export.")],
    trial: Annotated[
        int | None,
        typer.Argument(metavar="[TRIAL]", min=0, help="With a name: the trial.", show_default=False),
    ] = None,
    batch: Annotated[int, typer.Option("--batch", min=1, help="Images a call.")] = 1,
    threads: Annotated[int, typer.Option("--threads", min=1, help="Threads of onnxruntime.")] = 1,
    warmup: Annotated[int, typer.Option("--warmup", min=0, help="Calls before timing.")] = 10,
    repeats: Annotated[int, typer.Option("--repeats", min=1, help="Timed rounds; each times both models.")] = 30,
    store: StoreOption = None,
    format: FormatOption = Format.table,
) -> None:
    """Time the dense and the pruned model.

    Both run in onnxruntime on this machine, in turns. Latency depends on shapes only, so no data is needed.
    """
    from autoprune import api

    result = api.bench_export(target, trial, batch=batch, threads=threads, warmup=warmup, repeats=repeats, store=store)
    _print(result, format)


def _print(result: ExportBench, format: Format) -> None:
    from autoprune.cli.formatting import format_count

    content = result.to_dict()
    if format is Format.json:
        return print_json(content)
    rows = [{"model": kind, **content[kind]} for kind in ("dense", "pruned")]
    if format is Format.csv:
        return print_csv(rows, list(rows[0]))
    settings = result.settings
    table = Table(
        "model",
        "median",
        "spread",
        "minimum",
        "MACs",
        left=["model"],
        title=f"{result.name}: onnxruntime, batch {settings['batch']}, {settings['threads']} thread(s)",
        caption=(
            f"Milliseconds a call, {result.facts.get('clock', '')}; {settings['repeats']} rounds, each timing both; "
            f"spread: half the distance between the quartiles. {result.facts.get('processor', '')}"
        ),
    )
    for row in rows:
        times = [f"{row[key]:.3f} ms" for key in ("median_ms", "spread_ms", "min_ms")]
        table.add(row["model"], *times, format_count(row["macs"]))
    print_table(table)
    low, high = content["speedup_quartiles"]
    print_text(f"{result.verdict} Half of the rounds gave a speed-up from {low:.2f} to {high:.2f}.")
    return None
