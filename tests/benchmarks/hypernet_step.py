"""What one training step of a hypernetwork takes beside a plain step of the same network, and what a candidate takes.

    python tests/benchmarks/hypernet_step.py --steps 40 --out results/hypernet-step/steps.csv

ResNet-20 on random images of CIFAR-10's shape. The kinds of steps take turns, so that a busy machine slows all of them
alike; what counts are the ratios. Times are of this thread on the processor, except on a GPU.
"""

from __future__ import annotations

import argparse
import csv
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from autoprune.config.evaluation import HypernetWeights
from autoprune.config.schema import BuiltinModel, Recipe, RuleConfig
from autoprune.controllers.drawing import Aim, draw
from autoprune.hypernet.footprint import footprint
from autoprune.hypernet.network import PruningNet
from autoprune.models import registry
from autoprune.space.decoding import Decoder
from autoprune.space.space import SearchSpace
from autoprune.training.loop import sgd
from autoprune.training.precision import autocast_dtype
from autoprune.types import Candidate

WARM_UP = 3


class Case:
    """One kind of step on a network of its own."""

    def __init__(
        self, name: str, network: nn.Module, device: torch.device, widths: Callable[[int], Candidate] | None = None
    ) -> None:
        self.name, self.widths, self.device = name, widths, device
        self.network = network.to(device).to(memory_format=torch.channels_last).train()  # type: ignore[call-overload]
        self.optimizer = sgd(self.network, Recipe(lr=0.01), fused=widths is not None)
        self.seconds: list[float] = []

    def step(self, number: int, images: torch.Tensor, labels: torch.Tensor) -> None:
        started = now(self.device)
        if self.widths is not None:
            self.network.widths = self.widths(number)  # type: ignore[assignment]
        dtype = autocast_dtype("auto", self.device.type)
        with torch.autocast(self.device.type, dtype, enabled=dtype is not None):
            logits = self.network(images)
        loss = F.cross_entropy(logits.float(), labels)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self.optimizer.step()
        self.seconds.append(now(self.device) - started)


def now(device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize()
        return time.perf_counter()
    return time.thread_time()


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--model", default="resnet20")
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    base = registry.build(BuiltinModel(name=options.model), num_classes=10, in_channels=3)
    space = SearchSpace.from_module(base, torch.zeros(1, 3, 32, 32), (RuleConfig(multiple=4, floor=0.25),))
    aim = Aim(Decoder(space, ()), ())

    def drawn(number: int) -> Candidate:
        return draw(space, aim, np.random.default_rng((0, number)))

    cases = [Case("plain", registry.build(BuiltinModel(name=options.model), num_classes=10, in_channels=3), device)]
    for name, rank, widths in (
        ("hypernet", None, drawn),
        ("full width", None, lambda _: space.full()),
        ("rank 1", 1, drawn),
    ):
        cases.append(Case(name, PruningNet(base, space.groups, rank=rank), device, widths))
    images = torch.randn(options.batch, 3, 32, 32, device=device).contiguous(memory_format=torch.channels_last)
    labels = torch.randint(0, 10, (options.batch,), device=device)
    for number in range(WARM_UP + options.steps):
        for case in cases:
            case.step(number, images, labels)
    report(cases, device, options.out)
    for rank in (None, 1):
        print(f"rank {rank}: {footprint(base, space.groups, HypernetWeights(kind='hypernet', rank=rank))}")
    network = PruningNet(base, space.groups)
    times = []
    for number in range(2 * options.steps):
        started = time.thread_time()
        network.build(drawn(number))
        times.append(time.thread_time() - started)
    print(f"one candidate built: median {1000 * statistics.median(times[WARM_UP:]):.1f} ms")


def report(cases: list[Case], device: torch.device, out: Path | None) -> None:
    """Step by step ratios: their median and quartiles."""
    plain = cases[0].seconds[WARM_UP:]
    rows = []
    for case in cases:
        ratios = [mine / theirs for mine, theirs in zip(case.seconds[WARM_UP:], plain, strict=True)]
        low, middle, high = statistics.quantiles(ratios, n=4) if case is not cases[0] else (1.0, 1.0, 1.0)
        seconds = statistics.median(case.seconds[WARM_UP:])
        rows.append(
            {
                "step": case.name,
                "median_ms": round(1000 * seconds, 1),
                "ratio": round(middle, 3),
                "ratio_quartile_1": round(low, 3),
                "ratio_quartile_3": round(high, 3),
                "ratio_of_sums": round(sum(case.seconds[WARM_UP:]) / sum(plain), 3),
                "steps": len(plain),
            }
        )
        print(rows[-1])
    reduced = autocast_dtype("auto", device.type) is not None
    print(f"device {device}, bfloat16 autocast: {reduced}, torch {torch.__version__}")
    if out is not None:
        out.parent.mkdir(parents=True, exist_ok=True)
        with out.open("w", newline="") as file:
            writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)


if __name__ == "__main__":
    main()
