"""Timing single layers at neighbouring widths, to see the steps that vector units make."""

from __future__ import annotations

import copy
from collections.abc import Callable, Collection, Mapping

import numpy as np
import torch
from torch import Tensor, nn

from autoprune.latency.measure import Run, runner, typical_ms
from autoprune.latency.settings import LatencySettings
from autoprune.latency.staircase import Staircase
from autoprune.pruning.layers import resize

__all__ = ["sweep", "sweep_widths"]

_EVERY = 17
_RANGE = 73
_COARSE = 8
_FEWEST = 8
_BOTH = "in and out"
_ROUNDS = 3
_SECONDS = 0.001


def sweep(
    model: nn.Module, inputs: tuple[Tensor, ...], layers: Mapping[str, Collection[str]], settings: LatencySettings
) -> tuple[Staircase, ...]:
    """Staircases of convolutions and linear layers of ``model``, each alone on what it reads; other layers are skipped.

    ``layers``: name -> the sides to vary, ``in`` and ``out``. ``inputs`` are in the dtype and layout that ``settings``
    say, as the model is; call it in inference mode.
    """
    read = _inputs(model, inputs, list(layers))
    found = []
    for name, sides in layers.items():
        layer = model.get_submodule(name)
        if name in read and type(layer) in (nn.Conv2d, nn.Linear):
            found += _staircases(name, layer, read[name], sides, settings)
    return tuple(found)


def sweep_widths(full: int) -> list[int]:
    """Every width of the last 17, and below them, over the last 73, the multiples of 8: ascending.

    >>> sweep_widths(64)[:7], sweep_widths(12)[0]
    ([8, 16, 24, 32, 40, 48, 49], 1)
    """
    dense = range(max(1, full - _EVERY + 1), full + 1)
    coarse = range(max(1, full - _RANGE + 1), dense[0])
    return [*(width for width in coarse if width % _COARSE == 0), *dense]


def _inputs(model: nn.Module, inputs: tuple[Tensor, ...], names: list[str]) -> dict[str, Tensor]:
    seen: dict[str, Tensor] = {}

    def noting(name: str) -> Callable[..., None]:
        return lambda module, args: seen.update({name: args[0]}) if args else None

    hooks = [model.get_submodule(name).register_forward_pre_hook(noting(name)) for name in names]
    try:
        model(*inputs)
    finally:
        for hook in hooks:
            hook.remove()
    return seen


def _staircases(
    name: str, layer: nn.Module, example: Tensor, sides: Collection[str], settings: LatencySettings
) -> list[Staircase]:
    out, into = layer.get_parameter("weight").shape[:2]
    groups = getattr(layer, "groups", 1)
    size = "x".join(map(str, layer.get_parameter("weight").shape[2:]))
    kind = "linear" if not size else f"{'depthwise' if groups > 1 else 'conv'} {size}"
    cases = {side: int(full) for side, full in (("in", into), ("out", out)) if side in sides}
    if groups > 1:
        if into != 1 or groups != out:
            return []
        cases = {_BOTH: int(out)}
    found = []
    for side, full in cases.items():
        widths = sweep_widths(full)
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
    return runner(cut, (example,), settings)


def _layout(tensor: Tensor, settings: LatencySettings) -> torch.memory_format:
    return torch.channels_last if settings.channels_last and tensor.ndim == 4 else torch.contiguous_format
