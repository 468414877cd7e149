"""One run of a benchmark of controllers: a search on the simulated clock, over recorded and fresh measurements."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from autoprune.analysis.controller_benchmark import ArmRun
from autoprune.config.benchmark import BenchmarkConfig, SettingConfig
from autoprune.controllers import make
from autoprune.driver.judging import Judge
from autoprune.driver.observers import LiveFront
from autoprune.driver.simulated_session import SimulatedSession
from autoprune.errors import SearchAborted
from autoprune.evaluators.replay import Evaluation, RecordedTable, ReplayEvaluator
from autoprune.executors.simulated import SimulatedExecutor
from autoprune.space import Decoder, SearchSpace
from autoprune.types import Objective, Trial, TrialState

if TYPE_CHECKING:
    from autoprune.evaluators.assets import Assets
    from autoprune.protocols import Evaluator

__all__ = ["Bench", "Measured", "Runner", "Task"]


@dataclass(frozen=True)
class Measured:
    """A way to measure candidates; without assets, only what is recorded can be looked up."""

    evaluation: Evaluation
    assets: Assets | None


@dataclass(frozen=True)
class Bench:
    """What all runs share; crosses process borders."""

    config: BenchmarkConfig
    space: SearchSpace
    table: Path
    common: Measured
    """Everybody's weights."""
    own: Mapping[str, Measured]
    """Arm -> its own weights, where it has them."""
    test: Measured | None
    """Everybody's weights on test images."""


@dataclass(frozen=True)
class Task:
    setting: SettingConfig
    arm: str
    seed: int

    def __str__(self) -> str:
        return f"{self.setting.name}, {self.arm}, seed {self.seed}"


class Runner:
    """Runs tasks one after another. An evaluator is made when a candidate is missing for the first time.

    ``on_trial`` is called after each finished trial with the number of candidates measured for it; once ``stopped``
    says so, nothing more is measured.
    """

    def __init__(
        self, bench: Bench, on_trial: Callable[[int], None], stopped: Callable[[], bool] = lambda: False
    ) -> None:
        self._bench = bench
        self._on_trial = on_trial
        self._stopped = stopped
        self._table = RecordedTable(bench.table, [item.name for item in bench.space.dimensions])
        self._evaluators: dict[str, Evaluator] = {}

    def run(self, task: Task) -> ArmRun:
        """Raises NotFound when a candidate is not recorded and there is nothing to measure it with."""
        bench = self._bench
        own = bench.own.get(task.arm, bench.common)
        evaluator = self._replay(own, task)
        log = self._search(task, own, evaluator)
        metrics, again = self._judged(task, log, own)
        return ArmRun(
            arm=task.arm,
            setting=task.setting.name,
            seed=task.seed,
            numbers=tuple(trial.number for trial in log.trials),
            metrics=metrics,
            own_metrics={} if own is bench.common else _columns(log.trials, task.setting),
            finished=tuple(log.times),
            proposal_seconds=log.proposal_seconds,
            evaluation_seconds=sum(trial.timings.get("evaluate", 0.0) for trial in log.trials),
            evaluations=sum(not trial.duplicate_of for trial in log.trials),
            again=again,
            test_top1=self._test_top1(task, log, metrics),
        )

    def _search(self, task: Task, own: Measured, evaluator: ReplayEvaluator) -> SimulatedSession:
        config, space = self._bench.config, self._bench.space
        objectives, constraints = task.setting.parsed_objectives(), task.setting.parsed_constraints()
        decoder = Decoder(space, constraints, objectives=objectives)
        controller = make(
            config.arms[task.arm].controller,
            space=space,
            decoder=decoder,
            objectives=objectives,
            trials=config.trials,
            seed=task.seed,
        )
        executor = SimulatedExecutor(evaluator, config.parallel)
        measured = 0

        def on_trial() -> float:
            nonlocal measured
            before, measured = measured, evaluator.measured
            self._on_trial(measured - before)
            return executor.now

        session = SimulatedSession(
            controller,
            decoder,
            Judge(objectives, constraints, {**space.cost.baseline, **own.evaluation.baseline}),
            trials=config.trials,
            sample=task.seed,
            on_trial=on_trial,
        )
        executor.run(session)
        return session

    def _judged(self, task: Task, log: SimulatedSession, own: Measured) -> tuple[dict[str, tuple[float, ...]], int]:
        """Metrics of the trials as everybody measures them, and how many were measured once more for that."""
        common = self._bench.common
        if own is common:
            return _columns(log.trials, task.setting), 0
        led = _led(log.trials, task.setting.parsed_objectives())
        replay = self._replay(common, task)
        trials = [
            replace(trial, metrics={**trial.metrics, **replay.measure(trial.candidate).metrics})
            if trial.number in led
            else replace(trial, state=TrialState.STOPPED)
            for trial in log.trials
        ]
        return _columns(trials, task.setting), len(led)

    def _test_top1(self, task: Task, log: SimulatedSession, metrics: Mapping[str, Sequence[float]]) -> float:
        """Of the candidate with the best top1 (the first of equals); NaN where fronts are asked for, not one model."""
        test, top1 = self._bench.test, metrics["top1"]
        known = [place for place, value in enumerate(top1) if math.isfinite(value)]
        if test is None or not known or len(task.setting.objectives) > 1:
            return math.nan
        best = max(known, key=lambda place: top1[place])
        return self._replay(test, task).measure(log.trials[best].candidate).metrics["top1"]

    def _replay(self, measured: Measured, task: Task) -> ReplayEvaluator:
        make_one = None if measured.assets is None else partial(self._evaluator, measured)
        return ReplayEvaluator(self._table, measured.evaluation.digest, make_one, str(task))

    def _evaluator(self, measured: Measured) -> Evaluator:
        """One thread: the runs are spread over the cores."""
        if self._stopped():
            raise SearchAborted("the benchmark was stopped.", "Run the same command again: what was measured is kept.")
        digest = measured.evaluation.digest
        if digest not in self._evaluators:
            import torch

            from autoprune.evaluators.evaluator import make_evaluator

            torch.set_num_threads(1)
            assert measured.assets is not None
            self._evaluators[digest] = make_evaluator(measured.assets)
        return self._evaluators[digest]


def _columns(trials: Sequence[Trial], setting: SettingConfig) -> dict[str, tuple[float, ...]]:
    """The objectives, top1 and macs of the trials; NaN where one is not COMPLETE."""
    names = dict.fromkeys([*(item.metric for item in setting.parsed_objectives()), "top1", "macs"])
    return {
        name: tuple(trial.metrics[name] if trial.state is TrialState.COMPLETE else math.nan for trial in trials)
        for name in names
    }


def _led(trials: Sequence[Trial], objectives: Sequence[Objective]) -> set[int]:
    """Numbers of the trials that were on the front when they finished."""
    front = LiveFront(objectives)
    return {trial.number for trial in trials if front.add(trial)}
