"""Scores of the network as it stands, through normaliser and cost penalty."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import nn

from autoprune.errors import ConfigError
from autoprune.procedures.network import Standing
from autoprune.procedures.phases import Layers, Preset, Rounds, Scoring, Sparsify, ZeroedTraining
from autoprune.procedures.setting import Setting
from autoprune.pruning import criteria, ranking
from autoprune.pruning.allocation import best_units, normalise, penalise
from autoprune.pruning.statistics import collect
from autoprune.training.sparsity import Chosen, scales
from autoprune.types import ChannelGroup

__all__ = ["chosen_zeros", "require_applicable", "scored"]

_SILENCED = ("bias", "running_mean")


def scored(
    standing: Standing, groups: Sequence[ChannelGroup], scoring: Scoring, setting: Setting, stage: int = 0
) -> dict[str, np.ndarray]:
    """Scores of the units of ``groups``, (units,) float64 each, larger = keep.

    The images of a criterion that needs some are drawn anew for each ``stage``. Raises ConfigError that names the group
    for which the criterion is undefined.
    """
    criterion = criteria.get(scoring.criterion, setting.seed, **scoring.options)
    statistics = None
    if criterion.needs:
        seen = setting.dataset.train.take(scoring.images, setting.seed * 100_003 + stage)
        batches = setting.batches(seen, standing.module)
        statistics = collect(standing.module, groups, criterion.needs, batches, seed=setting.seed)
    with torch.no_grad():
        found = ranking.scores(standing.module, groups, criterion, statistics)
    values = normalise(scoring.normaliser, found.values)
    return penalise(values, _savings(standing, setting), scoring.penalty) if scoring.penalty else values


def chosen_zeros(standing: Standing, module: nn.Module, scoring: Scoring, setting: Setting) -> Chosen:
    """The worst units of each group of ``module``, as many as leave in the end, and where they are."""
    now = Standing(module, standing.groups, standing.kept)
    values, counts = scored(now, standing.groups, scoring, setting), setting.fixed_counts()
    units, filters, constants = {}, [], []
    for group in standing.groups:
        gone = np.setdiff1d(np.arange(group.units), best_units(values[group.name], counts[group.name]))
        units[group.name] = torch.from_numpy(gone)
        for member in group.members:
            place = (member.parameter, member.dim, torch.from_numpy(member.index[gone].ravel()))
            if member.role == "producer":
                filters.append(place)
            elif member.role == "through" and member.parameter.rpartition(".")[2] in _SILENCED:
                constants.append(place)
    return Chosen(units, filters, constants)


def require_applicable(
    preset: Preset, module: nn.Module, groups: Sequence[ChannelGroup], image_shape: tuple[int, int, int]
) -> None:
    """Raises ConfigError when the procedure cannot prune this network, whatever its weights.

    It is tried on two images of noise, so that this is known before anything is trained.
    """
    if any(isinstance(phase, Sparsify) for phase in preset.phases) and not scales(module):
        raise ConfigError(
            f"{preset.name} reads BatchNorm's scales, and this network has no BatchNorm.",
            "Take another preset ('autoprune prune --list'), for example li2016.",
        )
    noise = torch.randn((2, *image_shape), generator=torch.Generator().manual_seed(0))
    batch = (noise, torch.zeros(2, dtype=torch.int64))
    for phase in preset.phases:
        if not isinstance(phase, Rounds | Layers | ZeroedTraining):
            continue
        criterion = criteria.get(phase.scoring.criterion, **phase.scoring.options)
        try:
            known = collect(module, groups, criterion.needs, [batch]) if criterion.needs else None
            ranking.scores(module, groups, criterion, known)
        except ConfigError as error:
            raise ConfigError(
                f"{preset.name} cannot prune this network: {error.message}",
                "Take another preset ('autoprune prune --list'), or leave the group out by a rule of the space: "
                "{match: NAME, exclude: true}.",
            ) from None


def _savings(standing: Standing, setting: Setting) -> Mapping[str, float]:
    """Millions of MACs that go with one more unit of each group, at the widths as they are."""
    cost = setting.cost
    widths = np.array([standing.widths[name] for name in cost.groups], dtype=np.int64)
    fewer = widths[None] - np.diag(cost.unit)
    saved = (cost.macs(widths[None])[0] - cost.macs(fewer)) / 1e6
    return dict(zip(cost.groups, saved.tolist(), strict=True))
