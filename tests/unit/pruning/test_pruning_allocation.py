"""From scores to widths: normalisers, cost penalty, and selection under budgets and floors."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from autoprune.errors import ConfigError
from autoprune.pruning.allocation import (
    NORMALISERS,
    Choices,
    best_units,
    beyond,
    global_removal,
    normalise,
    penalise,
    removed_units,
)


def choices(units: Sequence[int], most: int, *, floor: int = 1, step: int = 1) -> Choices:
    """A budget on the number of units over all groups."""
    allowed = {f"g{at}": [*range(floor, count, step), count] for at, count in enumerate(units)}
    return Choices(allowed, lambda counts: sum(counts) <= most)


def test_l2_rescaling_is_the_papers() -> None:
    scores = {"a": np.array([3.0, 4.0, 0.0]), "b": np.array([300.0, 400.0, 0.0])}
    out = normalise("l2", scores)
    np.testing.assert_allclose(out["a"], [0.6, 0.8, 0.0])
    np.testing.assert_allclose(out["a"], out["b"], rtol=1e-12)
    np.testing.assert_allclose([np.sum(each**2) for each in out.values()], 1.0)


@pytest.mark.parametrize("name", sorted(NORMALISERS))
def test_normalisers_keep_order_and_nan_and_bear_dead_groups(name: str) -> None:
    scores = np.random.default_rng(0).normal(size=30)
    scores[3] = np.nan
    out = normalise(name, {"g": scores})["g"]
    assert np.isnan(out).tolist() == np.isnan(scores).tolist()
    np.testing.assert_array_equal(best_units(out, 12), best_units(scores, 12))
    for dead in (np.zeros(4), np.full(1, 2.0), np.full(2, np.nan)):
        assert normalise(name, {"g": dead})["g"].shape == dead.shape
    assert len(set(normalise(name, {"g": np.zeros(4)})["g"].tolist())) == 1


def test_rank_shares_places_between_equal_scores() -> None:
    np.testing.assert_allclose(normalise("rank", {"g": np.array([5.0, 1.0, 5.0, 9.0])})["g"], [0.625, 0.25, 0.625, 1.0])


def test_an_unknown_normaliser_is_named() -> None:
    with pytest.raises(ConfigError, match="no normaliser 'l22'"):
        normalise("l22", {})


def test_the_penalty_is_taken_from_normalised_scores() -> None:
    scores = normalise("l2", {"cheap": np.array([1.0, 1.0]), "dear": np.array([1000.0, 1000.0])})
    out = penalise(scores, {"cheap": 1.0, "dear": 100.0}, 1e-3)
    assert out["cheap"].min() > out["dear"].max(), "equal after the normaliser, so the dear group goes first"
    np.testing.assert_allclose(scores["dear"] - out["dear"], 0.1)


@pytest.mark.parametrize(
    ("units", "share", "gone"), [(10, 0.1, 1), (64, 0.1, 7), (10, 0.7, 7), (3, 1.0, 2), (1, 0.9, 0)]
)
def test_what_a_share_leaves_is_rounded_down_but_never_below_the_floor(units: int, share: float, gone: int) -> None:
    assert removed_units(units, share) == gone


def test_uniform_shares_fill_the_budget_and_never_break_it() -> None:
    for most in range(6, 61):
        counts = choices((10, 20, 30), most, floor=2).uniform()
        assert sum(counts.values()) <= most
        kept = np.array([counts["g0"] / 10, counts["g1"] / 20, counts["g2"] / 30])
        if most >= 12:
            assert np.ptp(kept) <= 0.15, "one unit of the smallest group, and rounding"
            assert sum(counts.values()) == most, "groups step down one by one"
    assert choices((10, 20, 30), 60).uniform() == {"g0": 10, "g1": 20, "g2": 30}


def test_uniform_shares_take_allowed_counts_only() -> None:
    counts = choices((32, 64), 50, floor=8, step=8).uniform()
    assert set(counts.values()) <= {8, 16, 24, 32, 40, 48}
    assert sum(counts.values()) <= 50


def test_a_global_ranking_takes_the_smallest_of_all() -> None:
    scores = {"g0": np.array([5.0, 1.0, 7.0]), "g1": np.array([2.0, 6.0, 3.0, 8.0])}
    assert global_removal(choices((3, 4), 4), scores).counts == {"g0": 2, "g1": 2}


def test_a_global_ranking_never_empties_a_group() -> None:
    """The pitfall of slimming's percentile and of jacobgil's loop: one group holds all the small scores."""
    rng = np.random.default_rng(1)
    for trial in range(50):
        units = rng.integers(1, 12, size=4).tolist()
        scores = {f"g{at}": rng.random(count) * 10.0**-at for at, count in enumerate(units)}
        most = int(rng.integers(4, sum(units) + 1))
        removal = global_removal(choices(units, most), scores)
        assert removal.last
        assert min(removal.counts.values()) >= 1, trial
        assert sum(removal.counts.values()) == most, "a budget on units is met exactly"


def test_rounds_end_where_one_removal_does() -> None:
    """Removing k at a time, with scores that stay, ends with the counts of removing all at once."""
    rng = np.random.default_rng(2)
    scores = {f"g{at}": rng.random(count) for at, count in enumerate((6, 9, 12))}
    wanted = global_removal(choices((6, 9, 12), 11), scores).counts
    standing, rounds = scores, 0
    while True:
        removal = global_removal(choices((6, 9, 12), 11), standing, most=4)
        standing = {name: each[best_units(each, removal.counts[name])] for name, each in standing.items()}
        rounds += 1
        if removal.last:
            break
    assert rounds == 4, "16 units in rounds of 4"
    assert {name: len(each) for name, each in standing.items()} == wanted


def test_the_last_round_rounds_down_to_allowed_counts() -> None:
    rng = np.random.default_rng(3)
    space = choices((32, 32), 30, floor=4, step=4)
    removal = global_removal(space, {"g0": rng.random(32), "g1": rng.random(32)})
    assert removal.last
    assert all(count % 4 == 0 for count in removal.counts.values())
    assert 22 <= sum(removal.counts.values()) <= 30
    early = global_removal(space, {"g0": rng.random(32), "g1": rng.random(32)}, most=5)
    assert (early.last, sum(early.counts.values())) == (False, 59)


def test_a_unit_without_a_score_goes_first_and_ties_keep_the_first() -> None:
    assert best_units(np.array([1.0, np.nan, 1.0, 1.0]), 2).tolist() == [0, 2]
    removal = global_removal(choices((3, 3), 5), {"g0": np.ones(3), "g1": np.array([9.0, np.nan, 9.0])})
    assert removal.counts == {"g0": 3, "g1": 2}


def test_apoz_threshold_is_one_deviation_above_the_mean() -> None:
    """Of APoZ 0.9, 0.5, 0.5, 0.5 the mean is 0.6 and the deviation 0.173, so only the first exceeds 0.773."""
    zeros = {"a": np.array([0.9, 0.5, 0.5, 0.5]), "b": np.array([0.2, 0.2, 0.2])}
    standardised = normalise("standard", {name: 1 - each for name, each in zeros.items()})
    above = {name: each > each.mean() + each.std() for name, each in zeros.items()}
    assert beyond(standardised) == sum(each.sum() for each in above.values()) == 1
    space = Choices({"a": [1, 2, 3, 4], "b": [1, 2, 3]}, lambda counts: sum(counts) <= 3)
    removal = global_removal(space, standardised, most=beyond(standardised))
    assert (removal.counts, removal.last) == ({"a": 3, "b": 3}, False)


def test_shares_of_each_group_by_hand() -> None:
    assert choices((64, 64, 7), 0).by_share({"g0": 0.5, "g2": 0.5}) == {"g0": 32, "g1": 64, "g2": 3}
