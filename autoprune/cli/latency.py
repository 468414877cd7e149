"""``autoprune latency-table`` and ``latency``: what networks take on this machine."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from autoprune.cli.latency_output import print_latency, print_latency_table, print_trial_latency
from autoprune.cli.models import image_shape
from autoprune.cli.options import Format, FormatOption, QuietOption, StoreOption
from autoprune.cli.output import message
from autoprune.errors import ConfigError

__all__ = ["register"]

_TABLE_EXAMPLES = """\b
Examples:
  autoprune latency-table search_spaces/cifar10_resnet20.yaml --out resnet20.json
  autoprune latency-table launch/cifar10_resnet20.yaml --out resnet20.json --threads 2 --plot resnet20.png
  autoprune latency-table torchvision:mobilenet_v2 --out mobilenet.json --channels-last
  autoprune latency-table resnet20 --out resnet20-compiled.json --compile --candidates 4

\b
Then, in a launch file (constraints may say: latency_ms <= 0.6 * baseline):
  latency: {table: resnet20.json}
"""
_LATENCY_EXAMPLES = """\b
Examples:
  autoprune latency resnet56
  autoprune latency model/ --input 3x32x32 --channels-last
  autoprune latency torchvision:resnet18 --batch 8 --threads 2
  autoprune latency digits-quickstart 41
"""

BatchOption = Annotated[
    int | None, typer.Option("--batch", min=1, help="Images in one forward pass.  [default: 1]", show_default=False)
]
ThreadsOption = Annotated[
    int | None, typer.Option("--threads", min=1, help="Threads of torch.  [default: 1]", show_default=False)
]
DtypeOption = Annotated[
    str | None,
    typer.Option("--dtype", help="float32, bfloat16 or float16.  [default: float32]", show_default=False),
]
LayoutOption = Annotated[
    bool | None,
    typer.Option(
        "--channels-last/--contiguous", help="Tensors in NHWC layout.  [default: contiguous]", show_default=False
    ),
]
DeviceOption = Annotated[str | None, typer.Option("--device", help="cpu, or cuda.  [default: cpu]", show_default=False)]
ClockOption = Annotated[
    str | None,
    typer.Option(
        "--clock",
        help="wall, or cpu: time of one thread on the processor, for a busy machine.  [default: wall]",
        show_default=False,
    ),
]
CompileOption = Annotated[
    bool | None,
    typer.Option(
        "--compile/--eager",
        help="Through torch.compile. A table then compiles 14 networks, seconds to a minute each.  [default: eager]",
        show_default=False,
    ),
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
    threads: ThreadsOption = None,
    batch: BatchOption = None,
    dtype: DtypeOption = None,
    channels_last: LayoutOption = None,
    device: DeviceOption = None,
    clock: ClockOption = None,
    compiled: CompileOption = None,
    levels: Annotated[int, typer.Option("--levels", help="Widths of a group tried; its square is the networks.")] = 7,
    repeats: Annotated[int, typer.Option("--repeats", help="Forward passes each time a network is visited.")] = 5,
    rounds: Annotated[int, typer.Option("--rounds", help="Visits of each network; the quietest counts.")] = 3,
    candidates: Annotated[
        int | None,
        typer.Option(
            "--candidates",
            help="Networks held out to measure the error.  [default: 20; with --compile: 8]",
            show_default=False,
        ),
    ] = None,
    plot: Annotated[
        str | None, typer.Option("--plot", metavar="FILE", help="Predicted against measured, .png or .svg.")
    ] = None,
    input_shape: InputOption = None,
    format: FormatOption = Format.table,
    quiet: QuietOption = False,
) -> None:
    """Measure a space's latency on this machine.

    Times some dozens of networks layer by layer, and others whole to tell the error of the predictions.
    """
    from autoprune.api import latency as api
    from autoprune.cli.progress import make_progress

    settings = _settings(batch, threads, dtype, channels_last, device, clock, compiled)
    effort = {"levels": levels, "rounds": rounds, "runs": repeats}
    effort |= {} if candidates is None else {"held_out": candidates}
    shape = image_shape(input_shape)
    with make_progress(quiet=quiet) as progress:
        table = api.latency_table(spec, out, settings=settings, effort=effort, input_shape=shape, progress=progress)
    print_latency_table(table, out, format)
    if plot is not None:
        from autoprune.analysis.latency_plot import plot_latency

        measured, predicted = table.held_out.measured_ms, table.held_out.predicted_ms
        plot_latency(measured.tolist(), predicted.tolist(), plot, title=f"{table.name}: {table.device}")
    message(f"{Path(out)}: use it with 'latency: {{table: {out}}}' in a launch file", quiet=quiet)


def latency(
    spec: Annotated[
        str,
        typer.Argument(
            metavar="MODEL|DIR|NAME", help="A model, the folder of an export, or with TRIAL a search's name."
        ),
    ],
    trial: Annotated[
        int | None, typer.Argument(metavar="[TRIAL]", min=0, help="With a name: the trial.", show_default=False)
    ] = None,
    threads: ThreadsOption = None,
    batch: BatchOption = None,
    dtype: DtypeOption = None,
    channels_last: LayoutOption = None,
    device: DeviceOption = None,
    clock: ClockOption = None,
    compiled: CompileOption = None,
    repeats: Annotated[int, typer.Option("--repeats", min=1, help="Forward passes at least.")] = 50,
    input_shape: InputOption = None,
    store: StoreOption = None,
    format: FormatOption = Format.table,
) -> None:
    """Time one network on this machine.

    With a search's name and a trial: its pruned network beside the dense one, in turns, and what the search predicted.
    """
    from autoprune.api import latency as api

    settings = _settings(batch, threads, dtype, channels_last, device, clock, compiled)
    if trial is not None:
        if input_shape is not None:
            raise ConfigError("--input is for a model's name; a trial knows its images.", "Leave --input out.")
        from autoprune.api.latency_trial import latency_of_trial

        pair = latency_of_trial(spec, trial, settings=settings, repeats=repeats, store=store)
        return print_trial_latency(pair, format)
    found = api.latency(spec, settings=settings, repeats=repeats, input_shape=image_shape(input_shape))
    return print_latency(found, spec, format)


def _settings(
    batch: int | None,
    threads: int | None,
    dtype: str | None,
    channels_last: bool | None,
    device: str | None,
    clock: str | None,
    compiled: bool | None,
) -> dict[str, int | str | bool]:
    """Those that were given."""
    named = {
        "batch": batch,
        "threads": threads,
        "dtype": dtype,
        "channels_last": channels_last,
        "device": device,
        "clock": clock,
        "compiled": compiled,
    }
    return {name: value for name, value in named.items() if value is not None}
