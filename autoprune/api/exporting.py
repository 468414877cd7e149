"""A stored trial as an exported model."""

from __future__ import annotations

import math
from importlib.metadata import version
from pathlib import Path

from autoprune import __version__
from autoprune.driver.assemble import Prepared
from autoprune.errors import Conflict
from autoprune.exporters.bundle import Description, save_bundle
from autoprune.types import SearchRecord, Trial, TrialState

__all__ = ["export_trial"]


def export_trial(record: SearchRecord, trial: Trial, prepared: Prepared, folder: Path) -> Path:
    """Build the trial's model anew (base weights, ranking, calibration are all deterministic) and write it.

    Raises Conflict when the trial has no model to export, or when the base model is not the one of the search.
    """
    if trial.state in (TrialState.RUNNING, TrialState.FAILED, TrialState.DIVERGED):
        raise Conflict(
            f"trial {trial.number} of {record.name!r} is {trial.state.value}; only measured trials can be exported.",
            f"See which there are with 'autoprune trials {record.name}'.",
        )
    if prepared.evaluation_digest != record.evaluation_digest:
        raise Conflict(
            f"the base model or the data of {record.name!r} are not those that its trials were measured with.",
            "Restore the checkpoint and the images that the search used, or search again.",
        )
    module = prepared.evaluator.materialise(trial.candidate)
    return save_bundle(folder, module, _description(record, trial, prepared))


def _description(record: SearchRecord, trial: Trial, prepared: Prepared) -> Description:
    dataset = prepared.dataset
    return Description(
        model=prepared.config.space.model,
        num_classes=dataset.num_classes,
        input_shape=dataset.image_shape,
        mean=dataset.mean,
        std=dataset.std,
        class_names=dataset.class_names,
        widths=trial.candidate.widths,
        metrics={name: value for name, value in trial.metrics.items() if math.isfinite(value)},
        baseline=record.baseline,
        origin={
            "search": record.name,
            "trial": trial.number,
            "state": trial.state.value,
            "candidate_digest": trial.candidate.digest,
            "search_digest": record.digest,
            "base_digest": prepared.base.digest,
            "autoprune": __version__,
            "torch": version("torch"),
        },
    )
