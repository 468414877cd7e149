"""``evaluator:`` in a launch file: how a candidate is measured, and where its weights come from."""

from __future__ import annotations

import json
from typing import Annotated, Any, Literal

from pydantic import Field, SerializerFunctionWrapHandler, field_validator, model_serializer, model_validator

from autoprune.config.criteria import CriterionConfig, PartialCriterion
from autoprune.config.recipes import Augment
from autoprune.config.strict import Strict
from autoprune.errors import ConfigError

__all__ = [
    "EvaluatorConfig",
    "HypernetRecipe",
    "HypernetWeights",
    "InheritWeights",
    "ReconstructionConfig",
    "WeightsConfig",
    "with_weights",
]


class InheritWeights(Strict):
    """The base model's own weights for the channels that a criterion ranks highest."""

    kind: Literal["inherit"] = "inherit"
    criterion: CriterionConfig = PartialCriterion(name="thinet")
    """How channels are ranked: a name, or ``{name: taylor, reduce: abs_of_sum}``; ``autoprune criteria`` lists them.
    The default kept most accuracy in ``results/criteria-compared``; ``group_l2`` needs no images."""
    criterion_images: int = Field(1000, ge=1)
    """Training images, with their labels, for criteria that need some."""

    @property
    def ranking(self) -> str:
        """What decides the ranking, as text for digests: the criterion's name where all else is as usual."""
        content = self.model_dump(mode="json", exclude={"kind"})
        usual = list(content) == ["criterion"] and isinstance(content["criterion"], str)
        return str(content["criterion"]) if usual else json.dumps(content, sort_keys=True)

    @model_serializer(mode="wrap")
    def _without_images(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """The key came later: records and digests with its default are as before."""
        content: dict[str, Any] = handler(self)
        if self.criterion_images == type(self).model_fields["criterion_images"].default:
            del content["criterion_images"]
        return content


class HypernetRecipe(Strict):
    """How the hypernetwork is trained; what is null is as in the space's ``base.recipe``."""

    epochs: int | None = Field(None, ge=1)
    """Null: a quarter of ``base.recipe.epochs``, as in the paper, and at least one."""
    batch_size: int | None = Field(None, ge=1)
    lr: float | None = Field(None, gt=0)
    weight_decay: float | None = Field(None, ge=0)
    label_smoothing: float | None = Field(None, ge=0, lt=1)
    warmup: float | None = Field(None, ge=0, lt=1)
    augment: Augment | None = None
    dtype: Literal["auto", "float32", "bfloat16"] | None = None
    seed: int | None = None


class HypernetWeights(Strict):
    """Weights that a hypernetwork makes for the candidate's widths (MetaPruning). It is trained once a space."""

    kind: Literal["hypernet"]
    hidden: int = Field(32, ge=1)
    """Hidden units of each convolution's generator; its size is so many times that of the convolution."""
    rank: int | None = Field(None, ge=1)
    """Rank of what each hidden unit adds to a kernel, for networks whose generators would not fit; null: full."""
    init: Literal["base", "random"] = "base"
    """Where its training starts: at the trained base model, its channels in the order of their importance, or at
    random weights, as in the paper."""
    recipe: HypernetRecipe = HypernetRecipe()
    checkpoint: str | None = None
    """A hypernetwork that was trained elsewhere: the file that ``autoprune prepare`` names."""

    @model_validator(mode="after")
    def _trained_or_read(self) -> HypernetWeights:
        if self.checkpoint is not None and self.recipe != HypernetRecipe():
            raise ValueError("a recipe has no effect beside a checkpoint: give one of them")
        return self


WeightsConfig = Annotated[InheritWeights | HypernetWeights, Field(discriminator="kind")]


class ReconstructionConfig(Strict):
    """Whether the layers that read cut channels get new weights, which give what they gave before."""

    kind: Literal["none", "bias", "channel", "full"] = "none"
    """``bias``: the mean of what was cut (without effect in front of a BatchNorm that is calibrated). ``channel``: one
    factor for each channel that stays (ThiNet). ``full``: all weights, by least squares (He et al. 2017)."""
    mode: Literal["once", "sequential"] = "sequential"
    """``sequential``: layer after layer, from what the pruned network itself reads: one pass of ``images`` a candidate,
    which calibrates BatchNorm as well. ``once``: from moments of the base model, milliseconds a candidate."""
    ridge: float = Field(0.01, ge=0)
    """Pull towards the inherited weights, relative to the mean square of each input."""
    images: int = Field(500, ge=1)
    """Training images; a sequential pass takes them in one piece."""
    positions: int = Field(10, ge=1)
    """Places of each image at which a layer is fitted."""


class EvaluatorConfig(Strict):
    weights: WeightsConfig = InheritWeights()
    reconstruction: ReconstructionConfig = ReconstructionConfig()
    """A kind alone (``full``), or ``{kind: full, mode: once}``."""
    calibration_images: int = Field(1000, ge=0)
    """Training images for re-estimating BatchNorm after slicing; 0 leaves the inherited statistics."""
    validation_images: int = Field(2000, ge=1)
    """Images of the search-val split that each candidate is scored on."""
    batch_size: int = Field(250, ge=1)
    """Images of one calibration batch, and between two estimates of a trial."""

    @field_validator("weights", mode="before")
    @classmethod
    def _inherited(cls, value: Any) -> Any:
        """``weights: {criterion: l1}`` needs no kind."""
        return {"kind": "inherit", **value} if isinstance(value, dict) else value

    @field_validator("reconstruction", mode="before")
    @classmethod
    def _by_kind(cls, value: Any) -> Any:
        if value is None or isinstance(value, str):
            return {"kind": value or "none"}
        if not isinstance(value, dict | ReconstructionConfig):
            raise ValueError("expected none, bias, channel or full, or settings such as {kind: full, mode: once}")
        return value

    @model_serializer(mode="wrap")
    def _without_reconstruction(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """The key came later: records and digests without reconstruction are as before."""
        content: dict[str, Any] = handler(self)
        if self.reconstruction.kind == "none":
            del content["reconstruction"]
        return content

    @model_validator(mode="after")
    def _has_weights_to_fit(self) -> EvaluatorConfig:
        if isinstance(self.weights, HypernetWeights) and self.reconstruction.kind != "none":
            raise ValueError(
                "reconstruction needs inherited weights: those of a hypernetwork have no original to match"
            )
        return self

    @model_validator(mode="after")
    def _calibrates(self) -> EvaluatorConfig:
        if isinstance(self.weights, HypernetWeights) and not self.calibration_images:
            raise ValueError("calibration_images must be at least 1: weights of a hypernetwork come without statistics")
        return self

    @property
    def criterion(self) -> CriterionConfig:
        """How inherited channels are ranked. Raises ConfigError where a hypernetwork makes the weights."""
        if isinstance(self.weights, InheritWeights):
            return self.weights.criterion
        raise ConfigError("weights of a hypernetwork have no criterion.", "Set evaluator.weights.kind to inherit.")


def with_weights(content: Any) -> Any:
    """What a file says of ``controller`` and ``weights``, side by side, as both will be recorded.

    ``controller: {kind: metapruning}`` searches by weights of a hypernetwork unless others are given.
    """
    controller = content.get("controller") if isinstance(content, dict) else None
    if not isinstance(controller, dict) or controller.get("kind") != "metapruning":
        return content
    weights = content.get("weights")
    if weights is not None and not isinstance(weights, dict):
        return content
    return {**content, "weights": {"kind": "hypernet", **(weights or {})}}
