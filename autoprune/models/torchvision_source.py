"""Classifiers of torchvision by name."""

from __future__ import annotations

from typing import Any

from torch import nn

from autoprune.config.schema import TorchvisionModel
from autoprune.errors import ConfigError, did_you_mean

__all__ = ["build_torchvision", "torchvision_names"]

# These two have auxiliary outputs that only their own training script uses; a plain classifier is wanted here.
_DEFAULTS: dict[str, dict[str, Any]] = {
    "googlenet": {"aux_logits": False, "init_weights": True},
    "inception_v3": {"aux_logits": False, "init_weights": True},
}


def torchvision_names() -> list[str]:
    """Names of torchvision's classifiers, sorted."""
    from autoprune.models.torchvision_shim import torchvision

    return sorted(torchvision.models.list_models(module=torchvision.models))


def build_torchvision(config: TorchvisionModel, *, num_classes: int, in_channels: int) -> nn.Module:
    """The classifier with ``num_classes`` outputs and random weights.

    Raises ConfigError for an unknown name, unknown arguments, or images that are not colour.
    """
    from autoprune.models.torchvision_shim import torchvision

    names = torchvision_names()
    if config.name not in names:
        raise ConfigError(f"torchvision has no classifier {config.name!r}.", did_you_mean(config.name, names))
    if in_channels != 3:
        raise ConfigError(
            f"torchvision's {config.name} takes colour images (3 channels), the data set's have {in_channels}.",
            "Set data.channels: 3 (image_folder), or use a built-in model, which takes any number.",
        )
    if config.args.get("weights") is not None:
        raise ConfigError(
            f"torchvision's {config.name}: 'weights' cannot be given here.",
            "Download the weights to a file and name it in base.checkpoint.",
        )
    arguments = {**_DEFAULTS.get(config.name, {}), "num_classes": num_classes, **config.args, "weights": None}
    try:
        return torchvision.models.get_model(config.name, **arguments)
    except (TypeError, ValueError) as error:
        shown = ", ".join(f"{key}={value!r}" for key, value in config.args.items()) or "none"
        raise ConfigError(
            f"torchvision's {config.name} refuses its arguments ({shown}): {error}.", "Correct model.args."
        ) from None
