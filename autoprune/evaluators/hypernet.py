"""Weights from a hypernetwork: what it generates for the candidate's widths."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch import Tensor, nn

from autoprune.hypernet.network import PruningNet
from autoprune.types import Candidate, ChannelGroup

__all__ = ["HypernetSource"]


class HypernetSource:
    """Builds plain networks; their BatchNorm statistics mean nothing until they are calibrated, at full width too."""

    def __init__(self, model: nn.Module, groups: Sequence[ChannelGroup], state: Mapping[str, Tensor]) -> None:
        self._network = PruningNet.from_state(model, groups, state)

    def build(self, candidate: Candidate) -> nn.Module:
        return self._network.build(candidate)
