"""What a benchmark of controllers needs before its runs, and what it makes of them."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from autoprune.analysis.controller_benchmark import ArmRun, ControllerBenchmark, Setting
from autoprune.api.controller_benchmark_runs import Bench, Measured, Task
from autoprune.config.benchmark import ArmConfig, BenchmarkConfig
from autoprune.controllers import make
from autoprune.errors import ConfigError, Conflict, NotFound
from autoprune.evaluators.replay import Evaluation, RecordedTable
from autoprune.space import Decoder, SearchSpace
from autoprune.types import Measurement, TrialState

if TYPE_CHECKING:
    from autoprune.config.schema import SearchConfig
    from autoprune.protocols import Progress

__all__ = ["checked_space", "measurable", "open_table", "record_store", "recorded", "result", "tasks"]


def checked_space(config: BenchmarkConfig) -> SearchSpace:
    """The space; every setting's budgets can be met in it, else NothingFeasible, and every arm can work on each of its
    settings, else ConfigError."""
    from autoprune.driver.assemble import make_space

    space = make_space(config.space)
    for setting in config.settings:
        objectives = setting.parsed_objectives()
        decoder = Decoder(space, setting.parsed_constraints(), objectives=objectives)
        for name in config.arms_in(setting):
            controller = config.arms[name].controller
            try:
                make(controller, space=space, decoder=decoder, objectives=objectives, trials=config.trials, seed=0)
            except ConfigError as error:
                raise ConfigError(
                    f"arm {name!r} on setting {setting.name!r}: {error.message}",
                    f"{error.hint} Or name the settings that it takes part in: arms.{name}.settings.".strip(),
                ) from None
    return space


def open_table(config: BenchmarkConfig, space: SearchSpace) -> RecordedTable:
    """The recorded candidates, where ``table`` says or beside the results. Raises ConfigError and StoreError."""
    path = Path(config.table or Path(config.output) / config.name / "candidates.jsonl.gz")
    return RecordedTable(path, [item.name for item in space.dimensions])


def tasks(config: BenchmarkConfig) -> list[Task]:
    """Seed by seed, so that all arms have some results early."""
    return [
        Task(setting, arm, seed)
        for seed in range(config.seeds)
        for setting in config.settings
        for arm in config.arms_in(setting)
    ]


# --- ways to measure -------------------------------------------------------------------------------------------------


def _searches(config: BenchmarkConfig) -> tuple[SearchConfig, dict[str, SearchConfig]]:
    """Everybody's evaluation as a search's configuration, and those of arms with weights of their own."""
    common = config.search(config.settings[0])
    own = {
        name: config.search(config.settings[0], arm.weights)
        for name, arm in config.arms.items()
        if arm.weights is not None and arm.weights != config.evaluator.weights
    }
    return common, own


def recorded(config: BenchmarkConfig, space: SearchSpace, table: RecordedTable) -> Bench:
    """From the table alone. Raises NotFound when it has no such evaluation, Conflict when it has two."""

    def found(search: SearchConfig, test_images: int = 0) -> Measured:
        settings = _settings(search, test_images)
        same = [item for item in table.evaluations if item.settings == settings]
        if len(same) > 1:
            raise Conflict(
                f"{table.path} has {len(same)} evaluations with these settings, of different base models or images.",
                "Run without --recorded-only, which tells them apart.",
            )
        if not same:
            what = f"{search.evaluator.weights.kind} weights" + (f" on {test_images} test images" * bool(test_images))
            raise NotFound(
                f"{table.path} has no candidates measured by these evaluator settings ({what}); it has "
                f"{', '.join(item.label for item in table.evaluations) or 'none at all'}.",
                "Run without --recorded-only to measure them, or name the table with --set table=FILE.",
            )
        return Measured(same[0], None)

    common, own = _searches(config)
    own_measured = {name: found(search) for name, search in own.items()}
    test = found(common, config.test_images) if config.test_images else None
    return Bench(config, space, table.path, found(common), own_measured, test)


def measurable(config: BenchmarkConfig, space: SearchSpace, table: RecordedTable, progress: Progress) -> Bench:
    """With base model and images, so that missing candidates can be measured."""
    from autoprune.driver.assemble import prepare

    common, own = _searches(config)
    prepared = prepare(common, progress)
    assets = prepared.assets
    base = Measured(_evaluation(table, common, prepared.evaluation_digest, prepared.measure_baseline), assets)
    made: dict[str, Measured] = {}
    for search in own.values():
        settings = _settings(search, 0)
        if settings not in made:
            other = prepare(search, progress)
            described = _evaluation(table, search, other.evaluation_digest, other.measure_baseline)
            made[settings] = Measured(described, other.assets)
    own_measured = {name: made[_settings(search, 0)] for name, search in own.items()}
    test = None
    if config.test_images:
        images = prepared.dataset.open_test().take(config.test_images, config.seed)
        scored = replace(assets, images=images.images, labels=images.labels)
        digest = hashlib.sha256(f"{base.evaluation.digest} test {images.digest}".encode()).hexdigest()[:16]
        described = _evaluation(table, common, digest, dict, test_images=config.test_images)
        test = Measured(described, scored)
    return Bench(config, space, table.path, base, own_measured, test)


def _settings(search: SearchConfig, test_images: int) -> str:
    text = f"{search.evaluation_digest()} test {test_images}"
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _evaluation(
    table: RecordedTable,
    search: SearchConfig,
    digest: str,
    baseline: Callable[[], Mapping[str, float]],
    *,
    test_images: int = 0,
) -> Evaluation:
    """The table's description of this evaluation, made (and the baseline measured) where it has none."""
    settings = _settings(search, test_images)
    for item in table.evaluations:
        if item.digest == digest:
            return item
        if item.settings == settings:
            raise Conflict(
                f"{table.path} was recorded with another base model or other images; its numbers would not compare.",
                "Name another file with --set table=FILE, or use the recorded numbers alone with --recorded-only.",
            )
    label = f"{search.evaluator.weights.kind} weights" + (f" on {test_images} test images" if test_images else "")
    described = Evaluation(digest, settings, label, dict(baseline()))
    table.describe(described)
    return described


def record_store(url: str, bench: Bench, table: RecordedTable) -> int:
    """Record the complete trials of a store that were measured by the same evaluations; how many were new."""
    from autoprune.api.stores import open_at

    before = len(table)
    known = {item.evaluation.digest for item in (bench.common, *bench.own.values())}
    with open_at(url, read_only=True) as store:
        for record in store.searches():
            if record.evaluation_digest not in known:
                continue
            for trial in store.trials(record.name):
                if trial.state is TrialState.COMPLETE and not trial.duplicate_of:
                    phases = ("slice", "calibrate", "evaluate")
                    seconds = sum(trial.timings.get(phase, 0.0) for phase in phases)
                    metrics = {name: trial.metrics[name] for name in ("top1", "loss")}
                    table.add(record.evaluation_digest, trial.candidate, Measurement(metrics, 0, seconds, True))
    return len(table) - before


# --- what was found --------------------------------------------------------------------------------------------------


def result(bench: Bench, runs: Sequence[ArmRun], measured: int, recorded: int) -> ControllerBenchmark:
    config = bench.config
    baseline = {**bench.space.cost.baseline, **bench.common.evaluation.baseline}
    return ControllerBenchmark(
        name=config.name,
        settings=tuple(
            Setting(item.name, item.parsed_objectives(), item.parsed_constraints(), baseline)
            for item in config.settings
        ),
        arms={name: _described(arm) for name, arm in config.arms.items()},
        runs=tuple(runs),
        trials=config.trials,
        seeds=config.seeds,
        parallel=config.parallel,
        own_weights={name: item.evaluation.label for name, item in bench.own.items()},
        measured=measured,
        recorded=recorded,
    )


def _described(arm: ArmConfig) -> str:
    """``optuna, sampler nsga2``: the kind, what the file says beside it, and weights of its own."""
    given = {name: getattr(arm.controller, name) for name in sorted(arm.controller.model_fields_set - {"kind"})}
    own = [] if arm.weights is None else [f"{arm.weights.kind} weights"]
    return ", ".join([arm.controller.kind, *(f"{name} {value}" for name, value in given.items()), *own])
