"""Criteria that look at pairs of layers: ThiNet, the LASSO of He et al., correlation. Brute force and identities."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from autoprune.errors import UndefinedScore
from autoprune.pruning import criteria
from autoprune.pruning.criteria.lasso import entry_ranks, lasso_path
from autoprune.pruning.criteria.thinet import removal_order
from autoprune.pruning.groups import discover
from autoprune.pruning.statistics import Statistics, collect
from autoprune.pruning.statistics.contributions import Contributions, Correlations
from autoprune.types import ChannelGroup

NAMES = ("thinet", "lasso", "correlation")


def images(count: int = 30, seed: int = 1) -> Tensor:
    return torch.randn(count, 3, 6, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def pair(**settings: object) -> nn.Sequential:
    torch.manual_seed(0)
    second = nn.Conv2d(6, 4, 3, **{"padding": 1, **settings})  # type: ignore[arg-type]
    return nn.Sequential(nn.Conv2d(3, 6, 3), nn.ReLU(), second).double().eval()


def of(model: nn.Module, batches: Sequence[Tensor], *wanted: object) -> tuple[ChannelGroup, Statistics]:
    group = discover(model, batches[0][:1], check=False).groups[0]
    needed = [*wanted] or [Contributions(), Correlations()]
    return group, collect(model, [group], needed, [(batch, None) for batch in batches])  # type: ignore[list-item]


def scores(name: str, model: nn.Module, *batches: Tensor) -> np.ndarray:
    group, statistics = of(model, batches)
    return criteria.get(name).score(group, {}, statistics)


def all_contributions(model: nn.Sequential, batch: Tensor) -> np.ndarray:
    """Every row of ThiNet's problem by definition: (images * filters * places, channels)."""
    second: nn.Conv2d = model[2]  # type: ignore[assignment]
    with torch.no_grad():
        hidden = model[:2](batch)
        rows = []
        for channel in range(second.in_channels):
            only = torch.zeros_like(hidden)
            only[:, channel] = hidden[:, channel]
            rows.append((second(only) - second.bias.view(1, -1, 1, 1)).flatten())
    return torch.stack(rows, 1).numpy()


@pytest.mark.parametrize("settings", [{}, {"stride": 2, "padding": 0}, {"groups": 2}, {"kernel_size": 1, "padding": 0}])
def test_contributions_are_those_of_one_channel_at_a_time(settings: dict[str, int]) -> None:
    batch = images(5)
    torch.manual_seed(0)
    second = nn.Conv2d(6, 4, **{"kernel_size": 3, "padding": 1, **settings})  # type: ignore[arg-type]
    model = nn.Sequential(nn.Conv2d(3, 6, 3), nn.ReLU(), second).double().eval()
    wanted = Contributions(positions=1000)
    group, statistics = of(model, [batch], wanted)
    (found,) = statistics.of(wanted, group)
    rows = all_contributions(model, batch)
    filters = second.out_channels
    expected = filters * rows.T @ rows / len(rows)
    if settings.get("groups"):  # a unit is one channel of each group: their rows are other filters'
        expected = expected[:3, :3] + expected[3:, 3:]
    np.testing.assert_allclose(found.second, expected, atol=1e-10)
    by_filter = rows.reshape(5, filters, -1, 6).transpose(0, 2, 1, 3).reshape(-1, filters, 6)
    deviations = (by_filter - by_filter.mean(0)).reshape(-1, 6)
    covariance = filters * deviations.T @ deviations / len(deviations)
    if settings.get("groups"):
        covariance = covariance[:3, :3] + covariance[3:, 3:]
    np.testing.assert_allclose(found.covariance, covariance, atol=1e-10)


# --- ThiNet ----------------------------------------------------------------------------------------------------------


def lost(second: np.ndarray, removed: Sequence[int]) -> float:
    return float(second[np.ix_(removed, removed)].sum())


def test_the_first_channel_removed_is_the_best_and_each_next_the_best_beside_it() -> None:
    for seed in range(10):
        rows = np.random.default_rng(seed).normal(size=(50, 6)) @ np.random.default_rng(seed + 99).normal(size=(6, 6))
        second = rows.T @ rows
        order = removal_order(second).tolist()
        for count in range(1, 7):
            before = order[: count - 1]
            tried = [(lost(second, [*before, each]), each) for each in range(6) if each not in before]
            assert min(tried)[1] == order[count - 1]


def test_greedy_equals_brute_force_on_orthogonal_columns() -> None:
    """And drops the smallest norms."""
    rows, _ = np.linalg.qr(np.random.default_rng(0).normal(size=(40, 8)))
    rows *= np.array([5, 1, 4, 2, 8, 3, 7, 6])
    second = rows.T @ rows
    order = removal_order(second).tolist()
    assert order == [1, 3, 5, 2, 0, 7, 6, 4]
    for count in range(1, 8):
        best = min(itertools.combinations(range(8), count), key=lambda chosen: lost(second, chosen))
        assert set(best) == set(order[:count])


def test_pairs_that_cancel_leave_together() -> None:
    rows = np.random.default_rng(3).normal(size=(60, 6))
    rows[:, 1] *= 0.5
    rows[:, 4] = -rows[:, 1] + 0.01 * rows[:, 0]
    second = rows.T @ rows
    order = removal_order(second).tolist()
    assert set(order[:2]) == {1, 4}
    assert set(min(itertools.combinations(range(6), 2), key=lambda chosen: lost(second, chosen))) == {1, 4}


def test_thinet_ranks_a_network_by_its_removal_order() -> None:
    batch = images()
    model = pair()
    found = criteria.get("thinet").score(*_with(model, batch))
    assert sorted(found.tolist()) == list(range(6))
    rows = all_contributions(model, batch)
    exact = np.argsort(removal_order(rows.T @ rows))
    assert np.corrcoef(found, exact)[0, 1] > 0.7, "sampled places against all"


def _with(model: nn.Module, *batches: Tensor) -> tuple[ChannelGroup, dict[str, object], Statistics]:
    group, statistics = of(model, batches)
    return group, {}, statistics


# --- LASSO -----------------------------------------------------------------------------------------------------------


def test_orthonormal_columns_are_soft_thresholded() -> None:
    """Z^T Z = N I: b = sign(z^T y / N) max(|z^T y / N| - lambda, 0)."""
    projections = np.array([3.0, -1.0, 0.5, -4.0, 2.0])
    knots, coefficients = lasso_path(np.eye(5), projections)
    for knot, found in zip(knots, coefficients.T, strict=True):
        expected = np.sign(projections) * np.maximum(np.abs(projections) - knot, 0)
        np.testing.assert_allclose(found, expected, atol=1e-12)
    assert entry_ranks(knots, coefficients).tolist() == [3, 1, 0, 4, 2]


def test_the_path_meets_the_conditions_of_the_lasso() -> None:
    """At each knot: |gradient| = lambda where b is not 0, and at most lambda elsewhere."""
    random = np.random.default_rng(0)
    rows = random.normal(size=(80, 7)) @ random.normal(size=(7, 7))
    gram, right = rows.T @ rows / 80, rows.T @ rows.sum(1) / 80
    knots, coefficients = lasso_path(gram, right)
    assert (np.diff(knots) <= 1e-12).all()
    for knot, found in zip(knots, coefficients.T, strict=True):
        gradient = right - gram @ found
        assert np.abs(gradient).max() <= knot + 1e-8
        np.testing.assert_allclose(gradient[found != 0], knot * np.sign(found[found != 0]), atol=1e-8)


def test_dead_channels_and_copies_come_last() -> None:
    random = np.random.default_rng(1)
    rows = random.normal(size=(80, 6))
    rows[:, 2] = 0
    rows[:, 5] = rows[:, 1]
    ranks = entry_ranks(*lasso_path(rows.T @ rows / 80, rows.T @ rows.sum(1) / 80))
    assert sorted(ranks.tolist()) == list(range(6))
    assert ranks[2] < 2
    assert min(ranks[1], ranks[5]) < 2
    assert entry_ranks(*lasso_path(np.zeros((3, 3)), np.zeros(3))).tolist() == [2, 1, 0]


def test_lasso_keeps_what_explains_the_outputs() -> None:
    """Readers of two channels are nearly zero: these two are taken up last, whatever their activations."""
    model = pair()
    model[2].weight.data[:, [1, 4]] *= 1e-3
    for name in ("lasso", "thinet"):
        assert set(np.argsort(scores(name, model, images()))[:2]) == {1, 4}, name


# --- correlation -----------------------------------------------------------------------------------------------------


def test_correlation_is_numpys_over_examples_place_by_place_without_padding() -> None:
    batch = images(25)
    model = pair()
    wanted = Correlations(positions=1000)
    group, statistics = of(model, [batch], wanted)
    with torch.no_grad():
        hidden, out = model[:2](batch).numpy(), model(batch).numpy()
    expected = []
    for channel in range(6):
        found = []
        for y, x, dy, dx, n in itertools.product(range(4), range(4), range(3), range(3), range(4)):
            row, column = y + dy - 1, x + dx - 1
            if 0 <= row < 4 and 0 <= column < 4:
                a = hidden[:, channel, row, column]
                found.append(abs(np.corrcoef(a, out[:, n, y, x])[0, 1]) if a.std() > 0 else 0.0)
        expected.append(np.mean(found))
    np.testing.assert_allclose(statistics.of(wanted, group), expected, atol=1e-9)


def test_an_affine_reader_correlates_fully_and_constants_not_at_all() -> None:
    model = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2)).double().eval()
    model[0].weight.data = torch.tensor([[1.0, 0, 0], [0, 1, 0], [0, 0, 0], [1, 0, 0]]).double()
    model[1].weight.data = torch.tensor([[2.0, 0, 1, 0], [-3, 0, 1, 0]]).double()
    batch = torch.randn(4000, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    found = scores("correlation", model, batch)
    np.testing.assert_allclose(found[[0, 3]], 1, atol=1e-9)
    assert found[2] == 0
    assert found[1] < 3 / np.sqrt(4000)
    model[0].weight.data *= 7
    np.testing.assert_allclose(scores("correlation", model, batch), found, atol=1e-9)


# --- all of them -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_streaming_gives_what_one_batch_gives(name: str) -> None:
    batch = images(30) + 100  # far from zero, where sums of squares would cancel
    whole, parts = scores(name, pair(), batch), scores(name, pair(), *batch.split(7))
    np.testing.assert_allclose(parts, whole, atol=1e-6)


def two_readers(scale: float) -> Callable[[], nn.Module]:
    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            torch.manual_seed(0)
            self.first, self.a, self.b = nn.Conv2d(3, 6, 1), nn.Conv2d(6, 4, 1), nn.Conv2d(6, 3, 3)
            self.b.weight.data *= scale

        def forward(self, pixels: Tensor) -> Tensor:
            hidden = self.first(pixels).relu()
            return self.a(hidden).mean((2, 3)).sum(1, keepdim=True) + self.b(hidden).mean((2, 3)).sum(1, keepdim=True)

    return lambda: Two().double().eval()


@pytest.mark.parametrize("name", NAMES)
def test_readers_count_alike_whatever_their_scale(name: str) -> None:
    small, large = (scores(name, two_readers(scale)(), images()) for scale in (1.0, 1000.0))
    np.testing.assert_allclose(large, small, atol=1e-9)


@pytest.mark.parametrize("name", NAMES)
def test_a_group_whose_readers_cannot_be_looked_into_has_no_score(name: str) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 6, 1), nn.ReLU(), nn.ConvTranspose2d(6, 4, 2)).double().eval()
    with pytest.raises(UndefinedScore, match="ConvTranspose2d is no plain convolution"):
        scores(name, model, images())
