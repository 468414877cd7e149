"""The pair of networks that ``bench_export`` compares, and the measurement."""

from __future__ import annotations

import json
import tempfile
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pydantic import TypeAdapter
from torch import nn

from autoprune.api.export_bench import ExportBench
from autoprune.api.reporting import facts
from autoprune.config.schema import FileModel, ModelConfig, SpaceConfig
from autoprune.cost.trace import trace
from autoprune.data.shapes import shape_and_classes
from autoprune.errors import ConfigError, NotFound
from autoprune.exporters import onnx
from autoprune.exporters.bench import clock_for, interleaved, onnx_call, write_fixed
from autoprune.exporters.bundle import load_model, read_description
from autoprune.exporters.formats import read_metadata
from autoprune.models import registry
from autoprune.pruning.groups import discover
from autoprune.pruning.slicing import slice_model
from autoprune.types import Candidate

__all__ = ["Networks", "measure", "networks_of_folder", "networks_of_trial"]


@dataclass(frozen=True, eq=False)
class Networks:
    name: str
    dense: nn.Module
    pruned: nn.Module
    shape: tuple[int, int, int]


def networks_of_trial(name: str, space: SpaceConfig, candidate: Candidate) -> Networks:
    """The dense network with random weights, and its slice of the candidate's widths."""
    shape, classes = shape_and_classes(space.data)
    dense = registry.build(space.model, num_classes=classes, in_channels=shape[0]).eval()
    return Networks(name, dense, _sliced(dense, shape, candidate), shape)


def networks_of_folder(folder: Path) -> Networks:
    """What a safetensors bundle holds, or what an exported program says of itself, beside the full architecture.

    Raises NotFound when the folder holds no export, ConfigError when its architecture is a user's file.
    """
    try:
        content: dict[str, Any] = read_description(folder)
        shape, classes, widths = content["input"]["shape"], content["num_classes"], content["widths"]
        config = _model(content["model"], folder)
        pruned: nn.Module | None = load_model(folder)
    except NotFound:
        inside = read_metadata(folder)
        if inside is None or "model" not in inside:
            raise
        shape, classes = json.loads(inside["input"])["shape"], int(inside["num_classes"])
        widths, config, pruned = json.loads(inside["widths"]), _model(json.loads(inside["model"]), folder), None
    channels, height, width = (int(size) for size in shape)
    dense = registry.build(config, num_classes=int(classes), in_channels=channels).eval()
    image = (channels, height, width)
    return Networks(str(folder), dense, pruned or _sliced(dense, image, Candidate(widths)), image)


def measure(networks: Networks, *, batch: int, threads: int, warmup: int, repeats: int) -> ExportBench:
    """Both in onnxruntime, in turns."""
    onnx.require_packages()
    clock, clock_name = clock_for(threads)
    pair = {"dense": networks.dense, "pruned": networks.pruned}
    with tempfile.TemporaryDirectory() as folder:
        paths = {
            kind: write_fixed(Path(folder) / f"{kind}.onnx", module, networks.shape, batch)
            for kind, module in pair.items()
        }
        calls = {kind: onnx_call(path, threads=threads, batch=batch) for kind, path in paths.items()}
        timings = interleaved(calls, warmup=warmup, repeats=repeats, clock=clock)
    ratios = timings["dense"].samples_ms / timings["pruned"].samples_ms
    low, middle, high = (float(value) for value in np.percentile(ratios, (25, 50, 75)))
    example = torch.zeros((1, *networks.shape))
    return ExportBench(
        name=networks.name,
        dense=timings["dense"],
        pruned=timings["pruned"],
        speedup=middle,
        speedup_low=low,
        speedup_high=high,
        macs={kind: trace(module, example, ()).baseline["macs"] for kind, module in pair.items()},
        settings={"batch": batch, "threads": threads, "warmup": warmup, "repeats": repeats},
        facts={**facts(), "onnxruntime": version("onnxruntime"), "clock": clock_name},
    )


def _sliced(dense: nn.Module, shape: tuple[int, int, int], candidate: Candidate) -> nn.Module:
    """The first channels of each group: which ones stay does not change the time."""
    found = discover(dense, torch.zeros((1, *shape)), check=False)
    groups = [group for group in found.groups if group.name in candidate.widths]
    missing = set(candidate.widths) - {group.name for group in groups}
    if missing:
        raise ConfigError(f"the model has no groups {', '.join(sorted(missing))}: it changed since the search.")
    keep = {group.name: np.arange(candidate.widths[group.name] // group.unit) for group in groups}
    return slice_model(dense, groups, keep).eval()


def _model(content: Any, folder: Path) -> ModelConfig:
    config: ModelConfig = TypeAdapter(ModelConfig).validate_python(content)
    if isinstance(config, FileModel):
        raise ConfigError(
            f"{folder} comes from a Python file, which is not run here.",
            "Give the search's name and the trial instead: autoprune bench-export NAME TRIAL.",
        )
    return config
