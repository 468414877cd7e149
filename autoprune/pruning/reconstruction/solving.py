"""The least-squares problems themselves, on second moments. All float64; g groups of a grouped layer side by side.

A layer computes y = W x + b, x the patch that its filters see. After some of x are cut, new weights V on those that
stay are to give the same y. With C the covariance of x and k, c the kept and the cut positions, the normal equations of
min_V E|W x + b - V x_k - b'|^2 are

    (V - W_k) (C_kk + ridge * diag E[x_k^2]) = C_rk,        b' = b + E[y] - V E[x_k],

where r = y - b - W_k x_k is what is missing (W_c x_c, so C_rk = W_c C_ck, when x are the base model's own inputs). The
ridge pulls towards the inherited weights, not towards zero: where nothing is missing, or what is does not vary with
what stays, V = W_k exactly. It is measured by the mean square, not by the variance: an input that hardly varies about a
large mean would else get a large weight, and a small shift of it would be a large error. Without a place for b' (no
bias, no BatchNorm behind), C is the second moment about zero.
"""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["fit", "fit_channels", "fit_weights", "ridge_solve"]

_FLOOR = 0.1
"""Of the mean over all inputs: the least that an input's own square counts as in the ridge. Rarely active inputs would
else get weights that explode once they are active more often, as behind layers that were cut."""


def ridge_solve(gram: Tensor, right: Tensor, ridge: float, squares: Tensor | None = None) -> Tensor:
    """Solves (gram + ridge * diag(squares)) X = right; gram (g, p, p) positive semidefinite, right (g, p, n), squares
    (g, p), None: the diagonal of gram.

    With ``ridge`` 0 a singular system gets its solution of least norm. Values that are not finite give zeros.
    """
    if not bool(torch.isfinite(gram).all() and torch.isfinite(right).all()):
        return torch.zeros_like(right)
    diagonal = gram.diagonal(dim1=-2, dim2=-1) if squares is None else squares
    if ridge > 0:
        floor = _FLOOR * diagonal.mean(-1, keepdim=True)
        damped = gram + torch.diag_embed(ridge * torch.maximum(diagonal, floor))
        factor, info = torch.linalg.cholesky_ex(damped)
        if not bool(info.any()):
            return torch.cholesky_solve(right, factor)
        gram = damped
    return torch.linalg.pinv(gram, hermitian=True) @ right


def fit_weights(inherited: Tensor, gram: Tensor, cross: Tensor, ridge: float, mean: Tensor | None = None) -> Tensor:
    """All weights anew (He, Zhang, Sun, "Channel Pruning for Accelerating Very Deep Neural Networks", ICCV 2017,
    equation 5): inherited weights (g, n, q), gram C_kk (g, q, q), cross C_rk (g, n, q) -> (g, n, q). ``mean`` E[x_k]
    (g, q) where C is about it; None: C is about zero."""
    squares = None if mean is None else gram.diagonal(dim1=-2, dim2=-1) + mean.square()
    return inherited + ridge_solve(gram, cross.mT, ridge, squares).mT


def fit_channels(
    inherited: Tensor, gram: Tensor, cross: Tensor, taps: int, ridge: float, mean: Tensor | None = None
) -> Tensor:
    """One factor for each input channel (Luo, Wu, Lin, "ThiNet", ICCV 2017, equation 7), which its ``taps`` weights in
    a row have in common, in all filters of a group: shapes as in :func:`fit_weights`.

    With W the inherited weights and a, b running over the taps of channels i and j, the contributions of two channels
    to the outputs have the second moment A_ij = sum_ab (W^T W * C_kk)_ab, and channel i's with what is missing is
    h_i = sum_a (W * C_rk)_a. The factors are 1 + d with A d = h.
    """
    groups, _, size = inherited.shape
    channels = size // taps
    between = ((inherited.mT @ inherited) * gram).view(groups, channels, taps, channels, taps).sum((2, 4))
    squares = None
    if mean is not None:
        means = (inherited * mean[:, None, :]).view(groups, -1, channels, taps).sum(3)
        squares = between.diagonal(dim1=-2, dim2=-1) + means.square().sum(1)
    missing = (inherited * cross).sum(1).view(groups, channels, taps).sum(2, keepdim=True)
    factors = 1 + ridge_solve(between, missing, ridge, squares)
    return inherited * factors.repeat_interleave(taps, dim=1).mT


def fit(
    level: str, inherited: Tensor, gram: Tensor, cross: Tensor, taps: int, ridge: float, mean: Tensor | None
) -> Tensor:
    """By the name of the level, ``channel`` or ``full``."""
    if level == "full":
        return fit_weights(inherited, gram, cross, ridge, mean)
    return fit_channels(inherited, gram, cross, taps, ridge, mean)
