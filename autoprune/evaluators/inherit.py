"""Weight inheritance: the base model's own weights for the channels that rank highest."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from torch import nn

from autoprune.pruning import ranking as ranks
from autoprune.pruning.slicing import Slicer
from autoprune.types import Candidate, ChannelGroup

__all__ = ["InheritSource"]


class InheritSource:
    """Slices the base model; the ranking is computed once, so a candidate costs only its slicing."""

    def __init__(self, model: nn.Module, groups: Sequence[ChannelGroup], ranking: Mapping[str, np.ndarray]) -> None:
        self._groups = tuple(groups)
        self._ranking = ranking
        self._slicer = Slicer(model, groups)

    def build(self, candidate: Candidate) -> nn.Module:
        return self._slicer(ranks.keep(self._ranking, self._groups, candidate))
