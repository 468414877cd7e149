"""``evaluator.weights.criterion``: how channels are ranked, by name alone or with options."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, SerializerFunctionWrapHandler, model_serializer

from autoprune.config.strict import Strict

__all__ = [
    "CriterionConfig",
    "CriterionName",
    "CurvatureCriterion",
    "FilterCriterion",
    "GaussNewtonCriterion",
    "GeometricMedianCriterion",
    "InformationCriterion",
    "PartialCriterion",
    "TaylorCriterion",
]


class _Criterion(Strict):
    name: str

    def options(self) -> dict[str, Any]:
        """Keyword arguments of the criterion beyond its name."""
        return {key: value for key, value in self if key not in ("name", "fallback")}

    @property
    def substitute(self) -> str | None:
        """The criterion for groups that this one says nothing about."""
        return getattr(self, "fallback", None)

    @model_serializer(mode="wrap")
    def _by_name(self, handler: SerializerFunctionWrapHandler) -> Any:
        """The name alone where everything else is as usual: as it was written before there were options."""
        content: dict[str, Any] = handler(self)
        changed = {key: value for key, value in content.items() if value != type(self).model_fields[key].default}
        return self.name if list(changed) == ["name"] else changed

    def __str__(self) -> str:
        content = self.model_dump(mode="json")
        return content if isinstance(content, str) else json.dumps(content, sort_keys=True)


class _Undefined(_Criterion):
    fallback: Literal["group_l1", "group_l2", "l1", "l2", "random"] | None = "group_l2"
    """What ranks groups for which the criterion has no meaning; null: such a group is a mistake."""


class FilterCriterion(_Criterion):
    """By weights: all that make and read a channel (``group_*``), or only those that make it. Or at random."""

    name: Literal["group_l1", "group_l2", "l1", "l2", "random"]


class GeometricMedianCriterion(_Criterion):
    """By the distance to the layer's other filters (FPGM)."""

    name: Literal["fpgm"]
    norm_share: float = Field(0.0, ge=0, lt=1)
    """Share of the channels that go by their norm, before all others."""


class PartialCriterion(_Undefined):
    """By BatchNorm's scale, by what comes out of activations, by squared gradients, or by what readers make of it."""

    name: Literal[
        "activation_mean",
        "activation_std",
        "apoz",
        "bn_scale",
        "correlation",
        "fisher",
        "gamma_weight",
        "lasso",
        "thinet",
    ]


class InformationCriterion(_Undefined):
    """By what a channel's mean response tells of the class, or at all."""

    name: Literal["entropy", "mutual_information"]
    bins: int = Field(16, ge=2)
    """Into which responses are quantised, at their quantiles over all channels of a group."""


class TaylorCriterion(_Undefined):
    """By the first-order change of the loss."""

    name: Literal["taylor"]
    reduce: Literal["mean_abs", "abs_of_sum"] = "mean_abs"
    """Absolute value for each example (Molchanov et al.), or once for all together."""


class GaussNewtonCriterion(_Undefined):
    """By the Gauss-Newton curvature of the loss."""

    name: Literal["gauss_newton"]
    draws: int = Field(1, ge=0)
    """Labels that are drawn for each image from what the network predicts; 0: every class, exactly."""


class CurvatureCriterion(_Undefined):
    """By the curvature of the loss, from random vectors (Hutchinson)."""

    name: Literal["hutchinson"]
    draws: int = Field(1, ge=1)
    """Random vectors for each image."""
    negative: Literal["clip", "keep"] = "clip"
    """Whether negative curvatures count as 0."""


def _named(value: Any) -> Any:
    if isinstance(value, str):
        return {"name": value}
    if not isinstance(value, Mapping | _Criterion):
        raise ValueError("expected a criterion's name such as 'l1', or its options like {name: taylor, reduce: ...}")
    return value


CriterionName = Literal[
    "activation_mean",
    "activation_std",
    "apoz",
    "bn_scale",
    "correlation",
    "entropy",
    "fisher",
    "fpgm",
    "gamma_weight",
    "gauss_newton",
    "group_l1",
    "group_l2",
    "hutchinson",
    "l1",
    "l2",
    "lasso",
    "mutual_information",
    "random",
    "taylor",
    "thinet",
]
_Described = Annotated[
    FilterCriterion
    | GeometricMedianCriterion
    | PartialCriterion
    | InformationCriterion
    | TaylorCriterion
    | GaussNewtonCriterion
    | CurvatureCriterion,
    Field(discriminator="name"),
]
CriterionConfig = Annotated[_Described, BeforeValidator(_named, json_schema_input_type=CriterionName | _Described)]
