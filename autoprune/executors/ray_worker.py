"""What runs in a worker process: one long-lived Tune trainable that measures candidate after candidate."""

from __future__ import annotations

import math
import os
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from enum import Enum
from typing import Any

import ray
from ray import tune

from autoprune.errors import EvaluationError
from autoprune.executors.memory import allocations_limited
from autoprune.executors.ray_watchdog import Watchdog, overdue
from autoprune.protocols import Evaluator
from autoprune.types import Candidate, Measurement

__all__ = ["REPORT", "Report", "ReportKind", "SlotTrainable", "describe", "require_gpu"]

REPORT = "autoprune"
"""Key of the Report in a Tune result: an opaque object, so that Tune has nothing to flatten."""


class ReportKind(Enum):
    READY = "ready"
    MEASURED = "measured"
    ACCIDENT = "accident"


@dataclass(frozen=True)
class Report:
    """What one call into the worker brought."""

    kind: ReportKind
    worker: str
    """``ip/node:pid``, with the first digits of Ray's id of the node: several nodes may share an address."""
    measurement: Measurement | None = None
    reason: str = ""
    busy_seconds: float = 0.0
    """How long the worker has worked at this trial."""


class SlotTrainable(tune.Trainable):
    """One place where trials run. Its first step says that it is ready; each further one brings a measurement.

    Intermediate ones stay here unless the session wants estimates: each costs a call of the actor.

    The driver hands it a candidate through ``reset_config``, then calls ``train``. The evaluator is built once.
    """

    def __init__(self, config: dict[str, Any], storage: Any = None) -> None:
        threads = max(1, int(config["cpus"]))
        # Before setup: unpickling the assets or make_evaluator may import torch, which reads it only then.
        os.environ["OMP_NUM_THREADS"] = str(threads)
        if config["hides_gpus"]:
            os.environ["CUDA_VISIBLE_DEVICES"] = ""
        super().__init__(config, storage)

    def setup(
        self,
        config: dict[str, Any],
        assets: object = None,
        make_evaluator: Callable[[Any], Evaluator] | None = None,
    ) -> None:
        if make_evaluator is None:
            raise TypeError("SlotTrainable needs make_evaluator: wrap it in tune.with_parameters")
        node = ray.get_runtime_context().get_node_id()[:8]
        self._worker = f"{ray.util.get_node_ip_address()}/{node}:{os.getpid()}"
        self._watchdog = Watchdog(self.trial_id, config["trial_memory"])
        seconds = config["start_seconds"]
        self._watchdog.arm(seconds, f"its evaluator was not built in {seconds:g} s")
        self._evaluator = make_evaluator(assets)
        if config["requires_gpu"]:
            require_gpu(node)
        if "torch" in sys.modules:
            sys.modules["torch"].set_num_threads(max(1, int(config["cpus"])))
        self._watchdog.disarm()
        self._trial_seconds = float(config["trial_seconds"])
        # GPU drivers reserve address space that is no memory.
        self._trial_memory = math.inf if config["has_gpu"] else float(config["trial_memory"])
        self._estimates = bool(config["estimates"])
        self._candidate: Candidate | None = None
        self._stream: Iterator[Measurement] | None = None
        self._busy_seconds = 0.0

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Take the next candidate; one that is still being measured is dropped (it was stopped)."""
        self._close_stream()
        self._busy_seconds = 0.0
        self._watchdog.arm(self._trial_seconds, overdue(self._trial_seconds))
        self._candidate = Candidate(new_config["widths"])
        return True

    def step(self) -> dict[str, Report]:
        if self._candidate is None:
            return {REPORT: Report(ReportKind.READY, self._worker)}
        began = time.perf_counter()
        report = self._measured(self._candidate)
        if report.measurement is None or report.measurement.final:
            self._close_stream()
        self._busy_seconds += time.perf_counter() - began
        return {REPORT: replace(report, busy_seconds=self._busy_seconds)}

    def _measured(self, candidate: Candidate) -> Report:
        try:
            if self._stream is None:
                self._stream = iter(self._evaluator.evaluate(candidate))
            with allocations_limited(self._trial_memory):
                measurement = self._next(self._stream)
        except EvaluationError as error:
            return Report(ReportKind.ACCIDENT, self._worker, reason=describe(error))
        if measurement is None:
            reason = "the evaluator ended without a final measurement"
            return Report(ReportKind.ACCIDENT, self._worker, reason=reason)
        return Report(ReportKind.MEASURED, self._worker, measurement)

    def _next(self, stream: Iterator[Measurement]) -> Measurement | None:
        return next((item for item in stream if item.final or self._estimates), None)

    def cleanup(self) -> None:
        self._close_stream()

    def _close_stream(self) -> None:
        close = getattr(self._stream, "close", None)
        if close is not None:
            close()
        self._candidate = self._stream = None
        self._watchdog.disarm()


def require_gpu(node: str) -> None:
    """Raises EvaluationError where torch sees none of the GPUs that Ray has granted."""
    torch = sys.modules.get("torch")
    if torch is None or torch.cuda.is_available():
        return
    granted = ", ".join(map(str, ray.get_gpu_ids())) or "none"
    build = torch.version.cuda or "a build without CUDA"
    raise EvaluationError(
        f"a GPU was asked for and granted (id {granted}), but torch {torch.__version__} sees none on node "
        f"{ray.util.get_node_ip_address()}/{node} (CUDA: {build}): install torch with CUDA and a driver there, or set "
        "executor.training.gpus (or executor.gpus_per_trial) to 0."
    )


def describe(error: BaseException) -> str:
    """An exception in words: its type and first line.

    >>> describe(ValueError("width 37 is not allowed"))
    'ValueError: width 37 is not allowed'
    """
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__
