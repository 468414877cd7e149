"""BatchNorm statistics of a sliced network, re-estimated on a few batches.

The statistics that a candidate inherits belong to the full network. The plain average over the batches (``momentum =
None``: running = sum_t x_t / T) replaces them, as Li et al., "EagleEye" (ECCV 2020), section 3.3, found necessary for
comparing candidates.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

__all__ = ["Batch", "calibrate"]

Batch = Tensor | tuple[Tensor, ...]
"""The input of one call, or the arguments of one where a model takes several."""


def calibrate(model: nn.Module, batches: Iterable[Batch]) -> None:
    """Replace the statistics of every tracking BatchNorm by the cumulative average over ``batches``, in place.

    Everything else runs in eval mode (no dropout); modes and momenta are as before afterwards. Without batches, or
    without a tracking BatchNorm (the batches are then not read), nothing changes.
    """
    norms = [
        module
        for module in model.modules()
        if isinstance(module, _BatchNorm) and module.track_running_stats and module.running_mean is not None
    ]
    if not norms:
        return
    training = {module: module.training for module in model.modules()}
    momenta = [norm.momentum for norm in norms]
    try:
        model.eval()
        _run(model, norms, batches)
    finally:
        for module, mode in training.items():
            module.training = mode
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum


def _run(model: nn.Module, norms: list[_BatchNorm], batches: Iterable[Batch]) -> None:
    started = False
    with torch.no_grad():
        for batch in batches:
            if not started:
                for norm in norms:
                    norm.reset_running_stats()
                    norm.momentum = None
                    norm.train()
                started = True
            model(*batch) if isinstance(batch, tuple) else model(batch)
