"""``recipe:`` in a search space file: how a network is trained, and recipes that have a name."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from typing import Any, Literal

from pydantic import Field, SerializerFunctionWrapHandler, field_validator, model_serializer, model_validator

from autoprune.config.strict import Strict
from autoprune.errors import did_you_mean

__all__ = ["PRESETS", "Augment", "Recipe"]

Augment = Literal["none", "crop_flip", "crop", "resized_crop"]

_PAPER = {"momentum": 0.9, "nesterov": False, "weight_decay": 1e-4, "decay": "all", "warmup": 0.0}
_CIFAR = {**_PAPER, "batch_size": 64, "augment": "crop_flip"}
_IMAGENET = {**_PAPER, "batch_size": 256, "augment": "resized_crop"}
_FALLING = {"lr": 0.1, "schedule": "milestones"}
_FINE_TUNE = {"lr": 1e-3, "schedule": "constant"}

PRESETS: Mapping[str, Mapping[str, Any]] = {
    "cifar": {**_CIFAR, **_FALLING, "epochs": 160, "milestones": (0.5, 0.75)},
    "cifar_finetune": {**_CIFAR, **_FINE_TUNE, "epochs": 40},
    "imagenet": {**_IMAGENET, **_FALLING, "epochs": 90, "milestones": (1 / 3, 2 / 3)},
    "imagenet_finetune": {**_IMAGENET, **_FINE_TUNE, "epochs": 20},
    "modern": {
        "epochs": 30,
        "batch_size": 128,
        "lr": 0.2,
        "weight_decay": 5e-4,
        "label_smoothing": 0.1,
        "warmup": 0.1,
        "schedule": "cosine",
    },
}
"""Settings by name. ``cifar*`` and ``imagenet*`` are those of Rethinking the Value of Network Pruning (Liu et al.), as
in its code: plain momentum, decay of every parameter, no warm-up. For VGG on ImageNet it takes ``lr: 0.01``."""

_OFF_BY_DEFAULT = ("preset", "nesterov", "decay", "clip_norm", "ema", "compile")
"""Keys that came later: left out of records and digests while they are at their defaults."""


class Recipe(Strict):
    """How a network is trained: SGD with momentum, linear warm-up, then a schedule."""

    preset: str | None = None
    """A recipe by name (``PRESETS``); keys beside it win. It is resolved when read: a record shows the numbers."""
    epochs: int = Field(10, ge=1)
    batch_size: int = Field(128, ge=1)
    lr: float = Field(0.1, gt=0)
    momentum: float = Field(0.9, ge=0, lt=1)
    nesterov: bool = True
    weight_decay: float = Field(5e-4, ge=0)
    decay: Literal["weights", "all"] = "weights"
    """``weights``: biases and BatchNorm do not decay. ``all``: every parameter does."""
    label_smoothing: float = Field(0.0, ge=0, lt=1)
    warmup: float = Field(0.1, ge=0, lt=1)
    """Share of all steps with a linearly rising learning rate."""
    schedule: Literal["cosine", "milestones", "constant"] = "cosine"
    milestones: tuple[float, ...] = (0.5, 0.75)
    """Shares of all steps at which the rate falls tenfold (``schedule: milestones``)."""
    augment: Augment = "crop_flip"
    """``crop``: of the image with a border of zeros; ``resized_crop``: a random part at the image's size, and flips."""
    dtype: Literal["auto", "float32", "bfloat16"] = "auto"
    """``auto``: bfloat16 autocast where the processor has it natively."""
    clip_norm: float | None = Field(None, gt=0)
    """Gradients are scaled down to this length (of all of them together) where they are longer."""
    ema: float | None = Field(None, gt=0, lt=1)
    """Decay of a moving average of weights and BatchNorm statistics, which is what is scored and kept."""
    compile: bool = False
    """``torch.compile``; where it fails, training says so and goes on without."""
    seed: int = 0

    @model_validator(mode="before")
    @classmethod
    def _resolved(cls, value: Any) -> Any:
        if not isinstance(value, Mapping) or value.get("preset") is None:
            return value
        name, rest = value["preset"], {key: item for key, item in value.items() if key != "preset"}
        if not isinstance(name, str) or name not in PRESETS:
            raise ValueError(f"there is no preset {name!r}. {did_you_mean(str(name), PRESETS)}")
        return {**PRESETS[name], **rest}

    @field_validator("milestones")
    @classmethod
    def _rising(cls, value: tuple[float, ...]) -> tuple[float, ...]:
        if not all(0 < item < 1 for item in value) or any(one >= other for one, other in pairwise(value)):
            raise ValueError(
                "expected rising shares of the training between 0 and 1, like [0.5, 0.75] for half and three quarters "
                f"of the epochs, got {list(value)}"
            )
        return value

    @model_serializer(mode="wrap")
    def _without_defaults(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        content: dict[str, Any] = handler(self)
        fields = type(self).model_fields
        return {key: item for key, item in content.items() if key not in _OFF_BY_DEFAULT or item != fields[key].default}
