"""A pruned model as a folder: ``model.safetensors`` (weights) and ``model.json`` (everything else).

The description names the architecture, never a class: loading builds the full network from it and gives every tensor
the shape that the file holds. ``SHA256SUMS`` beside them covers all files, because neither torch nor safetensors
notices a flipped byte.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from pydantic import TypeAdapter, ValidationError
from safetensors import SafetensorError
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors
from torch import Tensor, nn

from autoprune.config.schema import FileModel, ModelConfig
from autoprune.errors import ConfigError, NotFound
from autoprune.exporters.description import Description, metadata
from autoprune.exporters.staging import staged
from autoprune.exporters.verify import Inputs, Runner, random_inputs, tensors, verify
from autoprune.files import check_listed, list_digests
from autoprune.models import registry
from autoprune.pruning.slicing import adopt_tensors

__all__ = ["Description", "load_model", "read_description", "save_bundle"]

_FORMAT = "autoprune-model"
_VERSION = 1
_WEIGHTS = "model.safetensors"
_DESCRIPTION = "model.json"
_CODE = "architecture.py"
_PROGRAMS = ("model.onnx", "model.pt2", "model.ts")


def save_bundle(folder: Path, module: nn.Module, description: Description, *, samples: Sequence[Inputs] = ()) -> Path:
    """Write the folder (in one rename, so that half a bundle is never seen) and verify it by loading it again.

    It is run on random images and on ``samples``. Raises Conflict when the folder exists and is not empty,
    ExportMismatch when the reloaded model's outputs differ.
    """
    with staged(folder) as inside:
        _write(inside, module, description)
        example = (torch.zeros(1, *description.input_shape),)
        reloaded = load_model(inside, allow_code=True)
        verify(_runner(reloaded), module, [*random_inputs(example, None), *samples], "safetensors")
        list_digests(inside)
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
        check_listed(path, [_CODE])
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
        others = [file for file in _PROGRAMS if (folder / file).is_file()]
        hint = f"{others[0]} is a program for another runtime; load_model reads --format safetensors." if others else ""
        raise NotFound(
            f"{folder} holds no exported model ({_DESCRIPTION} is missing).", hint or "Give the folder itself."
        ) from None
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise ConfigError(f"{path} cannot be read: {error}.", "Export the model again.") from None
    check_listed(folder, [_DESCRIPTION])
    if not isinstance(content, dict) or content.get("format") != _FORMAT:
        raise ConfigError(f"{path} does not describe an exported model (expected format {_FORMAT!r}).")
    if content.get("version") != _VERSION:
        raise ConfigError(
            f"{path} has version {content.get('version')}; this autoprune reads version {_VERSION}.",
            "Use the version that wrote it, or export again.",
        )
    return content


def _write(folder: Path, module: nn.Module, description: Description) -> None:
    # copies, because the format has no tensors that share memory (tied weights); loading ties them again
    state = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in module.state_dict().items()}
    raw = save_tensors(state, metadata=metadata(description))
    (folder / _WEIGHTS).write_bytes(raw)
    model = description.model
    if isinstance(model, FileModel):
        shutil.copyfile(Path(model.path).expanduser(), folder / _CODE)
    content = {
        "format": _FORMAT,
        "version": _VERSION,
        "model": model.model_dump(mode="json"),
        "num_classes": description.num_classes,
        "input": description.input,
        "class_names": list(description.class_names),
        "widths": dict(description.widths),
        "metrics": dict(description.metrics),
        "baseline": dict(description.baseline),
        "origin": dict(description.origin),
        "data": description.data,
        "licence": description.licence,
        "weights": {"file": _WEIGHTS, "bytes": len(raw), "sha256": hashlib.sha256(raw).hexdigest()},
    }
    text = json.dumps(content, indent=2, allow_nan=False)
    (folder / _DESCRIPTION).write_text(text + "\n", encoding="utf-8")


def _runner(module: nn.Module) -> Runner:
    def run(sample: Inputs) -> list[Tensor]:
        with torch.inference_mode():
            return tensors(module(*sample))

    return run


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
    check_listed(folder, [_WEIGHTS])
    try:
        return load_tensors(raw)
    except SafetensorError as error:
        raise ConfigError(f"{path} is not a safetensors file: {error}.", "Export the model again.") from None


def _model_config(folder: Path, content: Any) -> Any:
    try:
        return TypeAdapter(ModelConfig).validate_python(content)
    except ValidationError as error:
        raise ConfigError(f"{folder / _DESCRIPTION}: 'model' is not understood: {error}.") from None
