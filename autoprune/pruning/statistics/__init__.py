"""What criteria know beyond the weights: :func:`collect` runs examples through the model once for all of it."""

from __future__ import annotations

from autoprune.pruning.statistics.base import Collectable, Collector, Examples, Pass, Scene, Statistics
from autoprune.pruning.statistics.collecting import collect, cross_entropy
from autoprune.pruning.statistics.gradients import GateGradient, GateGradients

__all__ = [
    "Collectable",
    "Collector",
    "Examples",
    "GateGradient",
    "GateGradients",
    "Pass",
    "Scene",
    "Statistics",
    "collect",
    "cross_entropy",
]
