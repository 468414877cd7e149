"""What a candidate costs: our evaluator beside the plain float32 evaluation of the same candidates, in one run.

    OMP_NUM_THREADS=1 python tests/benchmarks/trial_speed.py --root DATA/cifar10-jpeg [--clock cpu] [--peer 20]

Seconds by phase and top1 of ResNet-20 candidates on 1,000 calibration and 2,000 validation images; multiply-accumulate
throughput of both ways at half width for ResNet-20 and VGG-16; the machine's matrix-multiply peak in the same dtype.
``--clock cpu`` counts this thread's processor time instead of wall time, for a machine that others use as well.
``--peer N`` runs the reference (peer_ray_optuna_torch_pruning.py) for N trials, then the same candidates through our
Ray executor; ``--rounds`` repeats that. PYTHONPATH=. goes before the command where autoprune is not installed.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any
from unittest import mock

import numpy as np
import peer_ray_optuna_torch_pruning as peer
import torch

from autoprune.api.reporting import facts
from autoprune.bench.matmul import matmul_gflops
from autoprune.bench.throughput import evaluation_path, half_width, plain_evaluator
from autoprune.config.loading import load_search
from autoprune.config.schema import RayExecutorConfig
from autoprune.driver.assemble import Prepared, prepare
from autoprune.driver.observers import Silent
from autoprune.evaluators.evaluator import PruneEvaluator, make_evaluator
from autoprune.types import Candidate, Measurement, Outcome, Trial, TrialState

PHASES = ("slice", "calibrate", "evaluate")


def measured(evaluator: PruneEvaluator, candidate: Candidate, clock: Callable[[], float]) -> Measurement:
    with mock.patch.object(time, "perf_counter", clock):
        *_, last = evaluator.evaluate(candidate)
    return last


def peak_gflops(clock: Callable[[], float]) -> float:
    """The best of ten products of two square matrices."""
    return max(matmul_gflops(clock=clock))


def candidates_of(prepared: Prepared, count: int) -> list[Candidate]:
    generator = np.random.default_rng(0)
    space = prepared.space
    rows = [[generator.choice(dimension.allowed) for dimension in space.dimensions] for _ in range(count)]
    return [space.candidate(np.array(row)) for row in rows]


def compared(prepared: Prepared, count: int, clock: Callable[[], float]) -> dict[str, object]:
    """Medians over the candidates; each is measured both ways, one after the other."""
    ours, plain = prepared.evaluator, plain_evaluator(prepared.assets)
    candidates = candidates_of(prepared, count)
    for evaluator in (ours, plain):
        measured(evaluator, candidates[0], clock)  # warms up
    pairs = [(measured(ours, item, clock), measured(plain, item, clock)) for item in candidates]
    differences = [abs(fast.metrics["top1"] - slow.metrics["top1"]) for fast, slow in pairs]
    macs = [prepared.space.cost.measure(item)["macs"] for item in candidates]
    images = len(prepared.assets.labels)
    rates = [2 * each * images / fast.timings["evaluate"] / 1e9 for each, (fast, _) in zip(macs, pairs, strict=True)]
    return {
        "candidates": count,
        "path": evaluation_path(ours, prepared.base.module),
        "ours_seconds": _medians([fast for fast, _ in pairs]),
        "plain_seconds": _medians([slow for _, slow in pairs]),
        "speed_up_median": statistics.median(slow.seconds / fast.seconds for fast, slow in pairs),
        "evaluate_gflops_median": statistics.median(rates),
        "macs_share_mean": statistics.mean(macs) / prepared.space.cost.baseline["macs"],
        "top1_difference_points": {"max": 100 * max(differences), "mean": 100 * statistics.mean(differences)},
    }


def _medians(measurements: Sequence[Measurement]) -> dict[str, float]:
    total = statistics.median(item.seconds for item in measurements)
    return {name: statistics.median(item.timings[name] for item in measurements) for name in PHASES} | {"total": total}


def at_half_width(name: str, clock: Callable[[], float]) -> dict[str, float | str]:
    """GFLOP/s (2 per multiply-accumulate) of calibration and evaluation, median of five; random weights and images."""
    found = half_width(name, timings=lambda evaluator, candidate: measured(evaluator, candidate, clock).timings)
    names = ("calibrate", "evaluate", "plain_calibrate", "plain_evaluate")
    rates = {f"{name}_gflops": statistics.median(getattr(found, name)) for name in names}
    return {"path": found.path, "slice_ms": statistics.median(found.slice_ms), **rates}


class GivenCandidates:
    """A session in memory that hands out a list of candidates and notes when each was told."""

    wants_estimates = False

    def __init__(self, candidates: Sequence[Candidate]) -> None:
        self._waiting = list(enumerate(candidates))
        self._count = len(candidates)
        self.told_at: list[float] = []
        self.top1: dict[int, float] = {}

    @property
    def done(self) -> bool:
        return len(self.told_at) == self._count

    def ask(self) -> Trial | None:
        if not self._waiting:
            return None
        number, candidate = self._waiting.pop(0)
        return Trial(number, candidate, TrialState.RUNNING)

    def report(self, number: int, measurement: Measurement) -> bool:
        return True

    def tell(self, number: int, outcome: Outcome) -> None:
        self.told_at.append(time.perf_counter())
        self.top1[number] = outcome.metrics.get("top1", float("nan"))

    def stop(self, reason: str) -> None:
        self._count -= len(self._waiting)
        self._waiting.clear()


def beside_peer(prepared: Prepared, arguments: argparse.Namespace) -> dict[str, object]:
    """Rounds of the reference's search, then ours on the same candidates; medians, and every round."""
    rounds = [_round(prepared, arguments) for _ in range(arguments.rounds)]
    named = ("ratio", "ratio_from_the_first", "peer_per_minute", "ours_per_minute", "ours_per_minute_from_the_first")
    return {"medians": {name: statistics.median(item[name] for item in rounds) for name in named}, "rounds": rounds}


def _round(prepared: Prepared, arguments: argparse.Namespace) -> dict[str, Any]:
    """Trials a minute: with the start of the workers, and from the first result to the last."""
    from autoprune.executors.ray_tune import RayTuneExecutor

    theirs = peer.run(arguments.root, arguments.base, arguments.peer, 0)
    session = GivenCandidates([_candidate(prepared, widths) for widths in theirs["widths"]])
    began = time.perf_counter()
    RayTuneExecutor(RayExecutorConfig(), prepared.assets, make_evaluator, 600.0).run(session)
    ours = 60 * len(session.told_at) / (session.told_at[-1] - began)
    steady, their_steady = _from_the_first(session.told_at), _from_the_first(theirs["finished_at"])
    return {
        "trials": len(session.told_at),
        "macs_share_mean": statistics.mean(theirs["macs_share"]),
        "peer_per_minute": theirs["trials_per_minute"],
        "peer_per_minute_from_the_first": their_steady,
        "peer_phase_seconds": theirs["median_phase_seconds"],
        "ours_per_minute": ours,
        "ours_per_minute_from_the_first": steady,
        "ratio": ours / theirs["trials_per_minute"],
        "ratio_from_the_first": steady / their_steady,
        "top1_mean": {"peer": statistics.mean(theirs["top1"]), "ours": statistics.mean(session.top1.values())},
    }


def _from_the_first(finished_at: Sequence[float]) -> float:
    """Trials a minute after the first one."""
    return 60 * (len(finished_at) - 1) / (max(finished_at) - min(finished_at))


def _candidate(prepared: Prepared, widths: Mapping[str, int]) -> Candidate:
    """Output channels of each convolution -> our groups."""
    produced = {
        group.name: next(part.parameter.removesuffix(".weight") for part in group.members if part.role == "producer")
        for group in prepared.space.groups
    }
    return Candidate({group: widths[layer] for group, layer in produced.items()})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", required=True, help="folder with train/<class>/ and test/<class>/ images")
    parser.add_argument("--base", help="weights of the trained ResNet-20; default: the cached or newly trained one")
    parser.add_argument("--candidates", type=int, default=10)
    parser.add_argument("--clock", choices=("wall", "cpu"), default="wall")
    parser.add_argument("--peer", type=int, default=0, metavar="TRIALS")
    parser.add_argument("--rounds", type=int, default=1, help="how often the reference and ours take turns")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    clock = time.thread_time if arguments.clock == "cpu" else time.perf_counter
    overrides = [f"space.data.root={os.path.abspath(arguments.root)}"]
    overrides += [f"space.base.checkpoint={arguments.base}"] if arguments.base else []
    prepared = prepare(load_search("launch/cifar10_resnet20.yaml", overrides), Silent())
    report: dict[str, object] = {
        "clock": arguments.clock,
        "load_average_before": os.getloadavg()[0],
        "matmul_peak_gflops": peak_gflops(clock),
        "resnet20": compared(prepared, arguments.candidates, clock),
        "half_width": {name: at_half_width(name, clock) for name in ("resnet20", "vgg16_bn")},
        "matmul_peak_gflops_after": peak_gflops(clock),
    }
    if arguments.peer:
        report["through_ray"] = beside_peer(prepared, arguments)
    print(json.dumps({**report, "load_average_after": os.getloadavg()[0], **facts()}, indent=2))


if __name__ == "__main__":
    main()
