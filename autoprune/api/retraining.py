"""A selected candidate trained to its end and exported: the finished model."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from autoprune.api.stores import open_at, store_url
from autoprune.driver.observers import Silent
from autoprune.errors import SearchAborted
from autoprune.types import Candidate

if TYPE_CHECKING:
    from torch import nn

    from autoprune.config.executors import RayExecutorConfig
    from autoprune.driver.assemble import Prepared
    from autoprune.protocols import Progress
    from autoprune.retraining.runs import Run
    from autoprune.types import Measurement

__all__ = ["RetrainResult", "retrain"]


@dataclass(frozen=True)
class RetrainResult:
    """A trained and exported candidate."""

    output: Path
    arm: str
    epochs: int
    metrics: Mapping[str, float]
    """``top1`` and ``loss`` on search-val, ``test_top1`` and ``test_loss``, of the model of the last epoch."""


def retrain(
    name: str,
    trial: int,
    out: str | Path,
    *,
    arm: str = "finetune_rewind",
    seed: int = 0,
    overrides: Sequence[str] = (),
    format: str = "safetensors",
    fold_bn: bool = False,
    batch: int | None = None,
    licence: str = "unknown",
    store: str | None = None,
    progress: Progress | None = None,
) -> RetrainResult:
    """Train a trial's architecture by an arm of ``autoprune compare``, score it once on test, and export it.

    Args:
        arm: as :func:`autoprune.retraining.arms.parse_arm` reads it, such as ``finetune:lr=0.01``.
        overrides: of the baseline's recipe, such as ``epochs=5``.
        format, fold_bn, batch, licence: as :func:`autoprune.export` takes them.

    A search that ran on a cluster (``executor.address``) is trained there, with what ``executor.training`` gives.
    What was measured is stored beside the results of comparisons, which then need not train it again; how it was
    trained stands in the exported file. A call that was killed goes on from where it last was saved. Raises what
    :func:`autoprune.export` raises, ConfigError (an arm, a setting) and SearchAborted when training diverges.
    """
    from autoprune.api.comparing_plan import plan_run
    from autoprune.api.exporting import ExportOptions, check_exportable, export_retrained, preflight, require_same
    from autoprune.api.training_materials import recipe_of, require_images, usable_arm
    from autoprune.config.loading import load_search
    from autoprune.driver.assemble import prepare
    from autoprune.store import Retraining

    shown, folder = progress or Silent(), Path(out)
    options = ExportOptions(format, fold_bn, batch, licence)
    preflight(folder, options)
    with open_at(store_url(store)) as opened:
        record, chosen = opened.search(name), opened.trial(name, trial)
        check_exportable(record, chosen)
        config = load_search(record.config)
        require_images(config)
        parsed, recipe = usable_arm(arm, config), recipe_of(config, overrides)
        prepared = prepare(config, shown)
        require_same(record, prepared)
        ratio = prepared.space.cost.baseline["macs"] / chosen.metrics["macs"]
        run = plan_run(prepared, chosen.candidate.widths, parsed, seed, recipe, ratio)
        module, metrics = _train(prepared, run, shown)
        opened.save_retraining(name, Retraining(run.digest, run.content(), metrics))
    measured = {key: metrics[key] for key in ("top1", "loss", "test_top1", "test_loss")}
    trained = replace(chosen, metrics={**prepared.space.cost.measure(chosen.candidate), **measured})
    facts = {"retrained_by": run.arm, "epochs": run.epochs, "seed": seed, "recipe": run.recipe.model_dump_json()}
    export_retrained(module, facts, record, trained, prepared, folder, options)
    return RetrainResult(folder, run.arm, run.epochs, measured)


def _train(prepared: Prepared, run: Run, progress: Progress) -> tuple[nn.Module, dict[str, float]]:
    """On the cluster that the search ran on; else here."""
    from autoprune.config.executors import RayExecutorConfig

    progress.phase("training", run.epochs)
    executor = prepared.config.executor
    trained, metrics = (
        _train_there(executor, prepared, run, progress)
        if isinstance(executor, RayExecutorConfig) and executor.address is not None
        else _train_here(prepared, run, progress)
    )
    if trained is None or not math.isfinite(metrics["loss"]):
        raise SearchAborted(
            f"training by {run.arm} diverged: the loss is not finite.",
            f"Lower the rate (now {run.recipe.lr:g}), for example with a recipe with lr={run.recipe.lr / 3:.2g}.",
        )
    return trained, metrics


def _train_here(prepared: Prepared, run: Run, progress: Progress) -> tuple[nn.Module | None, dict[str, float]]:
    from autoprune.api.training_materials import materials
    from autoprune.retraining.runs import RUN, make_retrainer
    from autoprune.training.cached import suited_threads

    given = materials(prepared, [run])
    retrainer = make_retrainer(given)
    with suited_threads(given.dataset(), run.recipe):
        metrics = _shown(retrainer.evaluate(Candidate({RUN: 0})), run, progress)
    return retrainer.trained, metrics


def _train_there(
    executor: RayExecutorConfig, prepared: Prepared, run: Run, progress: Progress
) -> tuple[nn.Module | None, dict[str, float]]:
    import torch

    from autoprune.api.training_materials import materials
    from autoprune.driver.assemble import with_model_file
    from autoprune.executors.ray_training import remote_training
    from autoprune.retraining.runs import RUN, make_retrainer, trained_state
    from autoprune.retraining.weights import starting_module

    given = materials(prepared, [run], sent=True)
    make = with_model_file(prepared.config, make_retrainer)
    with remote_training(executor, given, make, Candidate({RUN: 0})) as training:
        progress.note(f"training on node {training.node}")
        metrics = _shown(training.measurements(), run, progress)
        state = training.result(trained_state)
    if state is None:
        return None, metrics
    module = starting_module(run.start, Candidate(run.widths), run.recipe.seed, given.origins)
    module.load_state_dict({name: torch.tensor(array) for name, array in state.items()})
    return module.eval(), metrics


def _shown(measurements: Iterator[Measurement], run: Run, progress: Progress) -> dict[str, float]:
    """The metrics of the last one."""
    metrics, done = {}, 0
    for measurement in measurements:
        metrics = dict(measurement.metrics)
        if not measurement.final:
            text = f"search-val top1 {100 * metrics['top1']:.2f} %"
            progress.advance(f"{run.arm}, epoch {measurement.step} of {run.epochs}: {text}", measurement.step - done)
            done = measurement.step
    return metrics
