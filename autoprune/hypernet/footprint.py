"""What a hypernetwork costs in memory: its generators are many times as large as the network itself."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import nn

from autoprune.config.evaluation import HypernetWeights
from autoprune.errors import ConfigError
from autoprune.hypernet.network import PruningNet
from autoprune.types import ChannelGroup

__all__ = ["Footprint", "footprint", "require_memory"]

_FLOAT = 4
_IN_TRAINING = 3


@dataclass(frozen=True)
class Footprint:
    """Numbers of parameters, and bytes in float32; activations come on top in training.

    >>> print(Footprint(parameters=8_900_000, network_parameters=272_000))
    8.9M parameters (33 times the network's): 36 MB, 107 MB in training
    """

    parameters: int
    network_parameters: int
    """Of the network whose weights are generated."""

    @property
    def weight_bytes(self) -> int:
        return _FLOAT * self.parameters

    @property
    def training_bytes(self) -> int:
        """Weights, gradients and SGD's momentum."""
        return _IN_TRAINING * self.weight_bytes

    def __str__(self) -> str:
        times = self.parameters / self.network_parameters
        return (
            f"{self.parameters / 1e6:.1f}M parameters ({times:.0f} times the network's): "
            f"{self.weight_bytes / 1e6:.0f} MB, {self.training_bytes / 1e6:.0f} MB in training"
        )


def footprint(network: nn.Module, groups: Sequence[ChannelGroup], weights: HypernetWeights) -> Footprint:
    """Of the hypernetwork that ``weights`` describes; nothing of that size is allocated."""
    empty = PruningNet(network, groups, hidden=weights.hidden, rank=weights.rank, empty=True)
    own = sum(parameter.numel() for parameter in network.parameters())
    return Footprint(sum(parameter.numel() for parameter in empty.parameters()), own)


def require_memory(size: Footprint, weights: HypernetWeights) -> None:
    """Raises ConfigError when training it needs more memory than the machine (or its GPU) has at all."""
    if torch.cuda.is_available():
        total = torch.cuda.mem_get_info()[1]
    else:
        total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if size.training_bytes > total:
        raise ConfigError(
            f"the hypernetwork's weights, gradients and momentum take {size.training_bytes / 1e9:.1f} GB in training, "
            f"and there are {total / 1e9:.1f} GB.",
            "Set evaluator.weights.rank to 1, or a smaller evaluator.weights.hidden."
            if weights.rank is None
            else "Set a smaller evaluator.weights.hidden or rank.",
        )
