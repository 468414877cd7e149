"""A stored trial's model, made again: sliced and calibrated, and trained again where the search fine-tuned it."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from autoprune.errors import ExportMismatch
from autoprune.evaluators.finetune import FinetuneEvaluator
from autoprune.types import Trial, TrialState

if TYPE_CHECKING:
    from torch import nn

    from autoprune.driver.assemble import Prepared

__all__ = ["deviation", "rebuilt"]

_TOLERANCE = 0.01
"""Of top1. On the kind of machine that measured the trial the difference is 0; elsewhere rounding grows in training."""


def rebuilt(prepared: Prepared, trial: Trial) -> tuple[nn.Module, Trial]:
    """The model of a measured trial in eval mode, and the trial with what just these weights score on search-val.

    Raises ExportMismatch where that differs from what the search measured by more than a point of top1.
    """
    evaluator = prepared.evaluator
    if not isinstance(evaluator, FinetuneEvaluator):
        return evaluator.materialise(trial.candidate), trial
    module = evaluator.materialise(trial.candidate, _epochs(trial))
    found = evaluator.score(module)
    if not abs(found["top1"] - trial.metrics["top1"]) <= _TOLERANCE:
        raise ExportMismatch(
            f"trial {trial.number}, fine-tuned again, has a top1 of {100 * found['top1']:.2f} % on search-val; "
            f"the search measured {100 * trial.metrics['top1']:.2f} %.",
            "Export it on a machine like the one that measured it, with the same versions and executor.cpus_per_trial; "
            "or train it to its end: autoprune select ... --retrain finetune_rewind.",
        )
    return module, replace(trial, metrics={**trial.metrics, **found})


def deviation(prepared: Prepared, trial: Trial) -> str:
    """What to say where the model, made again, is not the one that was measured; empty where it is."""
    if not isinstance(prepared.evaluator, FinetuneEvaluator):
        return ""
    try:
        rebuilt(prepared, trial)
    except ExportMismatch as error:
        return f"{error.message} Its test metrics are those of the model that was trained again."
    return ""


def _epochs(trial: Trial) -> int | None:
    """After how many epochs a trial was measured; None: after all of them."""
    return int(trial.metrics["epochs"]) if trial.state is TrialState.STOPPED else None
