"""From a model configuration to an ``nn.Module`` with random weights."""

from __future__ import annotations

import inspect
from collections.abc import Callable

from torch import nn

from autoprune.config.schema import BuiltinModel, FileModel, ModelConfig, ModuleModel, TimmModel
from autoprune.errors import ConfigError, did_you_mean
from autoprune.models.lenet import lenet5, lenet300_100
from autoprune.models.mobilenet import mobilenet_v1, mobilenet_v2
from autoprune.models.resnet import BUILDERS as RESNETS
from autoprune.models.timm_source import build_timm
from autoprune.models.torchvision_source import build_torchvision
from autoprune.models.user_file import build_from_file
from autoprune.models.vgg import vgg16_bn, vgg19_bn

__all__ = ["IN_HAND", "build", "builtin_names"]

IN_HAND = (
    "Call autoprune.search_module with the same name and arguments: it goes on where the search stopped, and its "
    "result builds the pruned modules."
)

_BUILTIN: dict[str, Callable[..., nn.Module]] = {
    "lenet300_100": lenet300_100,
    "lenet5": lenet5,
    "vgg16_bn": vgg16_bn,
    "vgg19_bn": vgg19_bn,
    **RESNETS,
    "mobilenet_v1": mobilenet_v1,
    "mobilenet_v2": mobilenet_v2,
}


def builtin_names() -> list[str]:
    """Names that ``kind: builtin`` knows.

    >>> "resnet20" in builtin_names()
    True
    """
    return list(_BUILTIN)


def build(config: ModelConfig, *, num_classes: int, in_channels: int) -> nn.Module:
    """The configured network, in training mode, float32 on the CPU, weights drawn from torch's global generator.

    Raises ConfigError for an unknown name or argument, and for whatever is wrong with a user's file.

    >>> model = build(BuiltinModel(name="resnet8"), num_classes=10, in_channels=1)
    >>> sum(parameter.numel() for parameter in model.parameters())
    77754
    """
    if isinstance(config, BuiltinModel):
        return _build_builtin(config, num_classes, in_channels)
    if isinstance(config, FileModel):
        return build_from_file(config, num_classes=num_classes, in_channels=in_channels)
    if isinstance(config, ModuleModel):
        raise ConfigError(f"model: the {config.type} was a module in hand, which is not stored.", IN_HAND)
    if isinstance(config, TimmModel):
        return build_timm(config, num_classes=num_classes, in_channels=in_channels)
    return build_torchvision(config, num_classes=num_classes, in_channels=in_channels)


def _build_builtin(config: BuiltinModel, num_classes: int, in_channels: int) -> nn.Module:
    if config.name not in _BUILTIN:
        raise ConfigError(
            f"model.name: there is no built-in model {config.name!r}.", did_you_mean(config.name, _BUILTIN)
        )
    builder = _BUILTIN[config.name]
    known = [name for name in inspect.signature(builder).parameters if name not in ("num_classes", "in_channels")]
    for name in config.args:
        if name in ("num_classes", "in_channels"):
            raise ConfigError(f"model.args: {name} comes from the data set and cannot be given.", "Remove it.")
        if name not in known:
            raise ConfigError(f"model.args: {config.name} takes no argument {name!r}.", did_you_mean(name, known))
    return builder(num_classes, in_channels, **config.args)
