"""Weight inheritance whose readers of cut channels are fitted anew, so that they give what they gave before."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from autoprune.evaluators.inherit import InheritSource
from autoprune.protocols import WeightSource
from autoprune.pruning import ranking as ranks
from autoprune.pruning.reconstruction import Material, make_reconstructor
from autoprune.types import Candidate, ChannelGroup

__all__ = ["ReconstructingSource", "timed_build"]


class ReconstructingSource:
    """Slices and reconstructs. At full width the base model's weights stay as they are, to the bit.

    ``images`` are those of the material as the model reads them, (N, C, H, W) float32; None where it has moments.
    """

    def __init__(
        self,
        model: nn.Module,
        groups: Sequence[ChannelGroup],
        ranking: Mapping[str, np.ndarray],
        material: Material,
        images: Tensor | None,
    ) -> None:
        self._groups = {group.name: group for group in groups}
        self._ranking = ranking
        self._slices = InheritSource(model, groups, ranking)
        shown = None if images is None else images.contiguous(memory_format=torch.channels_last)
        self._reconstruct = make_reconstructor(model, groups, material, shown)
        self.calibrates = material.calibrates
        """Whether what is built has BatchNorm statistics of its own already."""

    def build(self, candidate: Candidate) -> nn.Module:
        return self.timed_build(candidate)[0]

    def timed_build(self, candidate: Candidate) -> tuple[nn.Module, dict[str, float]]:
        """What ``build`` gives, and the seconds of its phases."""
        started = time.perf_counter()
        module = self._slices.build(candidate)
        sliced = time.perf_counter()
        keep = ranks.keep(self._ranking, tuple(self._groups.values()), candidate)
        if any(len(units) < self._groups[name].units for name, units in keep.items()):
            self._reconstruct(module, keep)
        return module, {"slice": sliced - started, "reconstruct": time.perf_counter() - sliced}


def timed_build(source: WeightSource, candidate: Candidate) -> tuple[nn.Module, dict[str, float]]:
    """The candidate's module, and the seconds by phase: ``slice``, and ``reconstruct`` where it is."""
    if isinstance(source, ReconstructingSource):
        return source.timed_build(candidate)
    started = time.perf_counter()
    module = source.build(candidate)
    return module, {"slice": time.perf_counter() - started}
