"""A selected candidate trained to its end and exported: the finished model."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from autoprune.api.stores import open_at, store_url
from autoprune.driver.observers import Silent
from autoprune.errors import SearchAborted

if TYPE_CHECKING:
    from torch import nn

    from autoprune.protocols import Progress
    from autoprune.retraining.runs import Materials, Run

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

    What was measured is stored beside the results of comparisons, which then need not train it again; how it was
    trained stands in the exported file. A call that was killed goes on from where it last was saved. Raises what
    :func:`autoprune.export` raises, ConfigError (an arm, a setting) and SearchAborted when training diverges.
    """
    from autoprune.api.comparing_plan import plan_run
    from autoprune.api.exporting import ExportOptions, check_exportable, export_retrained, preflight, require_same
    from autoprune.api.training_materials import materials, recipe_of, require_images, usable_arm
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
        module, metrics = _train(materials(prepared, [run]), run, shown)
        opened.save_retraining(name, Retraining(run.digest, run.content(), metrics))
    measured = {key: metrics[key] for key in ("top1", "loss", "test_top1", "test_loss")}
    trained = replace(chosen, metrics={**prepared.space.cost.measure(chosen.candidate), **measured})
    facts = {"retrained_by": run.arm, "epochs": run.epochs, "seed": seed, "recipe": run.recipe.model_dump_json()}
    export_retrained(module, facts, record, trained, prepared, folder, options)
    return RetrainResult(folder, run.arm, run.epochs, measured)


def _train(given: Materials, run: Run, progress: Progress) -> tuple[nn.Module, dict[str, float]]:
    from autoprune.retraining.runs import RUN, make_retrainer
    from autoprune.training.cached import suited_threads
    from autoprune.types import Candidate

    progress.phase("training", run.epochs)
    retrainer, metrics, done = make_retrainer(given), {}, 0
    with suited_threads(given.dataset(), run.recipe):
        for measurement in retrainer.evaluate(Candidate({RUN: 0})):
            metrics = dict(measurement.metrics)
            if not measurement.final:
                text = f"search-val top1 {100 * metrics['top1']:.2f} %"
                progress.advance(
                    f"{run.arm}, epoch {measurement.step} of {run.epochs}: {text}", measurement.step - done
                )
                done = measurement.step
    if retrainer.trained is None or not math.isfinite(metrics["loss"]):
        raise SearchAborted(
            f"training by {run.arm} diverged: the loss is not finite.",
            f"Lower the rate (now {run.recipe.lr:g}), for example with a recipe with lr={run.recipe.lr / 3:.2g}.",
        )
    return retrainer.trained, metrics
