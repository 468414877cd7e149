"""What criteria know beyond the weights: :func:`collect` runs examples through the model once for all of it."""

from __future__ import annotations

from autoprune.pruning.statistics.activations import (
    Activation,
    Activations,
    LabelledResponses,
    Response,
    Responses,
)
from autoprune.pruning.statistics.base import (
    Collectable,
    Collector,
    Examples,
    Pass,
    Scene,
    Statistics,
    cross_entropy,
)
from autoprune.pruning.statistics.collecting import collect
from autoprune.pruning.statistics.curvature import GaussNewton, Hutchinson
from autoprune.pruning.statistics.gradients import GateGradient, GateGradients

__all__ = [
    "Activation",
    "Activations",
    "Collectable",
    "Collector",
    "Examples",
    "GateGradient",
    "GateGradients",
    "GaussNewton",
    "Hutchinson",
    "LabelledResponses",
    "Pass",
    "Response",
    "Responses",
    "Scene",
    "Statistics",
    "collect",
    "cross_entropy",
]
