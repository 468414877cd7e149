"""Seconds of a stage of convolutions by its channel count, and the multiple that widths should be rounded to."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping, Sequence

import torch
from torch import nn

from autoprune.analysis.speed import WidthCurve
from autoprune.evaluators.networks import Network, Networks

__all__ = ["RULE", "measure_widths", "suggest_multiple"]

_LAYERS = "four 3x3 convolutions with BatchNorm and ReLU on 16 images of 32x32"
RULE = (
    "doubled from 4 for as long as the widths that doubling drops save less than half of the time that their "
    "multiply-accumulates promise (median over these widths)"
)
_DEPTH, _IMAGES, _SIZE = 4, 16, 32
_LEAST_SAVED = 0.5


def measure_widths(
    channels: Sequence[int] = range(4, 65, 4), *, rounds: int = 7, clock: Callable[[], float] = time.thread_time
) -> WidthCurve:
    """The least seconds of ``rounds``, taken in turns, on this thread and by the way that evaluation runs networks."""
    with torch.inference_mode():
        stages = {width: _stage(width) for width in channels}
        best = dict.fromkeys(channels, float("inf"))
        for _ in range(rounds + 1):  # the first one also warms up; it is never the least
            for width, (network, images) in stages.items():
                began = clock()
                network(images)
                best[width] = min(best[width], clock() - began)
    return WidthCurve(tuple(channels), tuple(best.values()), suggest_multiple(best), _LAYERS, RULE)


def suggest_multiple(seconds: Mapping[int, float]) -> int:
    """The multiple for widths, from the seconds of each width (multiples of 4 from 4 on); see ``RULE``.

    >>> smooth = {width: width**2 * 1e-6 for width in range(4, 65, 4)}
    >>> steps_of_8 = {width: (-(-width // 8) * 8) ** 2 * 1e-6 for width in range(4, 65, 4)}
    >>> suggest_multiple(smooth), suggest_multiple(steps_of_8)
    (4, 8)
    """
    multiple = 4
    while (saved := _saved(seconds, multiple)) and statistics.median(saved) < _LEAST_SAVED:
        multiple *= 2
    return multiple


def _saved(seconds: Mapping[int, float], multiple: int) -> list[float]:
    """For each width between two neighbours of the coarser grid: the share of its promise that going down to it saves.

    Promised is, of the time between the neighbours, the share of the multiply-accumulates between them.
    """
    shares = []
    for width in range(3 * multiple, max(seconds), 2 * multiple):
        above, below = width + multiple, width - multiple
        if above in seconds and seconds[above] > seconds[below]:
            promised = (above**2 - width**2) / (above**2 - below**2)
            saved = (seconds[above] - seconds[width]) / (seconds[above] - seconds[below])
            shares.append(saved / promised)
    return shares


def _stage(width: int) -> tuple[Network, torch.Tensor]:
    torch.manual_seed(width)
    layers: list[nn.Module] = []
    for _ in range(_DEPTH):
        layers += [nn.Conv2d(width, width, 3, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU()]
    stage = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten()).eval()
    stage = stage.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    images = torch.randn(_IMAGES, width, _SIZE, _SIZE).contiguous(memory_format=torch.channels_last)
    labels = torch.zeros(_IMAGES, dtype=torch.int64)
    network = Networks(stage, lambda: stage, images, labels, _IMAGES).network(stage)
    network.fold()
    return network, images
