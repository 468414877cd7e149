"""Models of timm (the optional extra ``timm``) by name."""

from __future__ import annotations

import importlib
from typing import Any

from torch import nn

from autoprune.config.schema import TimmModel
from autoprune.errors import ConfigError, did_you_mean

__all__ = ["build_timm", "timm_input_shape"]


def _timm() -> Any:
    """The library. Raises ConfigError when it is not installed."""
    # timm imports torchvision, which beside a CPU build of torch works through the shim alone.
    importlib.import_module("autoprune.models.torchvision_shim")
    try:
        return importlib.import_module("timm")
    except ImportError as error:
        raise ConfigError(
            f"timm cannot be imported: {error}.", "It is an optional extra: pip install 'autoprune[timm]'."
        ) from None


def _check_name(name: str) -> None:
    timm = _timm()
    if not timm.is_model(name):
        known = [*timm.list_models(), *timm.list_models(pretrained=True)]
        raise ConfigError(f"timm has no model {name!r}.", did_you_mean(name, known))


def timm_input_shape(name: str) -> tuple[int, int, int]:
    """The image shape (channels, height, width) that the model was published for.

    Raises ConfigError for an unknown name.
    """
    _check_name(name)
    config = _timm().get_pretrained_cfg(name)
    channels, height, width = config.input_size if config is not None else (3, 224, 224)
    return channels, height, width


def build_timm(config: TimmModel, *, num_classes: int, in_channels: int) -> nn.Module:
    """The model with ``num_classes`` outputs and random weights; nothing is downloaded.

    Raises ConfigError for an unknown name or arguments that the model refuses.
    """
    _check_name(config.name)
    for argument in ("pretrained", "checkpoint_path", "pretrained_cfg", "pretrained_cfg_overlay", "cache_dir"):
        if config.args.get(argument):
            raise ConfigError(
                f"timm's {config.name}: {argument!r} cannot be given here.",
                "Download the weights to a file and name it in base.checkpoint.",
            )
    arguments = {"num_classes": num_classes, "in_chans": in_channels, **config.args, "pretrained": False}
    try:
        model: nn.Module = _timm().create_model(config.name, **arguments)
    except (TypeError, ValueError, RuntimeError, AssertionError) as error:
        shown = ", ".join(f"{key}={value!r}" for key, value in config.args.items()) or "none"
        raise ConfigError(
            f"timm's {config.name} refuses its arguments ({shown}): {error}.", "Correct model.args."
        ) from None
    return model
