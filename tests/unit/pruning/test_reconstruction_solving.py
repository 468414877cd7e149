"""Least squares on second moments against numpy's on the rows themselves, and the identities of ThiNet and He et al."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from autoprune.pruning.reconstruction.solving import fit_channels, fit_weights, ridge_solve

ROWS, FILTERS = 200, 3


def problem(seed: int, channels: int, taps: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """Rows (ROWS, channels * taps) with correlated columns, and filters (FILTERS, channels * taps)."""
    random = np.random.default_rng(seed)
    size = channels * taps
    return random.normal(size=(ROWS, size)) @ random.normal(size=(size, size)), random.normal(size=(FILTERS, size))


def moments(rows: np.ndarray, missing: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
    gram, cross = rows.T @ rows / len(rows), missing.T @ rows / len(rows)
    return torch.tensor(gram)[None], torch.tensor(cross)[None]


def fitted(rows: np.ndarray, weight: np.ndarray, kept: np.ndarray, ridge: float = 0.0) -> np.ndarray:
    missing = rows @ weight.T - rows[:, kept] @ weight[:, kept].T
    return fit_weights(torch.tensor(weight[:, kept])[None], *moments(rows[:, kept], missing), ridge)[0].numpy()


def scaled(rows: np.ndarray, weight: np.ndarray, stay: list[int], taps: int, ridge: float = 0.0) -> np.ndarray:
    kept = (np.array(stay)[:, None] * taps + np.arange(taps)).ravel()
    missing = rows @ weight.T - rows[:, kept] @ weight[:, kept].T
    return fit_channels(torch.tensor(weight[:, kept])[None], *moments(rows[:, kept], missing), taps, ridge)[0].numpy()


def contributions(rows: np.ndarray, weight: np.ndarray, stay: list[int], taps: int) -> np.ndarray:
    """(rows * filters, channels that stay)."""
    parts = [rows[:, j * taps : (j + 1) * taps] @ weight[:, j * taps : (j + 1) * taps].T for j in stay]
    return np.stack([part.ravel() for part in parts], 1)


def test_all_weights_are_those_of_numpys_least_squares() -> None:
    rows, weight = problem(0, 8)
    kept = np.array([0, 2, 3, 6])
    expected = np.linalg.lstsq(rows[:, kept], rows @ weight.T, rcond=None)[0].T
    np.testing.assert_allclose(fitted(rows, weight, kept), expected, atol=1e-10)


def test_what_is_left_is_orthogonal_to_the_inputs() -> None:
    rows, weight = problem(1, 10)
    kept = np.arange(0, 10, 2)
    left = rows @ weight.T - rows[:, kept] @ fitted(rows, weight, kept).T
    assert np.abs(left.T @ rows[:, kept]).max() < 1e-9 * np.abs(rows).sum()


def test_a_copy_of_a_channel_is_replaced_exactly() -> None:
    rows, weight = problem(2, 6)
    rows[:, 5] = 2 * rows[:, 1]
    new = fitted(rows, weight, np.arange(5))
    np.testing.assert_allclose(rows[:, :5] @ new.T, rows @ weight.T, atol=1e-9)


@pytest.mark.parametrize("ridge", [0.0, 0.01])
def test_nothing_missing_changes_nothing(ridge: float) -> None:
    rows, weight = problem(3, 6)
    np.testing.assert_array_equal(fitted(rows, weight, np.arange(6), ridge), weight)
    np.testing.assert_array_equal(scaled(rows, weight, [0, 1, 2], 2, ridge), weight)


def test_factors_are_those_of_least_squares_over_contributions() -> None:
    rows, weight = problem(4, 5, taps=3)
    stay = [0, 1, 4]
    wanted = (rows @ weight.T).ravel()
    factors = np.linalg.lstsq(contributions(rows, weight, stay, 3), wanted, rcond=None)[0]
    kept = np.concatenate([np.arange(j * 3, j * 3 + 3) for j in stay])
    np.testing.assert_allclose(scaled(rows, weight, stay, 3), weight[:, kept] * np.repeat(factors, 3), atol=1e-9)


def test_more_freedom_never_means_more_error() -> None:
    for seed in range(20):
        rows, weight = problem(seed, 6, taps=2)
        kept = np.arange(4, 10)
        errors = [
            np.square(rows @ weight.T - rows[:, kept] @ new.T).sum()
            for new in (weight[:, kept], scaled(rows, weight, [2, 3, 4], 2, 0.01), fitted(rows, weight, kept, 0.01))
        ]
        assert errors[0] >= errors[1] * (1 - 1e-12)
        assert errors[1] >= errors[2] * (1 - 1e-3)  # two different ridges
        exact = [scaled(rows, weight, [2, 3, 4], 2), fitted(rows, weight, kept)]
        left = [np.square(rows @ weight.T - rows[:, kept] @ new.T).sum() for new in exact]
        assert errors[0] >= left[0] >= left[1] - 1e-9


def test_orthogonal_contributions_keep_their_factors() -> None:
    """ThiNet: with orthogonal columns every factor is 1."""
    random = np.random.default_rng(5)
    rows, _ = np.linalg.qr(random.normal(size=(ROWS, 6)))
    weight = random.normal(size=(FILTERS, 6))
    np.testing.assert_allclose(scaled(rows, weight, [0, 2, 5], 1), weight[:, [0, 2, 5]], atol=1e-12)


@pytest.mark.parametrize("ridge", [0.0, 1e-8, 0.01])
def test_dead_and_equal_inputs_are_no_obstacle(ridge: float) -> None:
    rows, weight = problem(6, 6)
    rows[:, 0] = 0
    rows[:, 1] = rows[:, 2]
    kept = np.arange(4)
    new = fitted(rows, weight, kept, ridge)
    assert np.isfinite(new).all()
    np.testing.assert_allclose(new[:, 0], weight[:, 0], atol=1e-12)
    before, after = (np.square(rows @ weight.T - rows[:, kept] @ w.T).sum() for w in (weight[:, kept], new))
    assert after < before


def test_nothing_but_dead_inputs() -> None:
    assert not ridge_solve(torch.zeros(1, 3, 3).double(), torch.zeros(1, 3, 2).double(), 0.01).any()


def test_fewer_rows_than_unknowns() -> None:
    random = np.random.default_rng(7)
    rows, weight = random.normal(size=(4, 9)), random.normal(size=(FILTERS, 9))
    new = fitted(rows, weight, np.arange(6), 1e-6)
    np.testing.assert_allclose(rows[:, :6] @ new.T, rows @ weight.T, atol=1e-3)


def test_moments_that_are_not_finite_change_nothing() -> None:
    gram = torch.full((1, 2, 2), torch.nan, dtype=torch.float64)
    inherited = torch.ones(1, 3, 2, dtype=torch.float64)
    assert torch.equal(fit_weights(inherited, gram, torch.ones(1, 3, 2).double(), 0.01), inherited)


def test_groups_are_problems_of_their_own() -> None:
    parts = [problem(seed, 4) for seed in (8, 9)]
    kept = np.array([0, 3])
    alone = [fitted(rows, weight, kept, 0.01) for rows, weight in parts]
    made = []
    for rows, weight in parts:
        missing = rows @ weight.T - rows[:, kept] @ weight[:, kept].T
        made.append((torch.tensor(weight[:, kept])[None], *moments(rows[:, kept], missing)))
    together = fit_weights(*(torch.cat(items) for items in zip(*made, strict=True)), 0.01)
    np.testing.assert_allclose(together.numpy(), np.stack(alone), atol=1e-12)
