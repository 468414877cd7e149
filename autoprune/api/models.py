"""Models rather than searches: what can be pruned, exporting a trial, loading what was exported."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from autoprune.api.stores import open_at, store_url
from autoprune.config.loading import load_search
from autoprune.driver.observers import Silent

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import nn

    from autoprune.protocols import Progress

__all__ = ["GroupRow", "SpaceReport", "export", "load_model", "space"]


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
    error: float | None = None
    """Largest relative difference between sliced and masked models in float64, when it was checked."""


def space(spec: str, *, check: bool = False, input_shape: tuple[int, int, int] | None = None) -> SpaceReport:
    """The prunable groups of a search space file, a model name (``resnet20``, ``torchvision:resnet18``) or
    ``path.py:factory``. ``check`` slices every group and compares with the masked model in float64.

    Raises ConfigError for an unknown name or a shape that the model does not take, ExportMismatch when slicing and
    masking disagree.
    """
    from autoprune.api.spaces import describe_space

    return describe_space(spec, check=check, input_shape=input_shape)


def export(
    name: str, trial: int, out: str | Path, *, store: str | None = None, progress: Progress | None = None
) -> Path:
    """Write the pruned model of a trial to a folder: ``model.safetensors`` and ``model.json``.

    Read it with :func:`load_model`. Raises NotFound, Conflict when the folder is not empty, ExportMismatch when the
    written model does not reproduce the trial.
    """
    from autoprune.api.exporting import export_trial
    from autoprune.driver.assemble import prepare

    with open_at(store_url(store), read_only=True) as opened:
        record = opened.search(name)
        chosen = opened.trial(name, trial)
    return export_trial(record, chosen, prepare(load_search(record.config), progress or Silent()), Path(out))


def load_model(folder: str | Path, *, allow_code: bool = False) -> nn.Module:
    """The exported model, in eval mode on the CPU, with the pruned shapes; nothing is unpickled.

    ``allow_code`` permits running the Python file of a model that came from a user's file.
    Raises NotFound when the folder holds no export, ConfigError when it is damaged.
    """
    from autoprune.exporters.bundle import load_model as load

    return load(folder, allow_code=allow_code)
