"""``autoprune export``, ``space`` and ``report``: models, what can be pruned in them, and the files of a search."""

from __future__ import annotations

from typing import Annotated

import typer

from autoprune.cli.exporting import (
    EXPORT_FORMATS,
    BatchOption,
    ExportFormat,
    FoldOption,
    LicenceOption,
    batch_size,
    loading_hint,
)
from autoprune.cli.options import Format, FormatOption, QuietOption, SearchName, StoreOption
from autoprune.cli.output import message, print_text
from autoprune.errors import ConfigError

__all__ = ["image_shape", "register"]

_EXPORT_EXAMPLES = """\b
Examples:
  autoprune export digits-quickstart 41 --out model/
  autoprune export digits-quickstart 41 --out onnx/ --format onnx --fold-bn --licence MIT
  autoprune export digits-quickstart 41 --out fixed/ --format torch_export --batch 1
  python -c "import autoprune; print(autoprune.load_model('model/'))"
"""
_SPACE_EXAMPLES = """\b
Examples:
  autoprune space search_spaces/cifar10_resnet20.yaml
  autoprune space resnet56 --check
  autoprune space my_model.py:make --input 3x64x64
  autoprune space torchvision:resnet18 --input 3x224x224
  autoprune space timm:regnety_004 --check
  autoprune space vgg16_bn --format json
"""
_REPORT_EXAMPLES = """\b
Examples:
  autoprune report digits-quickstart
  autoprune report digits-quickstart --out shared/report
"""


def register(app: typer.Typer) -> None:
    app.command(epilog=_EXPORT_EXAMPLES)(export)
    app.command(epilog=_SPACE_EXAMPLES)(space)
    app.command(epilog=_REPORT_EXAMPLES)(report)


def export(
    name: SearchName,
    trial: Annotated[int, typer.Argument(metavar="TRIAL", min=0, help="The trial's number.")],
    out: Annotated[str, typer.Option("--out", "-o", metavar="DIR", help="The folder to write.")],
    format: Annotated[ExportFormat, typer.Option("--format", help=EXPORT_FORMATS)] = ExportFormat.safetensors,
    fold_bn: FoldOption = False,
    batch: BatchOption = "dynamic",
    licence: LicenceOption = "unknown",
    store: StoreOption = None,
    quiet: QuietOption = False,
) -> None:
    """Write the pruned model of a trial, and verify it.

    The folder gets the weights as safetensors and a JSON description, or one program file with its metadata inside.
    Its name is printed. A file that does not reproduce the PyTorch model is an error (exit code 6) and is not kept.
    """
    from autoprune import api
    from autoprune.cli.progress import make_progress

    with make_progress(quiet=quiet) as progress:
        folder = api.export(
            name,
            trial,
            out,
            format=format.value,
            fold_bn=fold_bn,
            batch=batch_size(batch),
            licence=licence,
            store=store,
            progress=progress,
        )
    print_text(str(folder))
    message(loading_hint(folder, format.value), quiet=quiet)


def space(
    spec: Annotated[str, typer.Argument(metavar="SPACE_OR_MODEL", help="A search space file, or a model's name.")],
    check: Annotated[
        bool, typer.Option("--check", help="Also slice the model and compare its outputs with the masked model's.")
    ] = False,
    input_shape: Annotated[
        str | None,
        typer.Option("--input", metavar="CxHxW", help="For a model's name: the image shape.", show_default=False),
    ] = None,
    format: FormatOption = Format.table,
) -> None:
    """Show which channels of a model can be pruned.

    Groups of coupled channels with their allowed widths, members and share of the MACs.
    """
    from autoprune import api
    from autoprune.cli.tables import print_space

    print_space(api.space(spec, check=check, input_shape=image_shape(input_shape)), format)


def image_shape(text: str | None) -> tuple[int, int, int] | None:
    """``3x224x224`` as numbers. Raises ConfigError."""
    if text is None:
        return None
    parts = text.lower().split("x")
    if len(parts) != 3 or not all(part.isdigit() and int(part) > 0 for part in parts):
        raise ConfigError(
            f"--input {text!r} is not understood: expected CxHxW.", "Write for example --input 3x224x224."
        )
    return int(parts[0]), int(parts[1]), int(parts[2])


def report(
    name: SearchName,
    out: Annotated[
        str | None,
        typer.Option("--out", "-o", metavar="DIR", help="[default: the search's output folder]", show_default=False),
    ] = None,
    store: StoreOption = None,
    format: FormatOption = Format.table,
) -> None:
    """Write the report of a stored search again.

    The folder gets front.csv, front.png and report.html; its name is printed. As json or csv: with what each node of
    the cluster did.
    """
    from autoprune import api

    folder = api.report(name, store=store, out=out)
    if format is Format.table:
        return print_text(str(folder))
    from autoprune.cli.tables import print_nodes

    print_nodes(api.nodes(name, store=store), folder, format)
