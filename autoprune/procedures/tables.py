"""Networks that a paper pruned by hand: which share of which layer leaves.

Li, Kadav, Durdanovic, Samet, Graf, "Pruning Filters for Efficient ConvNets", ICLR 2017, table 1; the layers of the
ResNets as in the code of Liu et al., "Rethinking the Value of Network Pruning" (cifar/l1-norm-pruning), which counts
the 3x3 convolutions from 1 and prunes the first of each block.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from autoprune.errors import ConfigError, did_you_mean

__all__ = ["TABLES", "HandTable", "table"]


@dataclass(frozen=True)
class HandTable:
    """One network of a paper."""

    model: str
    """The built-in model that it is of."""
    shares: Mapping[str, float]
    """Group -> the share of its units that leaves; the others stay full."""
    macs_removed: float
    """As published: a share of the full model's."""
    params_removed: float


def _vgg16_a() -> dict[str, float]:
    """Half of convolution 1 and of 8 to 13; ``features`` counts convolutions, BatchNorm, ReLU and pooling."""
    places = (0, 3, 7, 10, 14, 17, 20, 24, 27, 30, 34, 37, 40)
    return {f"features.{places[number - 1]}": 0.5 for number in (1, *range(8, 14))}


def _resnet(depth: int, shares: tuple[float, float, float], skipped: tuple[int, ...]) -> dict[str, float]:
    blocks = (depth - 2) // 6
    return {
        f"layer{stage + 1}.{block}.conv1": shares[stage]
        for stage in range(3)
        for block in range(blocks)
        if shares[stage] and 2 * (stage * blocks + block) + 2 not in skipped
    }


TABLES: Mapping[str, HandTable] = {
    "vgg16-a": HandTable("vgg16_bn", _vgg16_a(), 0.342, 0.640),
    "resnet56-a": HandTable("resnet56", _resnet(56, (0.1, 0.1, 0.1), (16, 20, 38, 54)), 0.104, 0.094),
    "resnet56-b": HandTable("resnet56", _resnet(56, (0.6, 0.3, 0.1), (16, 18, 20, 34, 38, 54)), 0.276, 0.137),
    "resnet110-a": HandTable("resnet110", _resnet(110, (0.5, 0.0, 0.0), (36,)), 0.159, 0.023),
    "resnet110-b": HandTable("resnet110", _resnet(110, (0.5, 0.4, 0.3), (36, 38, 74)), 0.386, 0.324),
}


def table(name: str, groups: Mapping[str, int]) -> HandTable:
    """The table of that name for a network with these groups (and their units).

    Raises ConfigError for an unknown name, or a network that lacks some of its layers.
    """
    if name not in TABLES:
        raise ConfigError(f"there is no table {name!r}.", did_you_mean(name, TABLES))
    missing = [group for group in TABLES[name].shares if group not in groups]
    if missing:
        raise ConfigError(
            f"table {name!r} is of {TABLES[name].model}, and this network has no group {missing[0]!r} to prune.",
            "Give a budget instead: --budget 'macs <= 0.5 * baseline' takes the same share from every layer.",
        )
    return TABLES[name]
