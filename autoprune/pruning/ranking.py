"""Which channels survive: an order per group, computed once; a candidate only says how many of it to keep."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from torch import nn

from autoprune.errors import ConfigError, did_you_mean
from autoprune.protocols import Criterion
from autoprune.pruning.standardised import effective_weights
from autoprune.types import Candidate, ChannelGroup

__all__ = ["keep", "rank"]


def rank(model: nn.Module, groups: Sequence[ChannelGroup], criterion: Criterion) -> dict[str, np.ndarray]:
    """Unit indices of each group, best first: name -> (units,) int64.

    Equal scores keep the order of the channels; units whose score is NaN come last.
    """
    tensors = {**dict(model.named_parameters(remove_duplicate=False)), **dict(model.named_buffers())}
    tensors.update(effective_weights(model))
    order = {}
    for group in groups:
        scores = np.asarray(criterion.score(group, tensors), dtype=np.float64)
        if scores.shape != (group.units,):
            raise ValueError(f"{criterion.name} must give {group.units} scores for {group.name}, got {scores.shape}")
        order[group.name] = np.argsort(-scores, kind="stable")
    return order


def keep(
    ranking: Mapping[str, np.ndarray], groups: Sequence[ChannelGroup], candidate: Candidate
) -> dict[str, np.ndarray]:
    """The best units of each group that the candidate names, ascending: name -> (width / unit,) int64.

    Raises ConfigError for an unknown group, or a width that is not a positive multiple of the unit within the group.
    """
    known = {group.name: group for group in groups}
    kept = {}
    for name, width in candidate.widths.items():
        if name not in known:
            raise ConfigError(f"the model has no group {name!r}.", did_you_mean(name, known))
        group = known[name]
        if not 0 < width <= group.channels or width % group.unit:
            raise ConfigError(
                f"group {name!r}: width {width} is not allowed; "
                f"allowed are multiples of {group.unit} from {group.unit} to {group.channels}."
            )
        kept[name] = np.sort(ranking[name][: width // group.unit])
    return kept
