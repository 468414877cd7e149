"""What a channel's response tells: about the class, or at all.

``mutual_information``: Molchanov, Tyree, Karras, Aila, Kautz, "Pruning Convolutional Neural Networks for Resource
Efficient Inference", ICLR 2017, section 2.2: IG(y|x) = H(x) + H(y) - H(x, y) for the quantised response x and the label
y. ``entropy``: Luo, Wu, "An Entropy-based Pruning Method for CNN Compression", 2017: H(x) = - sum p log p.

The response is the mean of a channel's map in one example (of Molchanov et al. the reduction and the bins are not known
to us: these are our choices). It is quantised at the 16-quantiles of all the group's channels together, the same bins
for every channel: with bins of its own every continuous channel would have the same H(x). With few examples the
estimate is biased upwards, about (bins - 1)(classes - 1) / (2 examples) nats for independent x and y, for all alike.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from autoprune.protocols import KnownStatistics, Statistic
from autoprune.pruning.statistics.activations import LabelledResponses, Response, Responses
from autoprune.types import ChannelGroup

__all__ = ["EntropyCriterion", "MutualInformationCriterion", "entropies", "quantised"]

_RESPONSES, _LABELLED = Responses(), LabelledResponses()


@dataclass
class MutualInformationCriterion:
    """H(x) + H(y) - H(x, y), in nats."""

    bins: int = 16
    name: str = "mutual_information"
    needs: frozenset[Statistic] = frozenset({_LABELLED})

    def score(
        self, group: ChannelGroup, tensors: Mapping[str, Any], statistics: KnownStatistics | None = None
    ) -> np.ndarray:
        """Shape (units,), float64, >= 0 to rounding."""
        assert statistics is not None
        found: Response = statistics.of(_LABELLED, group)
        classes, labels = np.unique(found.labels, return_inverse=True)
        codes = quantised(found.values, self.bins)
        of_labels = entropies(labels[:, None], len(classes))
        joint = entropies(codes * len(classes) + labels[:, None], self.bins * len(classes))
        return entropies(codes, self.bins) + of_labels - joint


@dataclass
class EntropyCriterion:
    """H(x), in nats."""

    bins: int = 16
    name: str = "entropy"
    needs: frozenset[Statistic] = frozenset({_RESPONSES})

    def score(
        self, group: ChannelGroup, tensors: Mapping[str, Any], statistics: KnownStatistics | None = None
    ) -> np.ndarray:
        """Shape (units,), float64, in [0, log bins]."""
        assert statistics is not None
        found: Response = statistics.of(_RESPONSES, group)
        return entropies(quantised(found.values, self.bins), self.bins)


def quantised(values: np.ndarray, bins: int) -> np.ndarray:
    """Bin of each value, from 0, at the quantiles of all values: the same shape, int64."""
    edges = np.quantile(values, np.arange(1, bins) / bins)
    codes: np.ndarray = np.searchsorted(edges, values, side="left")
    return codes


def entropies(codes: np.ndarray, kinds: int) -> np.ndarray:
    """Entropy in nats of each column of codes (examples, columns) in [0, kinds): (columns,) float64.

    >>> entropies(np.array([[0, 5], [0, 7]]), 8).round(4).tolist()
    [0.0, 0.6931]
    """
    columns = codes.shape[1]
    counts = np.bincount((codes + kinds * np.arange(columns)).ravel(), minlength=kinds * columns)
    shares = counts.reshape(columns, kinds) / len(codes)
    return -np.sum(shares * np.log(np.where(shares > 0, shares, 1.0)), axis=1) + 0.0
