"""Giving a search the memory of its candidates, when it asks for it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from autoprune.config.schema import SearchConfig
from autoprune.cost.memory import MEMORY_METRICS
from autoprune.cost.memory_trace import trace_memory
from autoprune.space.space import SearchSpace

if TYPE_CHECKING:
    from torch import Tensor, nn

    from autoprune.protocols import Progress

__all__ = ["with_memory"]


def with_memory(
    space: SearchSpace,
    config: SearchConfig,
    progress: Progress,
    network: Callable[[], tuple[nn.Module, Tensor | Sequence[Tensor]]],
) -> SearchSpace:
    """The space with ``weight_bytes`` and ``peak_activation_bytes`` among its costs, where the search names one.

    ``network`` gives the full model and an example of its input: it is run once a group, which takes seconds for a
    large one. Raises ConfigError when the activations of a model do not follow its widths.
    """
    named = {item.metric for item in config.parsed_objectives()} | {item.metric for item in config.parsed_constraints()}
    if named.isdisjoint(MEMORY_METRICS):
        return space
    progress.phase("memory")
    memory = trace_memory(*network(), space.groups, space.cost)
    return replace(space, cost=replace(space.cost, extras=(*space.cost.extras, memory)))
