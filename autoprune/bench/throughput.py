"""Calibrating and evaluating a network at half its widths, beside the plain PyTorch loop over the same images."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from autoprune.config.schema import BuiltinModel, EvaluatorConfig
from autoprune.cost.trace import trace
from autoprune.evaluators.assets import Assets
from autoprune.evaluators.evaluator import PruneEvaluator, make_evaluator
from autoprune.evaluators.networks import PlainNetwork
from autoprune.models.registry import build
from autoprune.pruning import criteria
from autoprune.pruning.groups import discover
from autoprune.pruning.ranking import rank
from autoprune.types import Candidate

__all__ = ["Throughput", "evaluation_path", "half_width", "plain_evaluator", "random_assets", "run_timings"]

Timings = Callable[[PruneEvaluator, Candidate], Mapping[str, float]]


@dataclass(frozen=True)
class Throughput:
    """GFLOP/s (2 a multiply-accumulate) of each repeat; ours and the plain loop took turns."""

    calibrate: tuple[float, ...]
    evaluate: tuple[float, ...]
    plain_calibrate: tuple[float, ...]
    plain_evaluate: tuple[float, ...]
    slice_ms: tuple[float, ...]
    path: str
    """What ran the network: see :func:`evaluation_path`."""

    def speed_up(self, phase: str) -> list[float]:
        """Ours over the plain loop's ``calibrate`` or ``evaluate``, repeat by repeat."""
        ours, plain = getattr(self, phase), getattr(self, f"plain_{phase}")
        return [fast / slow for fast, slow in zip(ours, plain, strict=True)]


class _PlainNetworks:
    """Stands where an evaluator keeps the way that it runs networks: each as it is."""

    def network(self, model: nn.Module) -> PlainNetwork:
        return PlainNetwork(model)


def plain_evaluator(assets: Assets) -> PruneEvaluator:
    """The same evaluator without fused steps: channels-last float32, BatchNorm as it is, whole batches."""
    evaluator = make_evaluator(assets)
    evaluator.networks = _PlainNetworks()  # type: ignore[assignment]
    return evaluator


def run_timings(evaluator: PruneEvaluator, candidate: Candidate) -> Mapping[str, float]:
    """Wall seconds by phase of one evaluation."""
    *_, last = evaluator.evaluate(candidate)
    return last.timings


def random_assets(name: str, images: int, *, image_size: int = 32, config: EvaluatorConfig | None = None) -> Assets:
    """Random weights of a built-in model, and as many random images to calibrate on as to score."""
    torch.manual_seed(0)
    module = build(BuiltinModel(name=name), num_classes=10, in_channels=3).eval()
    groups = discover(module, torch.zeros(1, 3, image_size, image_size)).groups
    generator = np.random.default_rng(0)
    pixels = generator.integers(0, 256, (images, 3, image_size, image_size), dtype=np.uint8)
    return Assets(
        model=BuiltinModel(name=name),
        num_classes=10,
        in_channels=3,
        state={key: tensor.numpy() for key, tensor in module.state_dict().items()},
        groups=groups,
        ranking=rank(module, groups, criteria.get("l1")),
        calibration_images=pixels,
        images=pixels,
        labels=generator.integers(0, 10, images),
        mean=(0.5,) * 3,
        std=(0.25,) * 3,
        config=config or EvaluatorConfig(),
    )


def half_width(name: str, *, images: int = 500, repeats: int = 5, timings: Timings = run_timings) -> Throughput:
    """A built-in model for 32x32 images with every group at half its channels; random weights and images."""
    assets = random_assets(name, images)
    half = Candidate({group.name: group.channels // 2 for group in assets.groups})
    example = torch.zeros(1, 3, 32, 32)
    module = build(assets.model, num_classes=10, in_channels=3).eval()
    flops = 2 * trace(module, example, assets.groups).measure(half)["macs"] * images / 1e9
    ours, plain = make_evaluator(assets), plain_evaluator(assets)
    for evaluator in (ours, plain):
        timings(evaluator, half)  # warms up
    pairs = [(timings(ours, half), timings(plain, half)) for _ in range(repeats)]
    return Throughput(
        calibrate=tuple(flops / fast["calibrate"] for fast, _ in pairs),
        evaluate=tuple(flops / fast["evaluate"] for fast, _ in pairs),
        plain_calibrate=tuple(flops / slow["calibrate"] for _, slow in pairs),
        plain_evaluate=tuple(flops / slow["evaluate"] for _, slow in pairs),
        slice_ms=tuple(1e3 * fast["slice"] for fast, _ in pairs),
        path=evaluation_path(ours, module),
    )


def evaluation_path(evaluator: PruneEvaluator, model: nn.Module) -> str:
    """What runs the sliced networks: ``FastNetwork, float32, 25 images at once``."""
    networks = evaluator.networks
    name = type(networks.network(model)).__name__
    dtype = str(getattr(networks, "dtype", None) or torch.float32).removeprefix("torch.")
    chunk = getattr(networks, "chunk", None)
    return f"{name}, {dtype}" + (f", {chunk} images at once" if chunk else "")
