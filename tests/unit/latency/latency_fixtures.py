"""A small network whose latency is a known function of its widths."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from autoprune.latency.design import designed_widths
from autoprune.latency.layout import Axis, Segment
from autoprune.latency.settings import LatencySettings
from autoprune.latency.staircase import Staircase
from autoprune.latency.table import LatencyTable, Timed, architecture_digest, group_shapes
from autoprune.space.space import SearchSpace
from autoprune.testing.toy import toy_space

CHANNELS = (16, 32, 64)


def layer_ms(into: np.ndarray, out: np.ndarray) -> np.ndarray:
    """Whole vectors of 8 channels are paid for."""
    vectors = -(-np.asarray(out) // 8) * 8
    return 0.02 + 1e-4 * np.asarray(into) * vectors


def between_ms(channels: np.ndarray) -> np.ndarray:
    return 0.005 + 1e-3 * np.asarray(channels)


def true_ms(widths: np.ndarray) -> np.ndarray:
    """Widths (N, 3) -> what a stopwatch would say: (N,)."""
    a, b, c = np.asarray(widths).T
    layers = layer_ms(np.full(len(a), 3), a) + layer_ms(a, b) + layer_ms(b, c) + layer_ms(c, np.full(len(a), 10))
    return np.asarray(layers + between_ms(a) + between_ms(b) + between_ms(c))


def make_space() -> SearchSpace:
    return toy_space(CHANNELS)


def make_table(space: SearchSpace | None = None) -> LatencyTable:
    space = space or make_space()
    names = space.names
    sides = [Axis(3), *(Axis(0, {name: 1}) for name in names), Axis(10)]
    layers = [Segment(f"layer{at}", f"layer of stage {at}", sides[at], sides[at + 1]) for at in range(4)]
    between = [Segment(f"{at} -> {at + 1}", f"{at} -> {at + 1}", sides[at + 1], sides[at + 1]) for at in range(3)]
    widths = designed_widths([item.allowed for item in space.dimensions], [(0, 1), (1, 2)], levels=7)
    full = [np.full(len(widths), 3), *widths.T, np.full(len(widths), 10)]
    times = [layer_ms(full[at], full[at + 1]) for at in range(4)] + [between_ms(full[at + 1]) for at in range(3)]
    rng = np.random.default_rng(0)
    held = np.stack([rng.choice(item.allowed, 20) for item in space.dimensions], axis=1)
    timed = Timed(held, true_ms(held).round(6), true_ms(held).round(6))
    return LatencyTable(
        name="toy",
        device="an imagined processor",
        settings=LatencySettings(),
        made="2026-11-21T12:00:00+00:00",
        architecture=architecture_digest(space.cost),
        groups=group_shapes(space.cost),
        segments=(*layers, *between),
        widths=widths,
        times_ms=np.stack(times, axis=1).round(6),
        fitted=timed,
        held_out=timed,
        staircases=(Staircase("conv 3x3", "layer1", "out", (13, 14, 15, 16), (1.5, 1.5, 1.5, 1.0)),),
    )


def noisy(table: LatencyTable, share: float) -> LatencyTable:
    """The table as a machine that is not quiet would have measured it."""
    noise = np.random.default_rng(1).normal(1.0, share, table.times_ms.shape)
    return replace(table, times_ms=table.times_ms * np.abs(noise), _surfaces={})
