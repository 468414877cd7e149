"""Against independent definitions."""

from __future__ import annotations

import numpy as np
import pytest

from autoprune.controllers.evolution_survival import contributions, crowding, fronts, order


def dominated_area(points: np.ndarray, corner: float) -> float:
    """Of points in [0, corner)^2 against (corner, corner), by counting cells of a grid of whole numbers."""
    grid = np.stack(np.meshgrid(np.arange(corner), np.arange(corner)), axis=-1).reshape(-1, 1, 2)
    within = np.asarray((points[None] <= grid).all(axis=2))
    return float(within.any(axis=1).sum())


def test_fronts_are_peeled_off_one_by_one() -> None:
    losses = np.random.default_rng(0).integers(0, 6, (40, 3)).astype(float)
    rank, left = fronts(losses), list(range(40))
    for level in range(int(rank.max()) + 1):
        best = [
            a for a in left if not any((losses[b] <= losses[a]).all() and (losses[b] < losses[a]).any() for b in left)
        ]
        assert best == np.flatnonzero(rank == level).tolist()
        left = [a for a in left if a not in best]
    assert not left


def test_contribution_is_the_area_lost_without_the_point() -> None:
    rng = np.random.default_rng(1)
    x, y = np.sort(rng.choice(30, 9, replace=False)), np.sort(rng.choice(30, 9, replace=False))[::-1]
    front = rng.permutation(np.stack([x, y], axis=1).astype(float))
    whole = dominated_area(front, 30)
    lost = [whole - dominated_area(np.delete(front, at, axis=0), 30) for at in range(9)]
    inner = np.isfinite(contributions(front))
    assert inner.sum() == 7
    assert contributions(front)[inner] == pytest.approx(np.array(lost)[inner])


def test_crowding_of_equal_points_and_single_points() -> None:
    assert np.isinf(crowding(np.array([[1.0, 2.0]]))).all()
    assert np.isinf(crowding(np.ones((3, 2)))[[0, 2]]).all()


@pytest.mark.parametrize("hypervolume", [False, True])
def test_order_puts_the_front_first_and_its_crowd_last(hypervolume: bool) -> None:
    front = np.array([[0.0, 10.0], [4.0, 5.0], [5.0, 4.9], [10.0, 0.0]])
    losses = np.vstack([[[20.0, 20.0]], front])
    by = order(losses, hypervolume=hypervolume)
    assert by[-1] == 0
    assert set(by[:2]) == {1, 4}


def test_order_with_one_objective_is_that_of_the_losses() -> None:
    losses = np.random.default_rng(2).normal(size=(20, 1))
    assert (losses[order(losses), 0] == np.sort(losses[:, 0])).all()


def test_order_with_three_objectives() -> None:
    losses = np.random.default_rng(3).normal(size=(20, 3))
    ranks = fronts(losses)[order(losses, hypervolume=True)]
    assert (np.diff(ranks) >= 0).all()
