"""What can rank channels: the registered criteria in words, with what each may be configured by."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, get_args

from autoprune.config.criteria import CriterionConfig
from autoprune.config.strict import Strict

__all__ = ["CriterionInfo", "criteria"]


@dataclass(frozen=True)
class CriterionInfo:
    """A value of ``evaluator.weights.criterion``."""

    name: str
    measures: str
    source: str
    """Where it was published."""
    needs: tuple[str, ...]
    """``weights`` alone, or ``images``, with ``labels`` where these are read too."""
    options: Mapping[str, Any]
    """Option -> its default."""
    configuration: Mapping[str, Any]
    """The JSON schema of ``{name: ..., options}``."""


def criteria() -> list[CriterionInfo]:
    """All criteria, by name."""
    from autoprune.pruning.criteria import catalogue

    models = {
        name: model for model in _models(CriterionConfig) for name in get_args(model.model_fields["name"].annotation)
    }
    return [
        CriterionInfo(
            each.name,
            each.measures,
            each.source,
            each.needs,
            {key: field.default for key, field in models[each.name].model_fields.items() if key != "name"},
            models[each.name].model_json_schema(),
        )
        for each in catalogue()
    ]


def _models(annotation: Any) -> Iterator[type[Strict]]:
    """The models inside of a union, in their order."""
    if isinstance(annotation, type) and issubclass(annotation, Strict):
        yield annotation
        return
    for part in get_args(annotation):
        yield from _models(part)
