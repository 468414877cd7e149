"""Measuring by a user's own function: slice, re-estimate BatchNorm, hand the pruned module over."""

from __future__ import annotations

import numbers
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import Tensor, nn

from autoprune.errors import EvaluationError
from autoprune.evaluators.inherit import InheritSource
from autoprune.pruning.calibration import Batch, calibrate
from autoprune.types import Candidate, ChannelGroup, Measurement

__all__ = ["FunctionEvaluator", "Metric", "ModuleAssets", "make_function_evaluator"]

Metric = Callable[[nn.Module], Any]
"""Takes the pruned module (eval mode, its own copy) and returns a number, or a mapping of names to numbers."""

_COSTS = ("macs", "flops", "params", "keep_ratio")


@dataclass(frozen=True, eq=False)
class ModuleAssets:
    """A module in hand, the ranking of its channels, and what measures its slices."""

    module: nn.Module
    """In eval mode; nobody else holds it."""
    groups: tuple[ChannelGroup, ...]
    ranking: Mapping[str, np.ndarray]
    calibration: tuple[Batch, ...]
    """Batches for BatchNorm's statistics; none: those of the module stay."""
    metric: Metric


class FunctionEvaluator:
    """Metrics are what the user's function returns; a plain number is called ``metric``."""

    def __init__(self, assets: ModuleAssets) -> None:
        self._assets = assets
        self._source = InheritSource(assets.module, assets.groups, assets.ranking)

    def materialise(self, candidate: Candidate) -> nn.Module:
        """The pruned module in eval mode. At full width its statistics stay what they were."""
        return self._calibrated(self._source.build(candidate), candidate)

    def evaluate(self, candidate: Candidate) -> Iterator[Measurement]:
        """One measurement, the final one. Raises EvaluationError when the function returns something else than numbers,
        and whatever the function raises."""
        started = time.perf_counter()
        module = self._source.build(candidate)
        sliced = time.perf_counter()
        module = self._calibrated(module, candidate)
        calibrated = time.perf_counter()
        metrics = read_metrics(self._assets.metric(module))
        ended = time.perf_counter()
        timings = {"slice": sliced - started, "calibrate": calibrated - sliced, "evaluate": ended - calibrated}
        yield Measurement(metrics, step=1, seconds=ended - started, final=True, timings=timings)

    def _calibrated(self, module: nn.Module, candidate: Candidate) -> nn.Module:
        widths = candidate.widths
        if any(widths.get(group.name, group.channels) < group.channels for group in self._assets.groups):
            calibrate(module, self._assets.calibration)
        return module.eval()


def read_metrics(value: Any) -> dict[str, float]:
    """The function's answer as metrics.

    >>> read_metrics(0.5), read_metrics({"miou": np.float32(0.25), "boxes": 3})
    ({'metric': 0.5}, {'miou': 0.25, 'boxes': 3.0})

    Raises EvaluationError for what is no number, an empty mapping, or the name of a cost that autoprune computes.
    """
    named = value if isinstance(value, Mapping) else {"metric": value}
    if not named:
        raise EvaluationError("the metric function returned an empty mapping, expected names and numbers.")
    taken = [str(name) for name in named if name in _COSTS]
    if taken:
        raise EvaluationError(f"the metric function returned {', '.join(taken)}, which autoprune computes itself.")
    return {str(name): _number(str(name), item) for name, item in named.items()}


def _number(name: str, item: Any) -> float:
    if (isinstance(item, Tensor) and item.numel() == 1) or (isinstance(item, np.ndarray) and item.size == 1):
        item = item.item()
    if not isinstance(item, numbers.Real):
        raise EvaluationError(
            f"the metric function returned a {type(item).__name__} for {name!r}, expected a number.",
            "Return a float, or a mapping of names to floats.",
        )
    return float(item)


def make_function_evaluator(assets: ModuleAssets) -> FunctionEvaluator:
    """For executors: a function that a worker process can import by name."""
    return FunctionEvaluator(assets)
