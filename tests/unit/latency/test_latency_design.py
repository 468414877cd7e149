"""Every layer must be seen at all combinations of its widths' levels."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from autoprune.latency.design import colours, designed_widths


@pytest.mark.parametrize("levels", [2, 3, 5, 7])
def test_neighbours_meet_at_every_pair_of_levels_exactly_once(levels: int) -> None:
    allowed = [tuple(range(1, levels + 1))] * 6
    pairs = [(0, 1), (1, 2), (2, 3), (0, 3), (3, 4), (1, 5)]
    widths = designed_widths(allowed, pairs, levels=levels)[2:]
    assert len(widths) == levels**2
    for one, other in pairs:
        met = sorted(map(tuple, widths[:, [one, other]].tolist()))
        assert met == sorted(itertools.product(range(1, levels + 1), repeat=2))


def test_full_and_smallest_network_come_first_and_all_widths_are_allowed() -> None:
    allowed = [(4, 8, 12, 16), (8, 32), (5,), tuple(range(16, 65))]
    widths = designed_widths(allowed, [(0, 1), (1, 3)], levels=7)
    assert widths[0].tolist() == [16, 32, 5, 64]
    assert widths[1].tolist() == [4, 8, 5, 16]
    assert len(widths) == 2 + 7**2
    for column, choices in enumerate(allowed):
        assert set(widths[:, column].tolist()) <= set(choices)
    assert len(set(widths[:, 3].tolist())) > 20  # widths between the levels are tried as well
    assert {16, 64} <= set(widths[2:, 3].tolist())


def test_levels_are_a_prime_no_larger_than_asked_or_needed() -> None:
    assert len(designed_widths([tuple(range(1, 40))], [], levels=6)) == 2 + 5**2
    assert len(designed_widths([(1, 2, 3)], [], levels=13)) == 2 + 3**2


def test_same_seed_same_design() -> None:
    allowed = [tuple(range(1, 30)), tuple(range(1, 20))]
    one, other = (designed_widths(allowed, [(0, 1)], levels=5, seed=3) for _ in range(2))
    assert np.array_equal(one, other)
    assert not np.array_equal(one, designed_widths(allowed, [(0, 1)], levels=5, seed=4))


def test_colours_differ_in_pairs_and_degrade_evenly_without_enough() -> None:
    pairs = list(itertools.combinations(range(4), 2))
    assert sorted(colours(4, pairs, 4)) == [0, 1, 2, 3]
    assert sorted(colours(4, pairs, 2)) == [0, 0, 1, 1]
