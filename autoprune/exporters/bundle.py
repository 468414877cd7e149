"""A pruned model as a folder: ``model.safetensors`` (weights) and ``model.json`` (everything else).

The description names the architecture, never a class: loading builds the full network from it and gives every tensor
the shape that the file holds. The weights' SHA-256 stands in the description, because neither torch nor safetensors
notices a flipped byte.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from pydantic import TypeAdapter, ValidationError
from safetensors import SafetensorError
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors
from torch import Tensor, nn

from autoprune.config.schema import FileModel, ModelConfig
from autoprune.errors import ConfigError, Conflict, ExportMismatch, NotFound
from autoprune.models import registry
from autoprune.pruning.slicing import adopt_tensors

__all__ = ["Description", "load_model", "read_description", "save_bundle"]

_FORMAT = "autoprune-model"
_VERSION = 1
_WEIGHTS = "model.safetensors"
_DESCRIPTION = "model.json"
_CODE = "architecture.py"


@dataclass(frozen=True)
class Description:
    """What ``model.json`` holds beside the format's own keys."""

    model: ModelConfig
    num_classes: int
    input_shape: tuple[int, int, int]
    """Channels, height, width of one image."""
    mean: tuple[float, ...]
    """Per channel, in units of [0, 1]: the model expects (image / 255 - mean) / std."""
    std: tuple[float, ...]
    class_names: tuple[str, ...]
    widths: Mapping[str, int]
    metrics: Mapping[str, float]
    baseline: Mapping[str, float]
    origin: Mapping[str, Any] = field(default_factory=dict)
    """Where it comes from: search, trial, digests, versions."""


def save_bundle(folder: Path, module: nn.Module, description: Description) -> Path:
    """Write the folder (in one rename, so that half a bundle is never seen) and verify it by loading it again.

    Raises Conflict when the folder exists and is not empty, ExportMismatch when the reloaded model's outputs differ.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise Conflict(f"{folder} exists and is not empty.", "Choose another folder or empty this one.")
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}-") as temporary:
        staged = Path(temporary) / "bundle"
        staged.mkdir()
        _write(staged, module, description)
        _verify(staged, module, description)
        if folder.exists():
            folder.rmdir()
        os.replace(staged, folder)
    return folder


def load_model(folder: str | Path, *, allow_code: bool = False) -> nn.Module:
    """The exported model, in eval mode on the CPU. ``allow_code`` permits running the bundle's ``architecture.py``.

    Raises NotFound when the folder holds no bundle, ConfigError when it is damaged or needs ``allow_code``.
    """
    path = Path(folder)
    content = read_description(path)
    state = _read_weights(path, content["weights"])
    config: ModelConfig = _model_config(path, content["model"])
    if isinstance(config, FileModel):
        if not allow_code:
            raise ConfigError(
                f"{path} comes from a Python file, and loading it would run {path / _CODE}.",
                "Read that file, then call load_model(folder, allow_code=True).",
            )
        config = config.model_copy(update={"path": str(path / _CODE)})
    channels = int(content["input"]["shape"][0])
    module = registry.build(config, num_classes=int(content["num_classes"]), in_channels=channels)
    try:
        adopt_tensors(module, state)
    except KeyError as error:
        raise ConfigError(f"{path}: {error.args[0]}", "Export the model again with this version.") from None
    return module.eval()


def read_description(folder: Path) -> dict[str, Any]:
    """The content of ``model.json``. Raises NotFound or ConfigError."""
    path = folder / _DESCRIPTION
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise NotFound(
            f"{folder} holds no exported model ({_DESCRIPTION} is missing).", "Give the folder itself."
        ) from None
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise ConfigError(f"{path} cannot be read: {error}.", "Export the model again.") from None
    if not isinstance(content, dict) or content.get("format") != _FORMAT:
        raise ConfigError(f"{path} does not describe an exported model (expected format {_FORMAT!r}).")
    if content.get("version") != _VERSION:
        raise ConfigError(
            f"{path} has version {content.get('version')}; this autoprune reads version {_VERSION}.",
            "Use the version that wrote it, or export again.",
        )
    return content


def _write(folder: Path, module: nn.Module, description: Description) -> None:
    raw = save_tensors({name: tensor.detach().cpu().contiguous() for name, tensor in module.state_dict().items()})
    (folder / _WEIGHTS).write_bytes(raw)
    model = description.model
    if isinstance(model, FileModel):
        shutil.copyfile(Path(model.path).expanduser(), folder / _CODE)
    content = {
        "format": _FORMAT,
        "version": _VERSION,
        "model": model.model_dump(mode="json"),
        "num_classes": description.num_classes,
        "input": {
            "shape": list(description.input_shape),
            "mean": list(description.mean),
            "std": list(description.std),
            "normalisation": "(image / 255 - mean) / std",
        },
        "class_names": list(description.class_names),
        "widths": dict(description.widths),
        "metrics": dict(description.metrics),
        "baseline": dict(description.baseline),
        "origin": dict(description.origin),
        "weights": {"file": _WEIGHTS, "bytes": len(raw), "sha256": hashlib.sha256(raw).hexdigest()},
    }
    text = json.dumps(content, indent=2, allow_nan=False)
    (folder / _DESCRIPTION).write_text(text + "\n", encoding="utf-8")


def _verify(folder: Path, module: nn.Module, description: Description) -> None:
    """The reloaded model gives the very outputs of the one that was saved."""
    images = torch.randn((4, *description.input_shape), generator=torch.Generator().manual_seed(0))
    reloaded = load_model(folder, allow_code=True)
    with torch.inference_mode():
        expected = module.eval()(images)
        got = reloaded(images)
    if expected.shape != got.shape or not torch.allclose(expected, got, rtol=1e-5, atol=1e-6):
        worst = float((expected - got).abs().max()) if expected.shape == got.shape else float("nan")
        raise ExportMismatch(
            f"the exported model does not reproduce the trial's: outputs differ by {worst:.3g}, expected none.",
            "Nothing was written. Does the model's forward use tensors outside its state_dict?",
        )


def _read_weights(folder: Path, expected: Mapping[str, Any]) -> dict[str, Tensor]:
    path = folder / _WEIGHTS
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}.", "Export the model again.") from None
    if hashlib.sha256(raw).hexdigest() != expected["sha256"]:
        raise ConfigError(
            f"{path} is damaged: its SHA-256 is not the one in {_DESCRIPTION} "
            f"({len(raw)} bytes, expected {expected['bytes']}).",
            "Copy the folder again, or export the model again.",
        )
    try:
        return load_tensors(raw)
    except SafetensorError as error:
        raise ConfigError(f"{path} is not a safetensors file: {error}.", "Export the model again.") from None


def _model_config(folder: Path, content: Any) -> Any:
    try:
        return TypeAdapter(ModelConfig).validate_python(content)
    except ValidationError as error:
        raise ConfigError(f"{folder / _DESCRIPTION}: 'model' is not understood: {error}.") from None
