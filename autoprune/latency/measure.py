"""Timing whole networks on a device: warmed up, interleaved where several are compared, with their spread."""

from __future__ import annotations

import contextlib
import copy
import os
import platform
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, cast

import numpy as np
import torch
from torch import Tensor, nn

from autoprune.errors import ConfigError
from autoprune.latency.settings import LatencySettings

__all__ = [
    "Latency",
    "Run",
    "Stopwatch",
    "counted_runs",
    "device_label",
    "measure_latency",
    "prepared",
    "quiet_torch",
    "ready_runner",
    "runner",
    "summary",
    "timed_runs",
    "typical_ms",
    "undisturbed",
]

_WARMUP = 2
_MOST = 3
DISTURBED = 0.02
"""A run that waited for a larger share of its time is not counted, where others are."""


class Run(NamedTuple):
    """One forward pass."""

    ms: float
    lost: float = 0.0
    """Share of the time in which its one thread waited for the processor; 0 where that cannot be known."""
    own_ms: float = 0.0
    """The time without that waiting."""


@dataclass(frozen=True)
class Latency:
    """The time of one forward pass. Percentiles are over single runs."""

    median_ms: float
    p10_ms: float
    p90_ms: float
    min_ms: float
    runs: int
    disturbed: float
    """Share of the runs that were not counted, since another process took the processor meanwhile."""
    drift: float
    """Median of the later half of the runs over that of the earlier half, minus 1: beyond a few per cent, the machine
    was busy or changed its clock, and the figure should be taken again."""
    settings: LatencySettings
    device: str
    """Processor, cores and versions: :func:`device_label`."""

    @property
    def spread(self) -> float:
        """(p90 - p10) / median."""
        return (self.p90_ms - self.p10_ms) / self.median_ms


def measure_latency(
    model: nn.Module,
    example_input: Tensor | tuple[Tensor, ...],
    settings: LatencySettings | None = None,
    *,
    repeats: int = 30,
    min_seconds: float = 0.5,
    warmup: int = 10,
) -> Latency:
    """Time forward passes of a copy of ``model`` in eval mode, as ``settings`` say (default: one image, one thread).

    ``example_input`` (a tuple for a model of several inputs) has the batch dimension first; its first item is repeated
    to the batch size. At least ``repeats`` runs and ``min_seconds``. Raises ConfigError for settings that this machine
    cannot meet.
    """
    settings = settings or LatencySettings()
    with quiet_torch(settings):
        run = ready_runner(model, example_input, settings)
        runs = timed_runs(run, repeats=repeats, min_seconds=min_seconds, warmup=warmup)
    return summary(runs, settings)


def summary(runs: Sequence[Run], settings: LatencySettings) -> Latency:
    """Of at least one run, in the order in which they were made."""
    times = undisturbed(runs)
    half = max(1, len(times) // 2)
    low, median, high = (float(value) for value in np.percentile(times, [10, 50, 90]))
    drift = float(np.median(times[half:]) / np.median(times[:half]) - 1.0) if len(times) > 1 else 0.0
    disturbed = sum(item.lost > DISTURBED for item in runs) / len(runs)
    label = device_label(settings)
    return Latency(median, low, high, min(times), len(times), disturbed, drift, settings, label)


def ready_runner(
    model: nn.Module, example_input: Tensor | tuple[Tensor, ...], settings: LatencySettings
) -> Callable[[], Run]:
    """A function that runs a copy of the model once, as ``settings`` say; compiled already where they say so.

    Raises ConfigError where the compiler fails.
    """
    run = runner(*prepared(model, example_input, settings), settings)
    if not settings.compiled:
        return run
    try:
        run()
    except Exception as error:  # noqa: BLE001 - compilers fail in ways of their own
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise ConfigError(
            f"torch.compile fails here: {reason}", "It needs a C++ compiler; or time it without compiling."
        ) from None
    return run


def typical_ms(run: Callable[[], Run], *, repeats: int, min_seconds: float = 0.0) -> float:
    """Median of the undisturbed runs, in ms."""
    return float(np.median(undisturbed(timed_runs(run, repeats=repeats, min_seconds=min_seconds))))


def timed_runs(run: Callable[[], Run], *, repeats: int, min_seconds: float = 0.0, warmup: int = _WARMUP) -> list[Run]:
    """``repeats`` undisturbed runs, or ``_MOST`` times as many, after ``warmup`` runs that are not counted."""
    for _ in range(warmup):
        run()
    runs: list[Run] = []
    good = 0
    end = time.perf_counter() + min_seconds
    while (good < repeats and len(runs) < _MOST * repeats) or time.perf_counter() < end:
        runs.append(run())
        good += runs[-1].lost <= DISTURBED
    return runs


def counted_runs(runs: Sequence[Run]) -> list[int]:
    """Positions of the runs that had the processor to themselves, or of the quarter that came nearest to it."""
    good = [at for at, item in enumerate(runs) if item.lost <= DISTURBED]
    if len(good) * 4 >= len(runs):
        return good
    return sorted(range(len(runs)), key=lambda at: runs[at].lost)[: max(1, len(runs) // 4)]


def undisturbed(runs: Sequence[Run]) -> list[float]:
    """Times in ms of the runs that count; where they waited for the processor, without the waiting."""
    counted = [runs[at] for at in counted_runs(runs)]
    return [item.ms if item.lost <= DISTURBED else item.own_ms for item in counted]


def runner(model: nn.Module, inputs: tuple[Tensor, ...], settings: LatencySettings) -> Callable[[], Run]:
    """A function that runs the model once."""
    if settings.device.startswith("cuda"):
        return lambda: _cuda_run(model, inputs)
    stopwatch = Stopwatch(settings)

    def run() -> Run:
        stopwatch.start()
        model(*inputs)
        return stopwatch.stop()

    return run


class Stopwatch:
    """Times one run on this processor, by the clock of ``settings``."""

    def __init__(self, settings: LatencySettings) -> None:
        self._cpu = settings.clock == "cpu"
        self._one = settings.threads == 1
        fine = time.get_clock_info("thread_time").resolution <= 1e-6
        self.clock = time.thread_time if self._cpu or (self._one and fine) else time.perf_counter
        """For parts of a run: with one thread, time in which another process has the processor does not count."""
        self._from = (0.0, 0.0)

    def start(self) -> None:
        self._from = time.thread_time(), time.perf_counter()

    def stop(self) -> Run:
        wall, cpu = time.perf_counter() - self._from[1], time.thread_time() - self._from[0]
        ms = (cpu if self._cpu else wall) * 1e3
        return Run(ms, max(0.0, 1.0 - cpu / wall), min(ms, cpu * 1e3)) if self._one else Run(ms, 0.0, ms)


def _cuda_run(model: nn.Module, inputs: tuple[Tensor, ...]) -> Run:
    device = inputs[0].device
    torch.cuda.synchronize(device)
    start = time.perf_counter()
    model(*inputs)
    torch.cuda.synchronize(device)
    ms = (time.perf_counter() - start) * 1e3
    return Run(ms, 0.0, ms)


def prepared(
    model: nn.Module, example_input: Tensor | tuple[Tensor, ...], settings: LatencySettings
) -> tuple[nn.Module, tuple[Tensor, ...]]:
    """A copy of the model and a batch, in the dtype, layout and on the device of ``settings``."""
    layout = torch.channels_last if settings.channels_last else torch.contiguous_format
    dtype, device = getattr(torch, settings.dtype), torch.device(settings.device)
    example = example_input if isinstance(example_input, tuple) else (example_input,)
    inputs = tuple(_batch(argument, settings) for argument in example)
    ready = copy.deepcopy(model).eval().to(device, dtype)
    if any(parameter.ndim == 4 for parameter in ready.parameters()):
        ready = ready.to(memory_format=layout)  # type: ignore[call-overload]
    if settings.compiled:
        ready = cast(nn.Module, torch.compile(ready))
    return ready, inputs


def _batch(argument: Tensor, settings: LatencySettings) -> Tensor:
    """Numbers in the dtype of the settings; indices and masks keep theirs."""
    dtype = getattr(torch, settings.dtype) if argument.is_floating_point() else argument.dtype
    batch = argument[:1].expand(settings.batch, *argument.shape[1:]).to(torch.device(settings.device), dtype)
    channels_last = settings.channels_last and batch.ndim == 4
    return batch.contiguous(memory_format=torch.channels_last if channels_last else torch.contiguous_format)


@contextlib.contextmanager
def quiet_torch(settings: LatencySettings) -> Iterator[None]:
    """Inference mode with the threads of ``settings``. Raises ConfigError when the device is not there."""
    if settings.device.startswith("cuda") and not torch.cuda.is_available():
        raise ConfigError(f"device {settings.device!r} is not available here.", "Use --device cpu.")
    threads = torch.get_num_threads()
    torch.set_num_threads(settings.threads)
    try:
        with torch.inference_mode():
            yield
    finally:
        torch.set_num_threads(threads)


def device_label(settings: LatencySettings) -> str:
    """``AMD EPYC, 1 of 2 cores, Linux x86_64, torch 2.9.0``."""
    if settings.device.startswith("cuda"):
        processor = torch.cuda.get_device_name(torch.device(settings.device))
    else:
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        processor = f"{_processor()}, {settings.threads} of {cores} cores"
    return f"{processor}, {platform.system()} {platform.machine()}, torch {torch.__version__.partition('+')[0]}"


def _processor() -> str:
    """The processor's name as its system spells it."""
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text().splitlines():
            if line.lower().startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine() or "unknown processor"
