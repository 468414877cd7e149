"""New weights for the layers that read cut channels, so that they give what they gave before.

:func:`find_consumers` says which layers, :class:`Material` is what a reconstruction is made from, as plain data that
crosses process borders, and :func:`make_reconstructor` makes one of two kinds: ``once`` solves from moments of the base
model (milliseconds a candidate), ``sequential`` runs images through the candidate and fits layer after layer.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from torch import Tensor, nn

from autoprune.pruning.reconstruction.consumers import find_consumers
from autoprune.pruning.reconstruction.moments import LayerMoments, gather_moments
from autoprune.pruning.reconstruction.once import OnceReconstructor
from autoprune.pruning.reconstruction.sequential import SequentialReconstructor
from autoprune.types import ChannelGroup

__all__ = [
    "LayerMoments",
    "Material",
    "OnceReconstructor",
    "Reconstructor",
    "SequentialReconstructor",
    "find_consumers",
    "gather_moments",
    "make_reconstructor",
]


class Reconstructor(Protocol):
    def __call__(self, sliced: nn.Module, keep: Mapping[str, np.ndarray]) -> None:
        """Change weights of ``sliced``, the base model cut by ``keep``, in place. Safe to use from several threads."""
        ...


@dataclass(frozen=True, eq=False)
class Material:
    """How candidates are reconstructed, and from what."""

    level: str
    """``bias``, ``channel`` or ``full``."""
    ridge: float
    positions: int
    """Places of each image that are looked at."""
    recalibrated: bool
    """Whether BatchNorm statistics are re-estimated for candidates."""
    moments: Mapping[str, LayerMoments] | None = None
    """For ``once``."""
    images: np.ndarray | None = None
    """For ``sequential``: uint8 (N, C, H, W)."""

    @property
    def calibrates(self) -> bool:
        """A reconstructed candidate has BatchNorm statistics of its own already."""
        return self.recalibrated and self.moments is None


def make_reconstructor(
    model: nn.Module, groups: Sequence[ChannelGroup], material: Material, images: Tensor | None
) -> Reconstructor:
    """For slices of ``model`` (in eval mode, not changed); ``images`` are the material's as the model reads them."""
    if material.moments is not None:
        return OnceReconstructor(
            model,
            groups,
            material.moments,
            level=material.level,
            ridge=material.ridge,
            recalibrated=material.recalibrated,
        )
    if images is None:
        raise ValueError("a sequential reconstruction needs images")
    return SequentialReconstructor(
        model,
        groups,
        images,
        level=material.level,
        ridge=material.ridge,
        positions=material.positions,
        recalibrated=material.recalibrated,
    )
