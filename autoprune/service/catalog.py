"""Routes that say what a configuration may contain."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from typing import Any, get_args

from fastapi import APIRouter, Response
from pydantic import BaseModel

from autoprune.config.controllers import ControllerConfig
from autoprune.config.criteria import CriterionConfig
from autoprune.config.evaluation import WeightsConfig
from autoprune.config.schema import SearchConfig
from autoprune.service.parameters import errors
from autoprune.service.replies import reply
from autoprune.service.schemas import KindsBody

__all__ = ["router"]

router = APIRouter(tags=["configuration"], responses=errors())


@router.get("/controllers", response_model=KindsBody)
def controllers() -> Response:
    """The kinds of `controller:`, each with the JSON schema of its settings."""
    return reply({"kinds": [kind for model in _models(ControllerConfig) for kind in _kinds(model)]})


@router.get("/criteria", response_model=KindsBody)
def criteria() -> Response:
    """The names that `evaluator.weights.criterion` takes, each with the JSON schema of its options."""
    return reply({"kinds": [kind for model in _models(CriterionConfig) for kind in _kinds(model, "name")]})


@router.get("/weights", response_model=KindsBody)
def weights() -> Response:
    """The kinds of `evaluator.weights:`: where a candidate's weights come from."""
    return reply({"kinds": [kind for model in _models(WeightsConfig) for kind in _kinds(model)]})


@router.get("/schema")
def schema() -> dict[str, Any]:
    """The JSON schema of a whole configuration, for editors."""
    return SearchConfig.model_json_schema()


def _models(annotation: Any) -> Iterator[type[BaseModel]]:
    """The models inside of a union, in their order."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
        return
    for part in get_args(annotation):
        yield from _models(part)


def _kinds(model: type[BaseModel], key: str = "kind") -> Iterator[dict[str, Any]]:
    """One entry for each value of the key that tells the models apart."""
    for name in get_args(model.model_fields[key].annotation):
        summary = inspect.cleandoc(model.__doc__ or "").partition("\n\n")[0].replace("\n", " ")
        yield {"name": name, "summary": summary, "configuration": model.model_json_schema()}
