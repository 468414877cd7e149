"""A module as a program that runs without its Python code: ONNX, torch.export or TorchScript."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

from torch import nn

from autoprune.errors import AutopruneError, ConfigError, did_you_mean
from autoprune.exporters.folding import fold_batchnorm
from autoprune.exporters.staging import staged
from autoprune.exporters.verify import Inputs, random_inputs, verify
from autoprune.files import check_listed, list_digests

__all__ = ["FORMATS", "check_format", "read_metadata", "save_program"]

FORMATS = ("safetensors", "onnx", "torch_export", "torchscript")
_PROGRAMS = FORMATS[1:]


def check_format(format: str) -> str:
    """The format. Raises ConfigError when it is unknown."""
    if format not in FORMATS:
        raise ConfigError(f"there is no export format {format!r}.", did_you_mean(format, FORMATS))
    return format


def save_program(
    folder: Path,
    module: nn.Module,
    example: Inputs,
    *,
    format: str,
    metadata: Mapping[str, str],
    real: Sequence[Inputs] = (),
    fold_bn: bool = False,
    batch: int | None = None,
) -> Path:
    """Write ``module`` (CPU) to a file in a new folder, which appears only if the file reproduces the module.

    Args:
        example: the arguments of one call, batch first; only shapes and dtypes matter.
        format: ``onnx`` (model.onnx), ``torch_export`` (model.pt2) or ``torchscript`` (model.ts).
        metadata: goes into the file.
        real: further arguments to verify on, beside random ones.
        fold_bn: fold BatchNorm into the layers before it first, in float64.
        batch: the only batch size that the file takes; None: any.

    Raises ExportMismatch when the file's outputs differ from the module's, ConfigError when the module cannot be
    converted or a package is missing, Conflict when the folder is not empty. Nothing is then left.
    """
    backend: Any = import_module(f"autoprune.exporters.{format}")
    module = module.eval()
    rows = batch or 2  # of one row, torch.export would conclude that it is always one
    sample = tuple(tensor[:1].expand(rows, *tensor.shape[1:]).contiguous() for tensor in example)
    with staged(folder) as inside:
        path = inside / backend.FILE
        folded, count = fold_batchnorm(module, sample) if fold_bn else (module, 0)
        try:
            extra = {"folded_batchnorms": str(count), "batch": str(batch or "dynamic")}
            backend.write(path, folded, sample, dynamic=batch is None, metadata={**metadata, **extra})
        except (AutopruneError, OSError):
            raise
        except Exception as error:  # noqa: BLE001  converters raise what they like on models they do not know
            raise _not_converted(module, format, batch, error) from None
        samples = [*random_inputs(sample, batch), *(_fitted(each, batch) for each in real)]
        verify(backend.load(path), module, samples, format)
        list_digests(inside)
    return folder


def read_metadata(folder: Path) -> dict[str, str] | None:
    """What is inside the exported program of a folder; None when it holds none. ConfigError when it is damaged."""
    for format in _PROGRAMS:
        backend: Any = import_module(f"autoprune.exporters.{format}")
        if (folder / backend.FILE).is_file():
            check_listed(folder, [backend.FILE])
            content: dict[str, str] = backend.read_metadata(folder / backend.FILE)
            return content
    return None


def _fitted(sample: Inputs, batch: int | None) -> Inputs:
    """Repeated or cut to ``batch`` rows."""
    if batch is None:
        return sample
    return tuple(tensor.repeat(-(-batch // len(tensor)), *[1] * (tensor.ndim - 1))[:batch] for tensor in sample)


def _not_converted(module: nn.Module, format: str, batch: int | None, error: Exception) -> ConfigError:
    reason = (str(error).strip().splitlines() or ["no message"])[0][:300]
    others = ", ".join(name for name in _PROGRAMS if name != format)
    fixed = "" if batch else "a fixed batch size (--batch 1), or "
    return ConfigError(
        f"{type(module).__name__} cannot be converted to {format}: {type(error).__name__}: {reason}",
        f"Nothing was written. Try {fixed}another format ({others}).",
    )
