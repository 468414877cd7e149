"""Scores of channels by name: :func:`get` makes a criterion, :func:`catalogue` describes them all.

A criterion is a data class whose fields, but for ``name`` and ``needs``, are its options. Larger = keep, always.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from autoprune.errors import ConfigError, did_you_mean
from autoprune.protocols import Criterion
from autoprune.pruning.criteria.activation import ActivationCriterion
from autoprune.pruning.criteria.batchnorm import BatchNormCriterion, FoldedNormCriterion
from autoprune.pruning.criteria.brain_damage import FisherCriterion, GaussNewtonCriterion, HutchinsonCriterion
from autoprune.pruning.criteria.correlation import CorrelationCriterion
from autoprune.pruning.criteria.fpgm import GeometricMedianCriterion
from autoprune.pruning.criteria.group_norm import GroupNormCriterion
from autoprune.pruning.criteria.information import EntropyCriterion, MutualInformationCriterion
from autoprune.pruning.criteria.lasso import LassoCriterion
from autoprune.pruning.criteria.magnitude import MagnitudeCriterion
from autoprune.pruning.criteria.random import RandomCriterion
from autoprune.pruning.criteria.taylor import TaylorCriterion
from autoprune.pruning.criteria.thinet import ThinetCriterion

__all__ = ["Description", "catalogue", "get", "names"]


@dataclass(frozen=True)
class _Entry:
    make: Callable[..., Criterion]
    """(options) -> criterion; a seeded one takes ``seed`` as well."""
    measures: str
    source: str
    seeded: bool = False


_ENTRIES: dict[str, _Entry] = {
    "activation_mean": _Entry(
        lambda: ActivationCriterion("activation_mean"), "mean behind the activation", "Molchanov et al. 2017"
    ),
    "activation_std": _Entry(
        lambda: ActivationCriterion("activation_std"), "deviation behind the activation", "Molchanov et al. 2017"
    ),
    "apoz": _Entry(lambda: ActivationCriterion("apoz"), "share that is not zero behind the ReLU", "Hu et al. 2016"),
    "bn_scale": _Entry(BatchNormCriterion, "BatchNorm's |gamma|", "Liu et al. 2017"),
    "correlation": _Entry(CorrelationCriterion, "how closely its readers' outputs follow it", "Sun et al. 2016"),
    "entropy": _Entry(EntropyCriterion, "entropy of the mean response", "Luo and Wu 2017"),
    "fisher": _Entry(FisherCriterion, "squared derivative of the loss by the gate", "Theis et al. 2018"),
    "fpgm": _Entry(GeometricMedianCriterion, "distance to the other filters", "He et al. 2019"),
    "gamma_weight": _Entry(FoldedNormCriterion, "L1 norm of the filter folded with BatchNorm", "ours"),
    "gauss_newton": _Entry(GaussNewtonCriterion, "Gauss-Newton curvature of the gate", "LeCun et al. 1989"),
    "group_l1": _Entry(
        lambda: GroupNormCriterion("group_l1", 1), "absolute weights that make and read it", "Fang et al. 2023"
    ),
    "group_l2": _Entry(
        lambda: GroupNormCriterion("group_l2", 2), "squared weights that make and read it", "Fang et al. 2023"
    ),
    "hutchinson": _Entry(HutchinsonCriterion, "curvature of the loss by the gate", "LeCun et al. 1989"),
    "l1": _Entry(lambda: MagnitudeCriterion("l1", 1), "L1 norm of the filter", "Li et al. 2017"),
    "l2": _Entry(lambda: MagnitudeCriterion("l2", 2), "L2 norm of the filter", "Li et al. 2017"),
    "lasso": _Entry(LassoCriterion, "when the LASSO takes it up to explain its readers' outputs", "He et al. 2017"),
    "mutual_information": _Entry(
        MutualInformationCriterion, "what the mean response says of the class", "Molchanov et al. 2017"
    ),
    "random": _Entry(RandomCriterion, "nothing: the control", "Mittal et al. 2018", seeded=True),
    "taylor": _Entry(TaylorCriterion, "derivative of the loss by the gate", "Molchanov et al. 2017"),
    "thinet": _Entry(ThinetCriterion, "how much its readers' outputs lose, greedily", "Luo et al. 2017"),
}


@dataclass(frozen=True)
class Description:
    """A criterion in words."""

    name: str
    measures: str
    source: str
    needs: tuple[str, ...]
    """``weights`` alone, or ``images``, with ``labels`` where these are read too."""


def names() -> list[str]:
    """The registered criteria, in alphabetical order."""
    return sorted(_ENTRIES)


def get(name: str, seed: int = 0, **options: Any) -> Criterion:
    """The criterion of that name; ``seed`` matters to random ones only. Raises ConfigError for an unknown name or
    option."""
    if name not in _ENTRIES:
        raise ConfigError(f"there is no criterion {name!r}.", did_you_mean(name, _ENTRIES))
    entry = _ENTRIES[name]
    try:
        return entry.make(**({"seed": seed} if entry.seeded else {}), **options)
    except TypeError as error:
        raise ConfigError(f"criterion {name!r} does not take these options: {error}.") from None


def catalogue() -> list[Description]:
    """What is known of each criterion, by name."""
    return [Description(name, _ENTRIES[name].measures, _ENTRIES[name].source, _wants(name)) for name in names()]


def _wants(name: str) -> tuple[str, ...]:
    needs = get(name).needs
    if not needs:
        return ("weights",)
    return ("images", "labels") if any(statistic.labels for statistic in needs) else ("images",)
