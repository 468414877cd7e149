"""Which channels survive: scores and an order per group, computed once; a candidate only says how many to keep."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from torch import Tensor, nn

from autoprune.errors import ConfigError, UndefinedScore, did_you_mean
from autoprune.protocols import Criterion
from autoprune.pruning.standardised import effective_weights
from autoprune.pruning.statistics.base import Statistics
from autoprune.types import Candidate, ChannelGroup

__all__ = ["Scores", "keep", "order", "portion", "rank", "scores", "tensors_of"]


@dataclass(frozen=True, eq=False)
class Scores:
    """What a criterion says of every unit."""

    values: Mapping[str, np.ndarray]
    """Group -> (units,) float64, larger = keep."""
    replaced: Mapping[str, str] = field(default_factory=dict)
    """Groups that the criterion says nothing about, and why: another one scored them, on a scale of its own."""


def scores(
    model: nn.Module,
    groups: Sequence[ChannelGroup],
    criterion: Criterion,
    statistics: Statistics | None = None,
    *,
    fallback: Criterion | None = None,
) -> Scores:
    """Scores of every group's units, each group on the criterion's own scale.

    ``statistics`` must hold what the criterion needs (``statistics.collect``). Groups for which it is undefined are
    scored by ``fallback``, which reads the weights alone. Raises ConfigError that names the group where there is none.
    """
    given = statistics or Statistics({})
    if missing := given.missing(criterion.needs):
        raise ValueError(f"{criterion.name} needs statistics that were not collected: {', '.join(missing)}")
    known = given.only(criterion.needs)
    tensors = tensors_of(model)
    values: dict[str, np.ndarray] = {}
    replaced: dict[str, str] = {}
    for group in groups:
        try:
            found, by = criterion.score(group, tensors, known), criterion
        except UndefinedScore as undefined:
            if fallback is None:
                raise ConfigError(
                    f"criterion {criterion.name!r} is undefined for group {group.name!r}: {undefined.message}.",
                    "Give it a fallback such as group_l2, or choose a criterion that reads the weights alone.",
                ) from None
            replaced[group.name] = f"{criterion.name} is undefined ({undefined.message}), {fallback.name} ranks it"
            found, by = fallback.score(group, tensors), fallback
        values[group.name] = np.asarray(found, dtype=np.float64)
        if values[group.name].shape != (group.units,):
            shape = values[group.name].shape
            raise ValueError(f"{by.name} must give {group.units} scores for {group.name}, got {shape}")
    return Scores(values, replaced)


def tensors_of(model: nn.Module) -> dict[str, Tensor]:
    """Parameters and buffers by name, as criteria read them: weights as the layers apply them."""
    tensors = {**dict(model.named_parameters(remove_duplicate=False)), **dict(model.named_buffers())}
    return {**tensors, **effective_weights(model)}


def order(values: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Unit indices of each group, best first: name -> (units,) int64.

    Equal scores keep the order of the channels; units whose score is NaN come last.
    """
    return {name: np.argsort(-each, kind="stable") for name, each in values.items()}


def rank(
    model: nn.Module,
    groups: Sequence[ChannelGroup],
    criterion: Criterion,
    statistics: Statistics | None = None,
    *,
    fallback: Criterion | None = None,
) -> dict[str, np.ndarray]:
    """The :func:`order` of the :func:`scores`."""
    return order(scores(model, groups, criterion, statistics, fallback=fallback).values)


def portion(units: int, share: float) -> int:
    """That share of the units as a whole number: the nearest, halves up.

    >>> portion(10, 1 - 0.9), portion(10, 0.25), portion(10, 0.0)
    (1, 3, 0)
    """
    return int(units * share + 0.5 + 1e-9)


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
