"""The reference: the same search without autoprune, from Ray Tune, OptunaSearch and Torch-Pruning.

One function trainable per trial, as their documentation shows it: the trial prunes a copy of ResNet-20 with one ratio
per layer (residual streams share one), re-estimates BatchNorm on 1,000 training images, and measures top1 on 2,000
images in plain float32. Optuna's multi-objective TPE maximises top1 and minimises MACs. Images are decoded once and
shared through Ray's object store; each trial has one CPU and one thread.

    python tests/benchmarks/peer_ray_optuna_torch_pruning.py --trials 20 --root DATA/cifar10-jpeg

prints JSON: trials a minute, seconds of each trial, and the hypervolume (of top1 and of the saved share of the MACs;
1 is a perfect model without cost) after each one. PYTHONPATH=. goes before it where autoprune is not installed.
"""

from __future__ import annotations

import argparse
import contextlib
import copy
import json
import logging
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
import ray
import torch
import torch_pruning as tp
from ray import tune
from ray.tune.search.optuna import OptunaSearch
from torch import nn

CALIBRATION, VALIDATION, BATCH = 1000, 2000, 250
LARGEST_RATIO = 0.75
Images = dict[str, Any]


def load(root: str, base: str | None, seed: int) -> tuple[nn.Module, Images]:
    """The trained network and the very images on which autoprune calibrates and scores; uint8, decoded once."""
    from autoprune.config.loading import load_space
    from autoprune.data.sources import load as load_data
    from autoprune.training.base import base_model

    overrides = [f"data.root={root}", *([f"base.checkpoint={base}"] if base else [])]
    space = load_space("search_spaces/cifar10_resnet20.yaml", overrides)
    dataset = load_data(space.data, seed=0)  # what the base was trained on never depends on the seed
    calibration, scored = dataset.train.take(CALIBRATION, seed), dataset.search_val.take(VALIDATION, seed)
    images = {
        "calibration": np.ascontiguousarray(calibration.images),
        "images": np.ascontiguousarray(scored.images),
        "labels": np.ascontiguousarray(scored.labels),
        "mean": np.array(dataset.mean, dtype=np.float32),
        "std": np.array(dataset.std, dtype=np.float32),
    }
    return base_model(space, dataset).module.requires_grad_(True), images


def coupled_layers(model: nn.Module) -> dict[str, list[str]]:
    """One ratio for each: the convolutions inside the blocks, and all that write to a stage's residual stream."""
    layers: dict[str, list[str]] = {"stream1": ["conv1"]}
    for name, module in model.named_modules():
        if isinstance(module, nn.Conv2d) and name.startswith("layer"):
            inner = name.endswith(".conv1")
            layers.setdefault(name if inner else f"stream{name[5]}", []).append(name)
    return layers


def pruned(model: nn.Module, ratios: dict[str, float]) -> nn.Module:
    """Torch-Pruning's magnitude pruner, by the L1 norm of filters, each layer by its own ratio."""
    model = copy.deepcopy(model)
    modules = dict(model.named_modules())
    layers = coupled_layers(model)
    pruner = tp.pruner.MagnitudePruner(
        model,
        torch.zeros(1, 3, 32, 32),
        importance=tp.importance.MagnitudeImportance(p=1),
        global_pruning=False,
        pruning_ratio=0.0,
        pruning_ratio_dict={modules[name]: ratio for key, ratio in ratios.items() for name in layers[key]},
        ignored_layers=[modules["fc"]],
    )
    pruner.step()
    return model


def recalibrate(model: nn.Module, batches: Sequence[torch.Tensor]) -> None:
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.reset_running_stats()
            module.momentum = None
    model.train()
    with torch.no_grad():
        for batch in batches:
            model(batch)
    model.eval()


def normalised(pixels: np.ndarray, data: Images) -> torch.Tensor:
    mean, std = (torch.from_numpy(np.array(data[key])).view(1, 3, 1, 1) for key in ("mean", "std"))
    return (torch.from_numpy(np.array(pixels)).float() / 255 - mean) / std


def accuracy(model: nn.Module, batches: Sequence[torch.Tensor], labels: torch.Tensor) -> float:
    correct = 0
    with torch.no_grad():
        for batch, expected in zip(batches, labels.split(BATCH), strict=True):
            correct += int((model(batch).argmax(1) == expected).sum())
    return correct / len(labels)


def trial(config: dict[str, float], model: nn.Module, data: Images) -> None:
    torch.set_num_threads(1)
    began = time.perf_counter()
    candidate = pruned(model, config)
    sliced = time.perf_counter()
    recalibrate(candidate, normalised(data["calibration"], data).split(BATCH))
    calibrated = time.perf_counter()
    labels = torch.from_numpy(np.array(data["labels"]))
    top1 = accuracy(candidate, normalised(data["images"], data).split(BATCH), labels)
    ended = time.perf_counter()
    macs, params = tp.utils.count_ops_and_params(candidate, torch.zeros(1, 3, 32, 32))
    phases = {"slice": sliced - began, "calibrate": calibrated - sliced, "evaluate": ended - calibrated}
    widths = {name: module.out_channels for name, module in candidate.named_modules() if isinstance(module, nn.Conv2d)}
    tune.report({"top1": top1, "macs": macs, "params": params, "ended": time.time(), **phases, "widths": widths})


def search(model: nn.Module, data: Images, trials: int, seed: int, folder: str) -> tuple[list[dict[str, Any]], float]:
    """Reported results in order of finishing, each with ``at``, seconds since the search began; and its seconds."""
    space = {name: tune.uniform(0.0, LARGEST_RATIO) for name in coupled_layers(model)}
    tuner = tune.Tuner(
        tune.with_resources(tune.with_parameters(trial, model=model, data=data), {"cpu": 1}),
        param_space=space,
        tune_config=tune.TuneConfig(
            search_alg=OptunaSearch(metric=["top1", "macs"], mode=["max", "min"], seed=seed),
            num_samples=trials,
        ),
        run_config=tune.RunConfig(verbose=0, storage_path=folder),
    )
    began, wall = time.perf_counter(), time.time()
    with contextlib.redirect_stdout(sys.stderr):  # Tune's banner would stand in the JSON
        grid = tuner.fit()
    seconds = time.perf_counter() - began
    reported = [grid[i].metrics or {} for i in range(len(grid))]
    results = [dict(metrics) for metrics in reported if "top1" in metrics]
    results.sort(key=lambda metrics: metrics["ended"])
    return [{**metrics, "at": metrics["ended"] - wall} for metrics in results], seconds


def hypervolumes(results: Sequence[dict[str, Any]], baseline: float) -> list[float]:
    """Area that (1 - macs / baseline, top1) dominates above (0, 0), after each trial."""
    found: list[tuple[float, float]] = []
    areas = []
    for metrics in results:
        found.append((1 - metrics["macs"] / baseline, metrics["top1"]))
        area = height = 0.0
        for saved, top1 in sorted(found, reverse=True):
            area += saved * max(top1 - height, 0.0)
            height = max(height, top1)
        areas.append(area)
    return areas


def summary(results: Sequence[dict[str, Any]], seconds: float, baseline: float) -> dict[str, Any]:
    phases = {name: statistics.median(item[name] for item in results) for name in ("slice", "calibrate", "evaluate")}
    return {
        "trials": len(results),
        "wall_seconds": seconds,
        "trials_per_minute": 60 * len(results) / seconds,
        "seconds_per_trial": [item["time_total_s"] for item in results],
        "median_phase_seconds": phases,
        "finished_at": [item["at"] for item in results],
        "hypervolume": hypervolumes(results, baseline),
        "macs_share": [item["macs"] / baseline for item in results],
        "top1": [item["top1"] for item in results],
        "widths": [item["widths"] for item in results],
    }


def run(root: str, base: str | None, trials: int, seed: int) -> dict[str, Any]:
    model, data = load(os.path.abspath(root), base, seed)
    baseline, _ = tp.utils.count_ops_and_params(model, torch.zeros(1, 3, 32, 32))
    ray.init(include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
    try:
        with tempfile.TemporaryDirectory() as folder:
            results, seconds = search(model, data, trials, seed, folder)
    finally:
        ray.shutdown()
    return summary(results, seconds, baseline)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", required=True, help="folder with train/<class>/ and test/<class>/ images")
    parser.add_argument("--trials", type=int, default=20)
    parser.add_argument("--base", help="weights of the trained network; default: autoprune's cached or trained one")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    print(json.dumps(run(arguments.root, arguments.base, arguments.trials, arguments.seed), indent=2))


if __name__ == "__main__":
    main()
