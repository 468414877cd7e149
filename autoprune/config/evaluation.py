"""``evaluator:`` in a launch file: how a candidate is measured, and where its weights come from."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from autoprune.config.strict import Strict

__all__ = ["EvaluatorConfig", "InheritWeights"]


class InheritWeights(Strict):
    """The base model's own weights for the channels that a criterion ranks highest."""

    kind: Literal["inherit"] = "inherit"
    criterion: Literal["group_l1", "group_l2", "l1", "l2", "random"] = "group_l2"
    """How channels are ranked: by the weights that make and read them (``group_*``), or only those that make them."""


class EvaluatorConfig(Strict):
    weights: InheritWeights = InheritWeights()
    calibration_images: int = Field(1000, ge=0)
    """Training images for re-estimating BatchNorm after slicing; 0 leaves the inherited statistics."""
    validation_images: int = Field(2000, ge=1)
    """Images of the search-val split that each candidate is scored on."""
    batch_size: int = Field(250, ge=1)
    """Images of one calibration batch, and between two estimates of a trial."""
