"""Models rather than searches: what can be pruned, exporting a trial, loading what was exported."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from autoprune.api.stores import open_at, store_url
from autoprune.driver.observers import Silent

if TYPE_CHECKING:
    from collections.abc import Mapping

    import torch
    from torch import nn

    from autoprune.protocols import Progress

__all__ = ["GroupRow", "SpaceReport", "export", "export_module", "load_model", "space"]


@dataclass(frozen=True)
class GroupRow:
    """One group of a search space."""

    name: str
    channels: int
    unit: int
    allowed: tuple[int, ...]
    members: tuple[str, ...]
    """``parameter[dim]`` of every tensor dimension that is cut with it."""
    macs_share: float
    """Share of the full model's MACs in layers that the group touches; a layer counts for each of its groups."""
    error: float | None = None
    """Relative difference between sliced and masked models in float64 when this group alone is cut to half."""


@dataclass(frozen=True)
class SpaceReport:
    """What can be pruned in a model."""

    name: str
    groups: tuple[GroupRow, ...]
    left_out: Mapping[str, str]
    baseline: Mapping[str, float]
    size: int
    """Number of candidates."""
    uncounted: tuple[str, ...]
    """Operations that multiply but are not in the MACs."""
    prunable: float = 0.0
    """Share of the full model's MACs in layers that any group touches."""
    error: float | None = None
    """Largest relative difference between sliced and masked models in float64, when it was checked."""


def space(spec: str, *, check: bool = False, input_shape: tuple[int, int, int] | None = None) -> SpaceReport:
    """The prunable groups of a search space file, a model name (``resnet20``, ``torchvision:resnet18``,
    ``timm:regnety_004``) or ``path.py:factory``. ``check`` slices every group and compares with the
    masked model in float64.

    Raises ConfigError for an unknown name or a shape that the model does not take, ExportMismatch when slicing and
    masking disagree.
    """
    from autoprune.api.spaces import describe_space

    return describe_space(spec, check=check, input_shape=input_shape)


def export(
    name: str,
    trial: int,
    out: str | Path,
    *,
    format: str = "safetensors",
    fold_bn: bool = False,
    batch: int | None = None,
    licence: str = "unknown",
    store: str | None = None,
    progress: Progress | None = None,
) -> Path:
    """Write the pruned model of a trial to a new folder, verified by running what was written.

    Args:
        format: ``safetensors`` (weights and a description; read it with :func:`load_model`), ``onnx``,
            ``torch_export`` or ``torchscript`` (one program file with its metadata inside).
        fold_bn: fold BatchNorm into the layers before it (programs only).
        batch: the only batch size that a program takes; None: any.
        licence: of the source model; noted in the file.

    Raises NotFound, Conflict when the folder is not empty, ConfigError when a package is missing or the model cannot
    be converted, ExportMismatch when the written model does not reproduce the trial's; nothing is left then.
    """
    from autoprune.api.exporting import ExportOptions, check_exportable, export_trial, preflight
    from autoprune.config.loading import load_search
    from autoprune.driver.assemble import prepare

    options = ExportOptions(format, fold_bn, batch, licence)
    preflight(Path(out), options)
    with open_at(store_url(store), read_only=True) as opened:
        record = opened.search(name)
        chosen = opened.trial(name, trial)
    check_exportable(record, chosen)
    prepared = prepare(load_search(record.config), progress or Silent())
    return export_trial(record, chosen, prepared, Path(out), options)


def export_module(
    module: nn.Module,
    example_input: torch.Tensor | tuple[torch.Tensor, ...],
    out: str | Path,
    *,
    format: str,
    fold_bn: bool = False,
    batch: int | None = None,
    licence: str = "unknown",
    metadata: Mapping[str, str] | None = None,
) -> Path:
    """Write any module on the CPU as a program (``onnx``, ``torch_export`` or ``torchscript``), as :func:`export` does.

    ``example_input`` holds the arguments of one call, batch first; the file is verified on them and on random ones of
    other batch sizes. ``metadata`` goes into the file. Raises what :func:`export` raises.
    """
    from autoprune.api.exporting import ExportOptions, export_any_module

    options = ExportOptions(format, fold_bn, batch, licence)
    return export_any_module(module, example_input, Path(out), options, dict(metadata or {}))


def load_model(folder: str | Path, *, allow_code: bool = False) -> nn.Module:
    """The exported model, in eval mode on the CPU, with the pruned shapes; nothing is unpickled.

    ``allow_code`` permits running the Python file of a model that came from a user's file.
    Raises NotFound when the folder holds no export, ConfigError when it is damaged.
    """
    from autoprune.exporters.bundle import load_model as load

    return load(folder, allow_code=allow_code)
