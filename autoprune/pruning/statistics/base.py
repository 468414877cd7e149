"""What a calibration pass is made of: a statistic says what it wants to know, its collector adds up batch by batch.

A new statistic is a frozen data class with a ``name``, ``labels`` and ``collector()``; criteria name it in ``needs``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from torch import Tensor, nn
from torch.nn import functional as F

from autoprune.errors import ConfigError, UndefinedScore
from autoprune.protocols import Statistic
from autoprune.pruning.calibration import Batch
from autoprune.pruning.statistics.sources import Sources
from autoprune.pruning.taps import Taps
from autoprune.types import ChannelGroup

__all__ = [
    "Collectable",
    "Collector",
    "Examples",
    "ExampleLoss",
    "Pass",
    "Scene",
    "Statistics",
    "by_group",
    "cross_entropy",
]

Examples = tuple[Batch, Tensor | None]
"""One batch of inputs, and its labels (rows,) int64 if there are any."""
ExampleLoss = Callable[[Tensor, Tensor], Tensor]
"""(outputs (rows, ...), labels) -> the loss of each example, (rows,)."""


@dataclass(frozen=True, eq=False)
class Scene:
    """What a collector is made for. The model is in evaluation mode and its parameters ask for no gradients."""

    model: nn.Module
    groups: Sequence[ChannelGroup]
    taps: Taps
    example: Batch
    """The first batch's inputs."""
    sources: Sources
    """The maps behind the activations."""
    loss: ExampleLoss
    seed: int


@dataclass(frozen=True, eq=False)
class Pass:
    """One batch on its way: what collectors share of it."""

    first: int
    """Examples that came before it."""
    rows: int
    """Examples in it."""
    inputs: Batch
    labels: Tensor | None
    outputs: Tensor
    gate_gradients: Callable[[Tensor], Tensor]
    """Losses (rows,) -> their derivatives by each example's own gates at 1, (rows, units of the taps) float64.

    Callable any number of times, where a collector asked for it (``Collector.differentiates``).
    """


class Collector(Protocol):
    """Adds up one statistic. Sums are float64, so that neither order nor size of the batches matters."""

    differentiates: bool
    """Whether it calls ``Pass.gate_gradients``."""

    def watching(self) -> AbstractContextManager[None]:
        """Hooks for the forward pass that all collectors share."""
        ...

    def add(self, batch: Pass) -> None:
        """After the forward pass of a batch."""
        ...

    def result(self) -> Mapping[str, Any]:
        """Group -> what is known of it. A string instead: why the statistic has no meaning for the group."""
        ...


class Collectable(Statistic, Protocol):
    """A statistic that :func:`collect` knows how to collect."""

    def collector(self, scene: Scene) -> Collector: ...


class Statistics:
    """What was collected: one value a statistic and group."""

    def __init__(self, found: Mapping[Statistic, Mapping[str, Any]]) -> None:
        self._found = dict(found)

    def of(self, statistic: Statistic, group: ChannelGroup) -> Any:
        """Raises UndefinedScore where it has no meaning for the group, KeyError when it was not collected."""
        value = self._found[statistic][group.name]
        if isinstance(value, str):
            raise UndefinedScore(value)
        return value

    def only(self, statistics: Iterable[Statistic]) -> Statistics:
        """A view of these alone. Raises KeyError for one that was not collected."""
        return Statistics({statistic: self._found[statistic] for statistic in statistics})

    def missing(self, statistics: Iterable[Statistic]) -> list[str]:
        """Names of those that were not collected."""
        return sorted(statistic.name for statistic in statistics if statistic not in self._found)


def cross_entropy(outputs: Tensor, labels: Tensor) -> Tensor:
    """The loss of each example in nats, (rows,), from logits (rows, classes).

    Raises ConfigError for outputs of another form, and labels that are no class.
    """
    if not isinstance(outputs, Tensor) or outputs.ndim != 2:
        got = tuple(outputs.shape) if isinstance(outputs, Tensor) else type(outputs).__name__
        raise ConfigError(
            f"a criterion that reads gradients needs logits (examples, classes), the model returns {got}."
        )
    if len(labels) != len(outputs) or int(labels.min()) < 0 or int(labels.max()) >= outputs.shape[1]:
        raise ConfigError(
            f"labels go from {int(labels.min())} to {int(labels.max())} for {len(labels)} examples; "
            f"the model gives {outputs.shape[1]} classes for {len(outputs)}."
        )
    return F.cross_entropy(outputs, labels, reduction="none")


def by_group(taps: Taps, values: np.ndarray) -> dict[str, np.ndarray]:
    """Group -> its units' values, from those of all units in the last dimension."""
    return {name: values[..., span] for name, span in taps.spans.items()}
