"""An in-memory session and small evaluators for the Ray executor's tests; importable on Ray's workers."""

from __future__ import annotations

import ctypes
import os
import signal
import time
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from autoprune.errors import EvaluationError
from autoprune.types import Candidate, Measurement, Outcome, OutcomeKind, Trial, TrialState


class FakeSession:
    """Trials whose only group ``g`` has the width given; retries accidents ``retries`` times."""

    def __init__(self, widths: list[int], retries: int = 2, after: Callable[[FakeSession], bool] | None = None) -> None:
        self._queue = deque(
            Trial(number, Candidate({"g": width}), TrialState.RUNNING) for number, width in enumerate(widths)
        )
        self._after = after or (lambda session: True)
        self._retries = retries
        self.running: dict[int, Trial] = {}
        self.outcomes: dict[int, Outcome] = {}
        self.accidents: list[tuple[int, str]] = []
        self.reports: list[tuple[int, float]] = []
        self.wants_estimates = False
        self.stop_below = 0.0
        self.stopped = ""
        self.asked_at: dict[tuple[int, int], float] = {}
        self.seconds: dict[tuple[int, int], float] = {}
        """(number, attempt) -> from ask to tell."""
        self.asks = 0

    @property
    def done(self) -> bool:
        return not self.running and (not self._queue or bool(self.stopped))

    def ask(self) -> Trial | None:
        self.asks += 1
        if self.stopped or not self._queue or not self._after(self):
            return None
        trial = self._queue.popleft()
        self.running[trial.number] = trial
        self.asked_at[trial.number, trial.attempt] = time.monotonic()
        return trial

    def report(self, number: int, measurement: Measurement) -> bool:
        self.reports.append((number, measurement.metrics["top1"]))
        return measurement.metrics["top1"] >= self.stop_below

    def tell(self, number: int, outcome: Outcome) -> None:
        trial = self.running.pop(number)
        self.seconds[number, trial.attempt] = time.monotonic() - self.asked_at[number, trial.attempt]
        if outcome.kind is OutcomeKind.ACCIDENT:
            self.accidents.append((number, outcome.reason))
            if trial.attempt <= self._retries:
                again = Trial(number, trial.candidate, TrialState.RUNNING, attempt=trial.attempt + 1)
                self._queue.appendleft(again)
                return
        assert number not in self.outcomes
        self.outcomes[number] = outcome

    def stop(self, reason: str) -> None:
        self.stopped = reason


class Evaluator:
    """What happens depends on the width: see BEHAVIOUR. ``assets["folder"]`` keeps traces of what happened."""

    def __init__(self, assets: dict[str, Any]) -> None:
        self._assets = assets
        folder = Path(assets["folder"])
        with (folder / "builds").open("a") as file:
            file.write(f"{os.getpid()}\n")

    def evaluate(self, candidate: Candidate) -> Iterator[Measurement]:
        width = candidate.widths["g"]
        first = self._once(width)
        if first and width in BEHAVIOUR:
            yield from BEHAVIOUR[width](self._assets)
        images = self._assets.get("images")
        metrics = {"top1": width / 100, "builds/pid": float(os.getpid())}
        if images is not None:
            metrics |= {"sum": float(images.sum()), "writeable": float(images.flags.writeable)}
            metrics["owns"] = float(images.flags.owndata)
        yield Measurement(metrics, step=1, seconds=0.0, final=True, timings={"slice": 0.25})

    def _once(self, width: int) -> bool:
        """True the first time that any worker sees the width."""
        try:
            os.close(os.open(Path(self._assets["folder"]) / f"seen-{width}", os.O_CREAT | os.O_EXCL))
        except FileExistsError:
            return False
        return True


def _raise(assets: dict[str, Any]) -> Iterator[Measurement]:
    raise RuntimeError("mat1 and mat2 shapes cannot be multiplied\nsecond line")
    yield


def _evaluation_error(assets: dict[str, Any]) -> Iterator[Measurement]:
    raise EvaluationError("slicing failed")
    yield


def _is_killed(assets: dict[str, Any]) -> Iterator[Measurement]:
    os.kill(os.getpid(), signal.SIGKILL)
    yield


def _sleep(assets: dict[str, Any]) -> Iterator[Measurement]:
    time.sleep(600)
    yield


def _hold_the_gil(assets: dict[str, Any]) -> Iterator[Measurement]:
    ctypes.PyDLL(None).sleep(600)
    yield


def _slices(assets: dict[str, Any]) -> Iterator[Measurement]:
    for step, top1 in enumerate((0.9, 0.7, 0.5, 0.3, 0.1)):
        yield Measurement({"top1": top1}, step=step, seconds=0.0, final=False)


def _a_second(assets: dict[str, Any]) -> Iterator[Measurement]:
    time.sleep(1.0)
    yield from ()


RAISES, RAISES_EVALUATION_ERROR, DIES, SLEEPS, HOLDS_THE_GIL, SLICES, A_SECOND = range(901, 908)
BEHAVIOUR: dict[int, Callable[[dict[str, Any]], Iterator[Measurement]]] = {
    RAISES: _raise,
    RAISES_EVALUATION_ERROR: _evaluation_error,
    DIES: _is_killed,
    SLEEPS: _sleep,
    HOLDS_THE_GIL: _hold_the_gil,
    SLICES: _slices,
    A_SECOND: _a_second,
}


def broken_evaluator(assets: dict[str, Any]) -> Evaluator:
    raise ValueError("no such checkpoint: base.pt")
