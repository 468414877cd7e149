"""Costs beside the quadratic ones: what a CostTable is extended with, and how their metrics are put together.

A latency table and a memory model are cost models: functions of the widths that no quadratic form describes.
``CostTable.extras`` holds them; their metrics then appear wherever MACs do.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np

__all__ = ["CostModel", "ceilings", "extra_names", "metrics"]


class CostModel(Protocol):
    """Predicts metrics of candidates; widths count channels, in the order of the cost table that it extends."""

    @property
    def names(self) -> tuple[str, ...]:
        """The metrics that it predicts."""
        ...

    def metrics(self, widths: np.ndarray) -> dict[str, np.ndarray]:
        """Widths (N, G) of int -> name -> (N,) float64."""
        ...

    def ceilings(self, widths: np.ndarray) -> dict[str, np.ndarray]:
        """As :meth:`metrics`, never below them, and growing (weakly) with every width: what a decoder relies on.

        At the narrowest network of the space they equal the metrics, so that what is reachable is known. A model whose
        metrics grow with every width returns the metrics themselves.
        """
        ...


def extra_names(models: Sequence[CostModel]) -> tuple[str, ...]:
    """The metrics of all models, in their order."""
    return tuple(name for model in models for name in model.names)


def metrics(models: Sequence[CostModel], widths: np.ndarray) -> dict[str, np.ndarray]:
    """All models' metrics: widths (N, G) -> name -> (N,) float64."""
    return {name: values for model in models for name, values in model.metrics(widths).items()}


def ceilings(models: Sequence[CostModel], widths: np.ndarray) -> dict[str, np.ndarray]:
    """All models' ceilings: widths (N, G) -> name -> (N,) float64."""
    return {name: values for model in models for name, values in model.ceilings(widths).items()}
