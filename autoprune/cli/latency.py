"""``autoprune latency-table`` and ``latency``: what networks take on this machine."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from autoprune.cli.models import image_shape
from autoprune.cli.options import Format, FormatOption, QuietOption
from autoprune.cli.output import Table, message, print_csv, print_json, print_table

if TYPE_CHECKING:
    from autoprune.latency.table import LatencyTable

__all__ = ["register"]

_TABLE_EXAMPLES = """\b
Examples:
  autoprune latency-table search_spaces/cifar10_resnet20.yaml --out resnet20.json
  autoprune latency-table launch/cifar10_resnet20.yaml --out resnet20.json --threads 2 --plot resnet20.png
  autoprune latency-table torchvision:mobilenet_v2 --out mobilenet.json --channels-last

\b
Then, in a launch file (constraints may say: latency_ms <= 0.6 * baseline):
  latency: {table: resnet20.json}
"""
_LATENCY_EXAMPLES = """\b
Examples:
  autoprune latency resnet56
  autoprune latency model/ --input 3x32x32 --channels-last
  autoprune latency torchvision:resnet18 --batch 8 --threads 2
"""

BatchOption = Annotated[int, typer.Option("--batch", min=1, help="Images in one forward pass.")]
ThreadsOption = Annotated[int, typer.Option("--threads", min=1, help="Threads of torch.")]
DtypeOption = Annotated[str, typer.Option("--dtype", help="float32, bfloat16 or float16.")]
LayoutOption = Annotated[bool, typer.Option("--channels-last", help="Tensors in NHWC layout.")]
DeviceOption = Annotated[str, typer.Option("--device", help="cpu, or cuda.")]
ClockOption = Annotated[
    str, typer.Option("--clock", help="wall, or cpu: time of one thread on the processor, for a busy machine.")
]
InputOption = Annotated[
    str | None,
    typer.Option("--input", metavar="CxHxW", help="For a model's name: the image shape.", show_default=False),
]


def register(app: typer.Typer) -> None:
    app.command("latency-table", epilog=_TABLE_EXAMPLES)(latency_table)
    app.command("latency", epilog=_LATENCY_EXAMPLES)(latency)


def latency_table(
    spec: Annotated[str, typer.Argument(metavar="SPACE_OR_LAUNCH", help="A space or launch file, or a model's name.")],
    out: Annotated[str, typer.Option("--out", "-o", metavar="FILE", help="The file to write.")],
    threads: ThreadsOption = 1,
    batch: BatchOption = 1,
    dtype: DtypeOption = "float32",
    channels_last: LayoutOption = False,
    device: DeviceOption = "cpu",
    clock: ClockOption = "wall",
    levels: Annotated[int, typer.Option("--levels", help="Widths of a group tried; its square is the networks.")] = 7,
    repeats: Annotated[int, typer.Option("--repeats", help="Forward passes each time a network is visited.")] = 5,
    rounds: Annotated[int, typer.Option("--rounds", help="Visits of each network; the quietest counts.")] = 3,
    candidates: Annotated[int, typer.Option("--candidates", help="Networks held out to measure the error.")] = 20,
    plot: Annotated[
        str | None, typer.Option("--plot", metavar="FILE", help="Predicted against measured, .png or .svg.")
    ] = None,
    input_shape: InputOption = None,
    format: FormatOption = Format.table,
    quiet: QuietOption = False,
) -> None:
    """Measure this machine's latency of a space, into a file.

    Times some dozens of networks layer by layer, and others whole to tell the error of the predictions.
    """
    from autoprune.api import latency as api
    from autoprune.cli.progress import make_progress

    settings = _settings(batch, threads, dtype, channels_last, device, clock)
    effort = {"levels": levels, "rounds": rounds, "runs": repeats, "held_out": candidates}
    shape = image_shape(input_shape)
    with make_progress(quiet=quiet) as progress:
        table = api.latency_table(spec, out, settings=settings, effort=effort, input_shape=shape, progress=progress)
    if format is Format.table:
        _print(table)
    elif format is Format.json:
        print_json(_summary(table, out))
    else:
        print_csv(_checked_rows(table), ("measured_ms", "predicted_ms", "error"))
    if plot is not None:
        from autoprune.analysis.latency_plot import plot_latency

        measured, predicted = table.held_out.measured_ms, table.held_out.predicted_ms
        plot_latency(measured.tolist(), predicted.tolist(), plot, title=f"{table.name}: {table.device}")
    message(f"{Path(out)}: use it with 'latency: {{table: {out}}}' in a launch file", quiet=quiet)


def latency(
    spec: Annotated[str, typer.Argument(metavar="MODEL_OR_FOLDER", help="A model, or the folder of an export.")],
    threads: ThreadsOption = 1,
    batch: BatchOption = 1,
    dtype: DtypeOption = "float32",
    channels_last: LayoutOption = False,
    device: DeviceOption = "cpu",
    clock: ClockOption = "wall",
    compiled: Annotated[bool, typer.Option("--compile", help="Through torch.compile.")] = False,
    repeats: Annotated[int, typer.Option("--repeats", min=1, help="Forward passes at least.")] = 50,
    input_shape: InputOption = None,
    format: FormatOption = Format.table,
) -> None:
    """Time one network on this machine."""
    from autoprune.api import latency as api

    settings = {**_settings(batch, threads, dtype, channels_last, device, clock), "compiled": compiled}
    found = api.latency(spec, settings=settings, repeats=repeats, input_shape=image_shape(input_shape))
    row = {
        "median_ms": found.median_ms,
        "p10_ms": found.p10_ms,
        "p90_ms": found.p90_ms,
        "min_ms": found.min_ms,
        "runs": found.runs,
        "disturbed": found.disturbed,
        "drift": found.drift,
        "settings": str(found.settings),
        "device": found.device,
    }
    if format is Format.json:
        print_json(row)
    elif format is Format.csv:
        print_csv([row], tuple(row))
    else:
        caption = f"{found.settings}; {found.device}"
        table = Table("median", "p10", "p90", "least", "runs", "disturbed", "drift", title=spec, caption=caption)
        times = [f"{value:.3f} ms" for value in (found.median_ms, found.p10_ms, found.p90_ms, found.min_ms)]
        table.add(*times, str(found.runs), f"{100 * found.disturbed:.0f} %", f"{100 * found.drift:+.1f} %")
        print_table(table)


def _settings(
    batch: int, threads: int, dtype: str, channels_last: bool, device: str, clock: str
) -> dict[str, int | str | bool]:
    return {
        "batch": batch,
        "threads": threads,
        "dtype": dtype,
        "channels_last": channels_last,
        "device": device,
        "clock": clock,
    }


def _print(table: LatencyTable) -> None:
    errors = table.held_out.errors
    checked = Table(
        "networks held out",
        "measured",
        "median error",
        "90th percentile",
        "largest",
        title=f"{table.name}: predicted against measured latency",
        caption=f"{table.settings}; {table.device}",
    )
    low, high = table.held_out.measured_ms.min(), table.held_out.measured_ms.max()
    shares = [f"{100 * value:.1f} %" for value in (table.median_error, table.p90_error, errors.max())]
    checked.add(str(len(errors)), f"{low:.2f} to {high:.2f} ms", *shares)
    print_table(checked)
    if table.staircases:
        print_table(_steps(table))


def _steps(table: LatencyTable) -> Table:
    """Time lost by widths that are multiples of 1, 2, 4... of the slowest layer of each kind."""
    shown = (1, 2, 4, 8, 16)
    steps = Table(
        "layer",
        "kind",
        "side",
        *(f"of {multiple}" for multiple in shown),
        "suggested",
        left=("layer", "kind", "side"),
        title="Mean time lost where a wider layer is faster, over widths that are multiples",
        caption=f"Widths should be multiples of {table.multiple} here, the most that saves 5 % in one of these layers.",
    )
    for item in table.staircases:
        lost = [f"{100 * item.waste(multiple):.0f} %" if item.widths[-1] >= multiple else "-" for multiple in shown]
        steps.add(item.layer, item.kind, item.side, *lost, str(item.multiple))
    return steps


def _summary(table: LatencyTable, out: str) -> dict[str, Any]:
    return {
        "file": out,
        "name": table.name,
        "device": table.device,
        "settings": vars(table.settings),
        "made": table.made,
        "median_error": table.median_error,
        "p90_error": table.p90_error,
        "multiple": table.multiple,
        "held_out": _checked_rows(table),
        "staircases": [{**vars(item), "multiple": item.multiple} for item in table.staircases],
    }


def _checked_rows(table: LatencyTable) -> list[dict[str, float]]:
    timed = table.held_out
    rows = zip(timed.measured_ms, timed.predicted_ms, timed.errors, strict=True)
    return [{"measured_ms": float(m), "predicted_ms": float(p), "error": float(e)} for m, p, e in rows]
