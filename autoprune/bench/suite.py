"""All measurements in sections, as one report."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import torch

from autoprune.analysis.speed import SpeedReport, SpeedRow, WidthCurve, row
from autoprune.api.reporting import facts
from autoprune.bench import big_store, startup
from autoprune.bench.channels import measure_widths
from autoprune.bench.compiling import CANDIDATES, measure_compiling
from autoprune.bench.empty_trials import CountingSession, EmptyEvaluator
from autoprune.bench.matmul import matmul_gflops
from autoprune.bench.repeats import seconds
from autoprune.bench.search_rate import bare_loops, digits_search, per_minute, run_search, synthetic_search
from autoprune.bench.spawning import require_guarded_main
from autoprune.bench.throughput import half_width
from autoprune.config.schema import BuiltinModel, ModelConfig, RayExecutorConfig, TorchvisionModel
from autoprune.driver.assemble import Prepared
from autoprune.errors import ConfigError, did_you_mean
from autoprune.models import registry
from autoprune.training.precision import autocast_dtype
from autoprune.training.threads import torch_threads

if TYPE_CHECKING:
    from autoprune.protocols import Progress

__all__ = ["SECTIONS", "Effort", "run"]

_REPEATS = 5
_WARM_UP = 2
"""Trials of each worker that are not counted."""


@dataclass(frozen=True)
class Effort:
    """How much is measured."""

    images: int = 500
    """Through a network, for its throughput."""
    digits_trials: int = 60
    """0: no such search."""
    paired_trials: int = 12
    """Of about 0.3 s, a worker, in each of ``rounds`` searches beside the bare loop."""
    rounds: int = 2
    empty_trials: int = 1000
    stored_trials: int = 100_000
    width_rounds: int = 9
    repeats: int = _REPEATS
    """Of what takes a second: commands, and finding the groups of a large network."""

    @staticmethod
    def quick() -> Effort:
        """A quarter of the time, with wider spreads, and without the searches on digits."""
        return Effort(100, 0, 6, 1, 300, 20_000, 4, 3)


@dataclass
class _Bench:
    """What sections add to, and what they share."""

    effort: Effort
    progress: Progress
    rows: list[SpeedRow] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    curve: WidthCurve | None = None

    def add(self, *rows: SpeedRow) -> None:
        self.rows += rows
        for each in rows:
            self.progress.advance(each.name, step=0)


def run(progress: Progress, *, only: Sequence[str] = (), effort: Effort | None = None) -> SpeedReport:
    """Measure the sections ``only`` (all of them by default), in their usual order.

    Needs no data set and writes to temporary folders alone. Ray is started for the section ``search``, and stopped.

    Raises ConfigError for an unknown section, or where the user's script would be run again by each new process.
    """
    for name in only:
        if name not in SECTIONS:
            raise ConfigError(f"there is no section {name!r} to measure.", did_you_mean(name, SECTIONS))
    chosen = [name for name in SECTIONS if not only or name in only]
    if "search" in chosen:  # before minutes of measuring
        require_guarded_main()
    bench = _Bench(effort or Effort(), progress)
    progress.phase("measuring this machine", len(chosen))
    before, began = os.getloadavg()[0], time.perf_counter()
    for name in chosen:
        progress.advance(name, step=0)
        SECTIONS[name](bench)
        progress.advance(name)
    machine = {
        **facts(),
        "load average": f"{before:.1f} before, {os.getloadavg()[0]:.1f} after",
        "measured in": f"{time.perf_counter() - began:.0f} s",
    }
    return SpeedReport(tuple(bench.rows), machine, bench.curve, tuple(bench.notes))


# --- sections ------------------------------------------------------------------------------------------------------


def _evaluation(bench: _Bench) -> None:
    """Throughput of calibration and evaluation beside the matrix-multiply peak, all on one thread."""
    dtype = autocast_dtype("auto", "cpu") or torch.float32
    name = str(dtype).removeprefix("torch.")
    with torch_threads(1):
        peaks = matmul_gflops(dtype)
        bench.add(row("evaluation", f"matrix multiply, {name}", "GFLOP/s", peaks, note="one thread, 1024 x 1024"))
        for model, label in (("resnet20", "ResNet-20"), ("vgg16_bn", "VGG-16")):
            found = half_width(model, images=bench.effort.images, repeats=_REPEATS)
            best = max(*peaks, *matmul_gflops(dtype, repeats=3))
            bench.notes.append(f"{label}, evaluation: {found.path}.")
            for phase, rates in (("evaluate", found.evaluate), ("calibrate", found.calibrate)):
                what, wanted = f"{phase} {label}", 60.0 if phase == "evaluate" else None
                share = [100 * rate / best for rate in rates]
                bench.add(
                    row("evaluation", what, "GFLOP/s", rates, note="half width"),
                    row("evaluation", f"{what}, of the peak", "%", share, target=wanted, at_least=True),
                    row("evaluation", f"{what}, plain loop = 1", "times", found.speed_up(phase)),
                )
    bench.notes.append("GFLOP/s: 2 floating-point operations a multiply-accumulate.")


def _channels(bench: _Bench) -> None:
    with torch_threads(1):
        curve = measure_widths(rounds=bench.effort.width_rounds)
    bench.curve = curve
    bench.add(row("channels", "suggested multiple of widths", "channels", [float(curve.multiple)]))
    bench.notes.append(
        f"Suggested multiple: {curve.rule}; {curve.layers}. In a space file: rules: [{{multiple: {curve.multiple}}}]."
    )


def _search(bench: _Bench) -> None:
    """Rates of real searches, and what store, controller and Ray add to bare loops."""
    from autoprune.executors.ray_capacity import slot_count
    from autoprune.executors.ray_cluster import connected
    from autoprune.executors.ray_tune import RayTuneExecutor

    effort, cluster = bench.effort, RayExecutorConfig()
    began = time.perf_counter()
    with torch_threads(1), connected(cluster):
        workers = slot_count(cluster)
        session = CountingSession(effort.empty_trials)
        RayTuneExecutor(cluster, {}, EmptyEvaluator, 60.0).run(session)
        first = session.told_at[0] - began
        each = [1e3 * value for value in session.seconds_each(parts=_REPEATS)]
        bench.add(row("search", "Ray's start, to the first result", "s", [first]))
        bench.add(row("search", "one empty trial through Ray Tune", "ms", each, target=50.0))
        if effort.digits_trials:
            for kind, label in (("ray", f"Ray, {workers} workers"), ("serial", "serial")):
                rate = per_minute(run_search(digits_search(kind, effort.digits_trials)))
                bench.add(row("search", f"search on digits, {label}", "trials/min", [rate]))
        _overhead(bench, synthetic_search(0.3, workers * (_WARM_UP + effort.paired_trials)), workers)


def _overhead(bench: _Bench, prepared: Prepared, workers: int) -> None:
    """Each trial's turn of its worker beside the same candidate in a bare loop; searches and loops take turns."""
    loops, turns, rates = [], [], []
    with bare_loops(prepared.assets, workers) as bare:
        bare.seconds([prepared.space.uniform(0.6)] * workers)  # warms up
        for _ in range(bench.effort.rounds):
            trials = run_search(prepared)[_WARM_UP * workers :]
            rates.append(per_minute(trials))
            turns += [sum(trial.timings.values()) for trial in trials]
            loops += bare.seconds([trial.candidate for trial in trials])
    over = [turn / loop for turn, loop in zip(turns, loops, strict=True)]
    text = "each trial beside its candidate in a loop; quartiles"
    bench.add(
        row("search", f"ResNet-20, about 0.3 s a trial, {workers} workers", "trials/min", rates),
        row("search", "the same in a bare loop, one trial", "s", loops),
        row("search", "one trial of a search, bare loop = 1", "times", over, target=1.05, note=text, quartiles=True),
    )
    bench.notes.append(
        "Bare loops: as many processes as workers that only evaluate; a search adds store, TPE and Ray. Below 1 where "
        "the machine's other work disturbed the loops more."
    )


def _groups(bench: _Bench) -> None:
    models: tuple[tuple[str, ModelConfig, int, int], ...] = (
        ("ResNet-20", BuiltinModel(name="resnet20"), 32, 10),
        ("ResNet-50", TorchvisionModel(kind="torchvision", name="resnet50"), 224, 1000),
    )
    with torch_threads(1):
        for label, config, size, classes in models:
            model = registry.build(config, num_classes=classes, in_channels=3)
            found = measure_compiling(model, size, repeats=_REPEATS if size == 32 else bench.effort.repeats)
            large = size > 32
            slicing = [1e3 * value for value in found.slice]
            bench.add(
                row("groups", f"find and check groups, {label}", "s", found.discover, target=1.0 if large else None),
                row("groups", f"find groups only, {label}", "s", found.unchecked),
                row("groups", f"slice a candidate, {label}", "ms", slicing, target=20.0 if large else None),
                row("groups", f"cost {CANDIDATES:,} candidates, {label}", "s", found.million, target=1.0),
            )


def _queries(bench: _Bench) -> None:
    count = bench.effort.stored_trials
    with TemporaryDirectory() as folder:
        path = Path(folder) / "big.db"
        built = big_store.build(path, count, lambda _: bench.progress.advance("queries: filling a store", step=0))
        calls = big_store.user_queries(f"sqlite:///{path}")
        labels = {
            "front_two_constraints": ("front, two budgets", 300.0),
            "hypervolume_history": ("hypervolume history", 1000.0),
        }
        for call, (label, target) in labels.items():
            taken = [1e3 * value for value in seconds(calls[call], _REPEATS)]
            bench.add(row("queries", f"{label}, {count:,} trials", "ms", taken, target=target))
    bench.notes.append(f"Queries: targets are for 1,000,000 trials; this store had {count:,} ({built['file_mb']} MB).")


def _startup(bench: _Bench) -> None:
    with TemporaryDirectory() as folder:
        path = Path(folder) / "small.db"
        big_store.build(path, 1000)
        environment = {"AUTOPRUNE_STORE": f"sqlite:///{path}"}
        commands = {("--help",): 0.3, ("front", big_store.NAME): 0.6}
        for arguments, target in commands.items():
            taken = startup.command_seconds(*arguments, repeats=bench.effort.repeats, environment=environment)
            bench.add(row("start-up", f"autoprune {arguments[0]}", "s", taken, target=target))


SECTIONS: dict[str, Callable[[_Bench], None]] = {
    "evaluation": _evaluation,
    "channels": _channels,
    "groups": _groups,
    "start-up": _startup,
    "queries": _queries,
    "search": _search,
}
"""Name -> what measures it."""
