"""The layers that read cut channels, fitted so that they give what they gave before."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from autoprune.procedures.network import Standing
from autoprune.procedures.phases import Layers
from autoprune.procedures.setting import Setting
from autoprune.pruning.reconstruction import SequentialReconstructor
from autoprune.types import ChannelGroup

__all__ = ["Refit"]

_RIDGE = 1e-2
"""Pull towards the weights as they are, relative to the mean square of each input: as in a search's evaluator."""
_PLACES = 10


class Refit:
    """Fits, after each cut of one group, what the phase asks for."""

    def __init__(self, phase: Layers, setting: Setting) -> None:
        self._phase, self._setting = phase, setting
        self._original: SequentialReconstructor | None = None

    def __call__(self, before: Standing, group: ChannelGroup, after: Standing, keep: Mapping[str, np.ndarray]) -> None:
        """Change weights and BatchNorm statistics of ``after`` in place; ``keep`` is the cut that made it of
        ``before``."""
        if self._phase.target == "current":
            self._fitter(before, (group,))(after.module, keep)
            return
        if self._original is None:
            self._original = self._fitter(Standing.begin(self._setting.base, self._setting.groups), None)
        self._original(after.module, after.kept)

    def _fitter(self, of: Standing, groups: tuple[ChannelGroup, ...] | None) -> SequentialReconstructor:
        setting = self._setting
        images = setting.dataset.train.take(self._phase.images, setting.seed)
        device = next(of.module.parameters()).device
        return SequentialReconstructor(
            of.module,
            of.groups if groups is None else groups,
            setting.normalised(images, device),
            level=self._phase.refit,
            ridge=_RIDGE,
            positions=_PLACES,
            recalibrated=len(setting.calibration) > 0,
        )
