"""What is known of an exported model beside its weights."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from autoprune.config.schema import ModelConfig

__all__ = ["UNKNOWN", "Description", "metadata"]

UNKNOWN = "unknown"
_SHOWN = ("top1", "macs", "params")
"""Metrics that get a key of their own, beside the list of all."""


@dataclass(frozen=True)
class Description:
    """Where a model comes from, what it expects and what was measured."""

    model: ModelConfig
    num_classes: int
    input_shape: tuple[int, int, int]
    """Channels, height, width of one image."""
    mean: tuple[float, ...]
    """Per channel, in units of [0, 1]: the model expects (image / 255 - mean) / std."""
    std: tuple[float, ...]
    class_names: tuple[str, ...]
    widths: Mapping[str, int]
    metrics: Mapping[str, float]
    baseline: Mapping[str, float]
    origin: Mapping[str, Any] = field(default_factory=dict)
    """Where it comes from: search, trial, digests, versions."""
    data: str = UNKNOWN
    """The data set that it was measured on."""
    licence: str = UNKNOWN
    """Of the source model, as its user gave it."""

    @property
    def input(self) -> dict[str, Any]:
        return {
            "shape": list(self.input_shape),
            "mean": list(self.mean),
            "std": list(self.std),
            "normalisation": "(image / 255 - mean) / std",
        }


def metadata(description: Description) -> dict[str, str]:
    """The description as text under text keys, which every format can hold; what has parts is JSON.

    Keys: ``autoprune``, ``search``, ``trial`` and whatever else ``origin`` has, ``top1``, ``macs``, ``params`` where
    measured, ``widths``, ``metrics``, ``baseline``, ``input``, ``class_names``, ``model``, ``num_classes``, ``data``,
    ``licence``.
    """
    return {
        **{key: str(value) for key, value in description.origin.items()},
        **{name: repr(description.metrics[name]) for name in _SHOWN if name in description.metrics},
        "num_classes": str(description.num_classes),
        "data": description.data,
        "licence": description.licence,
        "widths": json.dumps(dict(description.widths)),
        "metrics": json.dumps(dict(description.metrics), allow_nan=False),
        "baseline": json.dumps(dict(description.baseline), allow_nan=False),
        "input": json.dumps(description.input),
        "class_names": json.dumps(list(description.class_names)),
        "model": json.dumps(description.model.model_dump(mode="json")),
    }
