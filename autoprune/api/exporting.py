"""A stored trial, or any module, as an exported model."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path

import torch
from torch import Tensor, nn

from autoprune import __version__
from autoprune.api.rebuilding import rebuilt
from autoprune.driver.assemble import Prepared
from autoprune.errors import ConfigError, Conflict
from autoprune.exporters.bundle import save_bundle
from autoprune.exporters.description import UNKNOWN, Description, metadata
from autoprune.exporters.formats import check_format, save_program
from autoprune.exporters.onnx import require_packages
from autoprune.exporters.staging import writable
from autoprune.exporters.verify import Inputs
from autoprune.training.scoring import normalise
from autoprune.types import SearchRecord, Trial, TrialState

__all__ = [
    "ExportOptions",
    "check_exportable",
    "export_any_module",
    "export_retrained",
    "export_trial",
    "preflight",
    "require_same",
]

_REAL_IMAGES = 8


@dataclass(frozen=True)
class ExportOptions:
    """How to export. Raises ConfigError for what does not go together."""

    format: str = "safetensors"
    fold_bn: bool = False
    batch: int | None = None
    """The only batch size that a program takes; None: any."""
    licence: str = UNKNOWN

    def __post_init__(self) -> None:
        check_format(self.format)
        if self.batch is not None and self.batch < 1:
            raise ConfigError(f"batch must be 'dynamic' or at least 1, got {self.batch}.")
        if self.format == "safetensors" and self.fold_bn:
            raise ConfigError(
                "BatchNorm cannot be folded in format 'safetensors': its loader rebuilds the architecture, which has "
                "BatchNorm.",
                "Choose --format onnx, torch_export or torchscript.",
            )
        if self.format == "safetensors" and self.batch is not None:
            raise ConfigError("format 'safetensors' holds weights, which have no batch size.", "Leave --batch out.")


def export_trial(record: SearchRecord, trial: Trial, prepared: Prepared, folder: Path, options: ExportOptions) -> Path:
    """Build the trial's model anew (weights, ranking, calibration, fine-tuning are all deterministic) and write it.

    It is verified on random and on search-val images. Raises Conflict when the trial has no model to export, or when
    the base model is not the one of the search; ExportMismatch when fine-tuning it again gives another accuracy.
    """
    check_exportable(record, trial)
    require_same(record, prepared)
    module, trial = rebuilt(prepared, trial)
    return _write(module, _description(record, trial, prepared, options.licence), prepared, folder, options)


def export_retrained(
    module: nn.Module,
    facts: Mapping[str, object],
    record: SearchRecord,
    trial: Trial,
    prepared: Prepared,
    folder: Path,
    options: ExportOptions,
) -> Path:
    """Write a trial's architecture with the weights of ``module``; ``trial.metrics`` are those of the trained model.

    ``facts`` say how it was trained; they stand beside where it comes from.
    """
    description = _description(record, trial, prepared, options.licence)
    description = replace(description, origin={**description.origin, **facts})
    return _write(module.cpu().eval(), description, prepared, folder, options)


def require_same(record: SearchRecord, prepared: Prepared) -> None:
    """Raises Conflict when base model or images are not those of the search."""
    if prepared.evaluation_digest != record.evaluation_digest:
        raise Conflict(
            f"the base model or the data of {record.name!r} are not those that its trials were measured with.",
            "Restore the checkpoint and the images that the search used, or search again.",
        )


def _write(
    module: nn.Module, description: Description, prepared: Prepared, folder: Path, options: ExportOptions
) -> Path:
    module = module.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    real = _real(prepared)
    if options.format == "safetensors":
        return save_bundle(folder, module, description, samples=[real])
    return save_program(
        folder,
        module,
        real,
        format=options.format,
        metadata=metadata(description),
        real=[real],
        fold_bn=options.fold_bn,
        batch=options.batch,
    )


def preflight(folder: Path, options: ExportOptions) -> None:
    """What can be known before any work: the folder is free, the packages are there. Raises Conflict or ConfigError."""
    writable(folder)
    if options.format == "onnx":
        require_packages()


def check_exportable(record: SearchRecord, trial: Trial) -> None:
    """Raises Conflict when there is no measured model behind the trial."""
    if trial.state in (TrialState.RUNNING, TrialState.FAILED, TrialState.DIVERGED):
        raise Conflict(
            f"trial {trial.number} of {record.name!r} is {trial.state.value}; only measured trials can be exported.",
            f"See which there are with 'autoprune trials {record.name}'.",
        )


def export_any_module(
    module: nn.Module,
    example_input: Tensor | tuple[Tensor, ...],
    folder: Path,
    options: ExportOptions,
    extra: Mapping[str, str],
) -> Path:
    """See :func:`autoprune.api.export_module`."""
    if options.format == "safetensors":
        raise ConfigError(
            "a module in hand has no name to rebuild it from, which format 'safetensors' needs.",
            "Choose onnx, torch_export or torchscript; or save module.state_dict() with safetensors yourself.",
        )
    preflight(folder, options)
    example: Inputs = (example_input,) if isinstance(example_input, Tensor) else tuple(example_input)
    params = sum(parameter.numel() for parameter in module.parameters())
    facts = {
        "autoprune": __version__,
        "torch": version("torch"),
        "params": str(params),
        "licence": options.licence,
        "input": json.dumps({"shapes": [list(tensor.shape[1:]) for tensor in example]}),
        **extra,
    }
    return save_program(
        folder,
        module,
        example,
        format=options.format,
        metadata=facts,
        real=[example],
        fold_bn=options.fold_bn,
        batch=options.batch,
    )


def _real(prepared: Prepared) -> Inputs:
    """A few images of search-val as the model sees them: (8, C, H, W) float32."""
    dataset = prepared.dataset
    images = dataset.search_val.take(_REAL_IMAGES, prepared.config.seed).images
    return (normalise(torch.tensor(images), dataset.mean, dataset.std),)


def _description(record: SearchRecord, trial: Trial, prepared: Prepared, licence: str) -> Description:
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
        data=dataset.name or UNKNOWN,
        licence=licence,
    )
