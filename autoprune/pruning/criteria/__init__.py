"""Scores of channels by name: :func:`get` makes a criterion, :func:`names` lists them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from autoprune.errors import ConfigError, did_you_mean
from autoprune.protocols import Criterion
from autoprune.pruning.criteria.group_norm import GroupNormCriterion
from autoprune.pruning.criteria.magnitude import MagnitudeCriterion
from autoprune.pruning.criteria.random import RandomCriterion
from autoprune.pruning.criteria.taylor import TaylorCriterion

__all__ = ["get", "names"]

_MAKERS: dict[str, Callable[..., Criterion]] = {
    "group_l1": lambda seed: GroupNormCriterion("group_l1", 1),
    "group_l2": lambda seed: GroupNormCriterion("group_l2", 2),
    "l1": lambda seed: MagnitudeCriterion("l1", 1),
    "l2": lambda seed: MagnitudeCriterion("l2", 2),
    "random": RandomCriterion,
    "taylor": lambda seed, **options: TaylorCriterion(**options),
}


def names() -> list[str]:
    """The registered criteria.

    >>> names()
    ['group_l1', 'group_l2', 'l1', 'l2', 'random', 'taylor']
    """
    return sorted(_MAKERS)


def get(name: str, seed: int = 0, **options: Any) -> Criterion:
    """The criterion of that name; ``seed`` matters to random ones only. Raises ConfigError for an unknown name."""
    if name not in _MAKERS:
        raise ConfigError(f"there is no criterion {name!r}.", did_you_mean(name, _MAKERS))
    return _MAKERS[name](seed, **options)
