"""How long a dense and a pruned network take in onnxruntime on this machine, measured side by side."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import nn

from autoprune.exporters import onnx

__all__ = ["Clock", "Timing", "clock_for", "interleaved", "onnx_call", "write_fixed"]

Clock = Callable[[], float]
_SAMPLE_SECONDS = 0.01
"""One sample repeats the call for at least so long: a clock and a scheduler are coarser than a small network."""
_MOST_CALLS = 1000


@dataclass(frozen=True, eq=False)
class Timing:
    """Milliseconds of one call, a value for each repeat."""

    samples_ms: np.ndarray

    @property
    def median_ms(self) -> float:
        return float(np.median(self.samples_ms))

    @property
    def spread_ms(self) -> float:
        """Half the distance between the quartiles."""
        low, high = np.percentile(self.samples_ms, (25, 75))
        return float(high - low) / 2


def clock_for(threads: int) -> tuple[Clock, str]:
    """A clock in seconds and its name: for calls that one thread runs the time that it had the processor, so that other
    processes do not count; else the wall's."""
    fine = time.get_clock_info("thread_time").resolution <= 1e-6
    return (time.thread_time, "processor time") if threads == 1 and fine else (time.perf_counter, "wall time")


def interleaved(
    calls: Mapping[str, Callable[[], object]], *, warmup: int, repeats: int, clock: Clock = time.perf_counter
) -> dict[str, Timing]:
    """Time each call ``repeats`` times, in turns, so that a change of the machine's speed meets all.

    Each runs ``warmup`` times before. In every second round the order is reversed.
    """
    names = list(calls)
    counts = {name: _calls_per_sample(calls[name], warmup, clock) for name in names}
    samples: dict[str, list[float]] = {name: [] for name in names}
    for number in range(repeats):
        for name in names if number % 2 == 0 else reversed(names):
            samples[name].append(_timed(calls[name], counts[name], clock))
    return {name: Timing(np.array(values)) for name, values in samples.items()}


def write_fixed(path: Path, module: nn.Module, shape: tuple[int, ...], batch: int) -> Path:
    """``module`` as ONNX for one batch size, at ``path``."""
    onnx.write(path, module.eval(), (torch.zeros(batch, *shape),), dynamic=False, metadata={})
    return path


def onnx_call(path: Path, *, threads: int, batch: int) -> Callable[[], object]:
    """A call of the network of one input in ``path`` on random images."""
    session = onnx.open_session(path, threads=threads)
    item = session.get_inputs()[0]
    images = np.random.default_rng(0).standard_normal((batch, *item.shape[1:]), dtype=np.float32)
    return lambda: session.run(None, {item.name: images})


def _calls_per_sample(call: Callable[[], object], warmup: int, clock: Clock) -> int:
    for _ in range(warmup):
        call()
    return max(1, min(_MOST_CALLS, round(_SAMPLE_SECONDS / max(_timed(call, 1, clock) / 1e3, 1e-6))))


def _timed(call: Callable[[], object], count: int, clock: Clock) -> float:
    """Milliseconds of one call, averaged over ``count``."""
    began = clock()
    for _ in range(count):
        call()
    return 1e3 * (clock() - began) / count
