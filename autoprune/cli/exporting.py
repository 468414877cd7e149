"""What ``export`` and ``select --export`` have in common."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import Annotated

import typer

from autoprune.errors import ConfigError

__all__ = [
    "EXPORT_FORMATS",
    "BatchOption",
    "ExportFormat",
    "FoldOption",
    "LicenceOption",
    "batch_size",
    "loading_hint",
]

EXPORT_FORMATS = (
    "safetensors: weights and a description, read by autoprune.load_model; the others: a program in one file. "
    "onnx needs pip install 'autoprune[onnx]'."
)


class ExportFormat(str, Enum):
    safetensors = "safetensors"
    onnx = "onnx"
    torch_export = "torch_export"
    torchscript = "torchscript"


FoldOption = Annotated[
    bool, typer.Option("--fold-bn", help="Fold BatchNorm into the layers before it (not for safetensors).")
]
BatchOption = Annotated[
    str, typer.Option("--batch", metavar="dynamic|N", help="The batch size that a program takes: any, or only N.")
]
LicenceOption = Annotated[
    str, typer.Option("--licence", metavar="TEXT", help="Licence of the source model, noted in the file.")
]

_LOADING = {
    "safetensors": "load it with autoprune.load_model({folder!r})",
    "onnx": "run it with onnxruntime.InferenceSession({folder!r} + '/model.onnx')",
    "torch_export": "load it with torch.export.load({folder!r} + '/model.pt2').module()",
    "torchscript": "load it with torch.jit.load({folder!r} + '/model.ts')",
}


def batch_size(text: str) -> int | None:
    """``dynamic`` as None, or a number. Raises ConfigError."""
    if text == "dynamic":
        return None
    if not text.isdigit() or int(text) < 1:
        raise ConfigError(f"--batch {text!r} is not understood: expected 'dynamic' or a number.", "Write --batch 1.")
    return int(text)


def loading_hint(folder: Path, format: str) -> str:
    """How to read what was written.

    >>> loading_hint(Path("model"), "safetensors")
    "load it with autoprune.load_model('model')"
    """
    return _LOADING[format].format(folder=str(folder))
