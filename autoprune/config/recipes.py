"""``recipe:`` in a search space file: how a network is trained."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from autoprune.config.strict import Strict

__all__ = ["Recipe"]


class Recipe(Strict):
    """How the base model is trained: SGD with Nesterov momentum, linear warm-up, then cosine or milestones."""

    epochs: int = Field(10, ge=1)
    batch_size: int = Field(128, ge=1)
    lr: float = Field(0.1, gt=0)
    momentum: float = Field(0.9, ge=0, lt=1)
    weight_decay: float = Field(5e-4, ge=0)
    label_smoothing: float = Field(0.0, ge=0, lt=1)
    warmup: float = Field(0.1, ge=0, lt=1)
    """Share of all steps with a linearly rising learning rate."""
    schedule: Literal["cosine", "milestones"] = "cosine"
    milestones: tuple[float, ...] = (0.5, 0.75)
    """Shares of all steps at which the rate falls tenfold (``schedule: milestones``)."""
    augment: Literal["none", "crop_flip", "crop"] = "crop_flip"
    dtype: Literal["auto", "float32", "bfloat16"] = "auto"
    """``auto``: bfloat16 autocast where the processor has it natively."""
    seed: int = 0
