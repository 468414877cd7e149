"""Timing single layers at neighbouring widths, to see the steps that vector units make."""

from __future__ import annotations

import copy
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn

from autoprune.latency.measure import Run, runner, typical_ms
from autoprune.latency.settings import LatencySettings
from autoprune.latency.staircase import Staircase
from autoprune.pruning.layers import resize

__all__ = ["sweep"]

_WIDTHS = 17
_FEWEST = 8
_BOTH = "in and out"
_ROUNDS = 5
_SECONDS = 0.002


def sweep(model: nn.Module, images: Tensor, names: list[str], settings: LatencySettings) -> tuple[Staircase, ...]:
    """Staircases of convolutions and linear layers of ``model``, each alone on what it reads; other layers are skipped.

    ``images`` are in the dtype and layout that ``settings`` say, as the model is; call it in inference mode.
    """
    inputs = _inputs(model, images, names)
    found = []
    for name in names:
        layer = model.get_submodule(name)
        if name in inputs and type(layer) in (nn.Conv2d, nn.Linear):
            found += _staircases(name, layer, inputs[name], settings)
    return tuple(found)


def _inputs(model: nn.Module, images: Tensor, names: list[str]) -> dict[str, Tensor]:
    seen: dict[str, Tensor] = {}

    def noting(name: str) -> Callable[..., None]:
        return lambda module, args: seen.update({name: args[0]}) if args else None

    hooks = [model.get_submodule(name).register_forward_pre_hook(noting(name)) for name in names]
    try:
        model(images)
    finally:
        for hook in hooks:
            hook.remove()
    return seen


def _staircases(name: str, layer: nn.Module, example: Tensor, settings: LatencySettings) -> list[Staircase]:
    out, into = layer.get_parameter("weight").shape[:2]
    groups = getattr(layer, "groups", 1)
    size = "x".join(map(str, layer.get_parameter("weight").shape[2:]))
    kind = "linear" if not size else f"{'depthwise' if groups > 1 else 'conv'} {size}"
    cases = {"in": int(into), "out": int(out)}
    if groups > 1:
        if into != 1 or groups != out:
            return []
        cases = {_BOTH: int(out)}
    found = []
    for side, full in cases.items():
        widths = range(max(1, full - _WIDTHS + 1), full + 1)
        if len(widths) >= _FEWEST:
            runs = [_run(layer, example, side, width, settings) for width in widths]
            found.append(Staircase(kind, name, side, tuple(widths), _times(runs)))
    return found


def _times(runs: list[Callable[[], Run]]) -> tuple[float, ...]:
    """The least over interleaved rounds of each one's median."""
    best = np.full(len(runs), np.inf)
    for turn in range(_ROUNDS):
        for at in np.random.default_rng(turn).permutation(len(runs)):
            best[at] = min(best[at], typical_ms(runs[at], repeats=3, min_seconds=_SECONDS))
    return tuple(round(float(value), 6) for value in best)


def _run(layer: nn.Module, example: Tensor, side: str, width: int, settings: LatencySettings) -> Callable[[], Run]:
    """The layer with one width cut, ready to be timed on an input that fits."""
    cut = copy.deepcopy(layer)
    if side != "out":
        dim = -1 if example.ndim != 4 else 1
        example = example.narrow(dim, 0, width).contiguous(memory_format=_layout(example, settings))
    weight = layer.get_parameter("weight").narrow(1 if side == "in" else 0, 0, width)
    cut.register_parameter("weight", nn.Parameter(weight.clone(memory_format=_layout(weight, settings)), False))
    bias = layer.bias
    if side != "in" and isinstance(bias, Tensor):
        cut.register_parameter("bias", nn.Parameter(bias[:width].clone(), False))
    resize(cut)
    return runner(cut, example, settings)


def _layout(tensor: Tensor, settings: LatencySettings) -> torch.memory_format:
    return torch.channels_last if settings.channels_last and tensor.ndim == 4 else torch.contiguous_format
