"""What every registered criterion promises."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
import torch
from torch import nn

from autoprune.errors import ConfigError
from autoprune.pruning import criteria
from autoprune.pruning.groups import discover
from autoprune.pruning.ranking import rank
from autoprune.pruning.statistics import Statistics, collect
from autoprune.types import ChannelGroup


@pytest.fixture(scope="module")
def model() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 8, 3), nn.Conv2d(8, 12, 1, groups=4), nn.Flatten(), nn.Linear(48, 3))


def collected(model: nn.Module, name: str, groups: Sequence[ChannelGroup]) -> Statistics:
    generator = torch.Generator().manual_seed(0)
    images, labels = torch.randn(6, 3, 4, 4, generator=generator), torch.tensor([0, 1, 2, 0, 1, 2])
    return collect(model, groups, criteria.get(name).needs, [(images, labels)])


@pytest.mark.parametrize("name", criteria.names())
def test_scores_have_the_promised_form(model: nn.Module, name: str) -> None:
    groups = discover(model, torch.zeros(1, 3, 4, 4)).groups
    assert [group.units for group in groups] == [2, 3]
    state = model.state_dict()
    criterion, statistics = criteria.get(name, seed=3), collected(model, name, groups)
    assert criterion.name == name
    for group in groups:
        scores = criterion.score(group, state, statistics)
        assert scores.shape == (group.units,)
        assert scores.dtype == np.float64
        assert np.isfinite(scores).all()
        np.testing.assert_array_equal(scores, criteria.get(name, seed=3).score(group, state, statistics))


@pytest.mark.parametrize("name", criteria.names())
def test_ranking_is_a_permutation_and_leaves_the_model_alone(model: nn.Module, name: str) -> None:
    before = {key: tensor.clone() for key, tensor in model.state_dict().items()}
    groups = discover(model, torch.zeros(1, 3, 4, 4)).groups
    order = rank(model, groups, criteria.get(name), collected(model, name, groups))
    for group in groups:
        assert sorted(order[group.name].tolist()) == list(range(group.units))
    assert all(torch.equal(tensor, before[key]) for key, tensor in model.state_dict().items())


def test_unknown_name() -> None:
    with pytest.raises(ConfigError, match=r"no criterion 'l3'.*Known: group_l1, group_l2, l1, l2, random, taylor"):
        criteria.get("l3")
