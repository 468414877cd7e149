"""What can be pruned in a model that is named by a space file, a model name or a Python file."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from autoprune.api.models import GroupRow, SpaceReport
from autoprune.config.loading import load_space
from autoprune.config.schema import BuiltinModel, FileModel, ModelConfig, RuleConfig, TimmModel, TorchvisionModel
from autoprune.data.shapes import shape_and_classes
from autoprune.errors import ConfigError, ExportMismatch, did_you_mean
from autoprune.models import registry
from autoprune.models.timm_source import timm_input_shape
from autoprune.pruning.equivalence import Checker
from autoprune.space.space import SearchSpace
from autoprune.types import ChannelGroup

__all__ = ["describe_space", "resolved"]

_TOLERANCE = 1e-9
_DEFAULT_CLASSES = 10
_IMAGENET_CLASSES = 1000
_SOURCES = ("torchvision:", "timm:")


def describe_space(spec: str, *, check: bool, input_shape: tuple[int, int, int] | None) -> SpaceReport:
    """See :func:`autoprune.api.space`."""
    config, shape, classes, rules = resolved(spec)
    shape = input_shape or shape
    torch.manual_seed(0)
    model = registry.build(config, num_classes=classes, in_channels=shape[0]).eval()
    example = torch.zeros((1, *shape))
    _try_forward(model, example, spec)
    space = SearchSpace.from_module(model, example, rules)
    error, errors = _checked(model, space, example) if check else (None, dict[str, float]())
    return SpaceReport(
        name=spec,
        groups=tuple(_row(space, group, errors.get(group.name)) for group in space.groups),
        left_out=dict(space.left_out),
        baseline=space.cost.baseline,
        size=space.size,
        uncounted=space.cost.uncounted,
        prunable=space.cost.prunable,
        error=error,
    )


def resolved(spec: str) -> tuple[ModelConfig, tuple[int, int, int], int, tuple[RuleConfig, ...]]:
    """Model, image shape (channels, height, width), number of classes and rules of what ``spec`` names.

    That is a space file (``*.yaml``), ``torchvision:NAME``, ``timm:NAME``, ``FILE.py:FACTORY`` or a built-in name.
    Raises ConfigError for what is none of these.
    """
    if spec.endswith((".yaml", ".yml")):
        space = load_space(spec)
        shape, classes = shape_and_classes(space.data)
        return space.model, shape, classes, space.rules
    source, colon, name = spec.partition(":") if spec.startswith(_SOURCES) else spec.rpartition(":")
    if colon and source.endswith(".py"):
        return FileModel(kind="file", path=source, factory=name), (3, 32, 32), _DEFAULT_CLASSES, ()
    if source == "torchvision":
        side = 299 if name == "inception_v3" else 224
        return TorchvisionModel(kind="torchvision", name=name), (3, side, side), _IMAGENET_CLASSES, ()
    if source == "timm":
        return TimmModel(kind="timm", name=name), timm_input_shape(name), _IMAGENET_CLASSES, ()
    if colon or spec not in registry.builtin_names():
        raise ConfigError(
            f"{spec!r} is neither a space file, a built-in model, 'torchvision:NAME', 'timm:NAME' nor "
            "'FILE.py:FACTORY'.",
            did_you_mean(spec, registry.builtin_names()),
        )
    return BuiltinModel(name=spec), _builtin_shape(spec), _DEFAULT_CLASSES, ()


def _builtin_shape(name: str) -> tuple[int, int, int]:
    """The image size that the model was published for."""
    if name.startswith("lenet"):
        return (1, 28, 28)
    return (3, 224, 224) if name.startswith("mobilenet") else (3, 32, 32)


def _try_forward(model: nn.Module, example: torch.Tensor, spec: str) -> None:
    try:
        with torch.inference_mode():
            model(example)
    except Exception as error:  # noqa: BLE001  a user's model may raise anything
        shape = "x".join(str(size) for size in example.shape[1:])
        raise ConfigError(
            f"{spec} does not take an image of shape {shape}: {type(error).__name__}: {error}",
            "Give the shape of one image, such as --input 3x224x224.",
        ) from None


def _row(space: SearchSpace, group: ChannelGroup, error: float | None) -> GroupRow:
    position = [item.name for item in space.dimensions].index(group.name)
    return GroupRow(
        name=group.name,
        channels=group.channels,
        unit=group.unit,
        allowed=space.dimensions[position].allowed,
        members=tuple(f"{member.parameter}[{member.dim}]" for member in group.members),
        macs_share=float(space.cost.share()[position]),
        error=error,
    )


def _checked(model: nn.Module, space: SearchSpace, example: torch.Tensor) -> tuple[float, dict[str, float]]:
    """Errors of all groups cut to about half at once, and of each alone; the channels are chosen at random."""
    rng = np.random.default_rng(0)
    keep = {group.name: np.sort(rng.permutation(group.units)[: max(1, group.units // 2)]) for group in space.groups}
    checker = Checker(model, space.groups, example)
    error = checker.error(keep)
    if not error <= _TOLERANCE:
        raise ExportMismatch(
            f"sliced and masked models differ by {error:.3g} (relative, float64); at most {_TOLERANCE:g} is expected.",
            "Please report the model; excluding the group in the rules avoids it.",
        )
    return error, {name: checker.error({name: units}) for name, units in keep.items()}
