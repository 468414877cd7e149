"""Scores worked out by hand, orders and ties, and the units that a candidate keeps."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from autoprune.errors import ConfigError
from autoprune.protocols import KnownStatistics, Statistic
from autoprune.pruning import criteria
from autoprune.pruning.ranking import keep, rank
from autoprune.types import Candidate, ChannelGroup, Slice

WEIGHT = torch.tensor([[3.0, -4.0], [1.0, 0.0], [5.0, 0.5], [0.0, -6.0]])


def group(*members: Slice, unit: int = 1, name: str = "g") -> ChannelGroup:
    return ChannelGroup(name, 4, members, unit)


def single(parameter: str = "w", role: str = "producer", dim: int = 0) -> Slice:
    return Slice(parameter, dim, np.arange(4)[:, None], role)


@dataclass
class Fixed:
    scores: list[float]
    name: str = "fixed"
    needs: frozenset[Statistic] = frozenset()

    def score(
        self, group: ChannelGroup, tensors: Mapping[str, Any], statistics: KnownStatistics | None = None
    ) -> np.ndarray:
        return np.array(self.scores)


def test_l1_is_the_sum_of_absolute_weights() -> None:
    np.testing.assert_allclose(criteria.get("l1").score(group(single()), {"w": WEIGHT}), [7, 1, 5.5, 6])


def test_l2_is_the_euclidean_norm() -> None:
    scores = criteria.get("l2").score(group(single()), {"w": WEIGHT})
    np.testing.assert_allclose(scores, [5, 1, np.sqrt(25.25), 6])


def test_coupled_producers_are_averaged_and_others_ignored() -> None:
    coupled = group(single(), single("v", dim=1), single("bias", "through"), single("next", "consumer"))
    tensors = {"w": WEIGHT, "v": torch.tensor([[1.0, -1.0, 0.0, 2.0]]), "bias": torch.full((4,), 99.0)}
    np.testing.assert_allclose(criteria.get("l1").score(coupled, tensors), [4, 1, 2.75, 4])


def test_group_norms_weigh_makers_and_readers_alike() -> None:
    """By hand: |w| sums 7, 1, 5.5, 6 of mean 4.875; the reader's columns 1, 1, 0, 2 of mean 1; the bias has no say."""
    coupled = group(single(), single("v", "consumer", dim=1), single("bias", "through"))
    tensors = {"w": WEIGHT, "v": torch.tensor([[1.0, -1.0, 0.0, 2.0]]), "bias": torch.full((4,), 99.0)}
    expected = (np.array([7, 1, 5.5, 6]) / 4.875 + np.array([1, 1, 0, 2])) / 2
    np.testing.assert_allclose(criteria.get("group_l1").score(coupled, tensors), expected)
    squares = (np.array([25, 1, 25.25, 36]) / 21.8125 + np.array([1, 1, 0, 4]) / 1.5) / 2
    np.testing.assert_allclose(criteria.get("group_l2").score(coupled, tensors), squares)
    tensors["w"] = 1000 * WEIGHT
    np.testing.assert_allclose(criteria.get("group_l1").score(coupled, tensors), expected)


def test_a_layer_of_zeros_has_no_say_in_group_norms() -> None:
    coupled = group(single(), single("v", "consumer", dim=1))
    tensors = {"w": WEIGHT, "v": torch.zeros(1, 4)}
    np.testing.assert_allclose(criteria.get("group_l1").score(coupled, tensors), np.array([7, 1, 5.5, 6]) / 4.875)
    np.testing.assert_array_equal(criteria.get("group_l1").score(coupled, {**tensors, "w": 0 * WEIGHT}), np.zeros(4))


def test_units_of_several_channels() -> None:
    pairs = group(Slice("w", 0, np.array([[0, 2], [1, 3]]), "producer"), unit=2)
    np.testing.assert_allclose(criteria.get("l1").score(pairs, {"w": WEIGHT}), [12.5, 7])
    np.testing.assert_allclose(criteria.get("l2").score(pairs, {"w": WEIGHT}), np.sqrt([50.25, 37]))


def test_random_depends_on_seed_and_name_only() -> None:
    a, b = group(single(), name="a"), group(single(), name="b")
    scores = criteria.get("random", 1).score(a, {})
    np.testing.assert_array_equal(scores, criteria.get("random", 1).score(a, {"w": WEIGHT}))
    assert not np.array_equal(scores, criteria.get("random", 2).score(a, {}))
    assert not np.array_equal(scores, criteria.get("random", 1).score(b, {}))


@pytest.mark.parametrize(
    ("scores", "order"),
    [([1, 4, 2, 3], [1, 3, 2, 0]), ([2, 2, 5, 2], [2, 0, 1, 3]), ([1, np.nan, 3, 2], [2, 3, 0, 1])],
    ids=["plain", "ties by channel", "NaN last"],
)
def test_rank_is_best_first(scores: list[float], order: list[int]) -> None:
    assert rank(nn.Identity(), [group(single())], Fixed(scores))["g"].tolist() == order


def test_rank_refuses_a_wrong_shape() -> None:
    with pytest.raises(ValueError, match=r"fixed must give 4 scores for g, got \(3,\)"):
        rank(nn.Identity(), [group(single())], Fixed([1, 2, 3]))


def test_keep_takes_the_best_in_channel_order() -> None:
    order = {"g": np.array([3, 0, 2, 1])}
    groups = [group(single())]
    assert keep(order, groups, Candidate({"g": 3}))["g"].tolist() == [0, 2, 3]
    assert keep(order, groups, Candidate({})) == {}
    pairs = [group(single(), unit=2)]
    assert keep({"g": np.array([1, 0])}, pairs, Candidate({"g": 2}))["g"].tolist() == [1]


@pytest.mark.parametrize("width", [0, -2, 3, 6])
def test_widths_that_are_not_units_are_refused(width: int) -> None:
    with pytest.raises(ConfigError, match=rf"group 'g': width {width} is not allowed.*multiples of 2 from 2 to 4"):
        keep({"g": np.array([1, 0])}, [group(single(), unit=2)], Candidate({"g": width}))


def test_unknown_group_is_refused() -> None:
    with pytest.raises(ConfigError, match="no group 'h'"):
        keep({}, [group(single())], Candidate({"h": 2}))
