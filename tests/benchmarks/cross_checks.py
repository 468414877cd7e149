"""Numbers of ours beside those of other implementations: fronts and hypervolumes (R15), repeats (R16), MACs (R18).

python tests/benchmarks/cross_checks.py [--only fronts,repeats,macs] [--json FILE]
"""

from __future__ import annotations

import argparse
import itertools
import json
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from autoprune.types import Candidate, Measurement, Objective

# --- fronts ----------------------------------------------------------------------------------------------------------


def brute_front(points: np.ndarray) -> set[tuple[float, ...]]:
    """The points that no other is at least as good as everywhere and better somewhere; smaller is better."""
    at_least = (points[:, None] <= points[None]).all(-1)
    better = (points[:, None] < points[None]).any(-1)
    return set(map(tuple, points[~(at_least & better).any(0)].tolist()))


def brute_volume(points: np.ndarray, corner: np.ndarray) -> float:
    """Sum of the cells of the grid through all coordinates that a point dominates."""
    axes = [np.unique(np.append(points[:, at].clip(max=corner[at]), corner[at])) for at in range(points.shape[1])]
    total = 0.0
    for cell in itertools.product(*(range(len(axis) - 1) for axis in axes)):
        low = np.array([axis[at] for axis, at in zip(axes, cell, strict=True)])
        if (points <= low).all(1).any():
            total += float(np.prod([axis[at + 1] - axis[at] for axis, at in zip(axes, cell, strict=True)]))
    return total


def fronts(sets: int = 1000, seed: int = 0) -> dict[str, Any]:
    """Random sets of 1 to 60 points, half of them on a coarse grid (ties and duplicates), 2 or 3 objectives."""
    import moocore

    from autoprune.analysis.pareto import front_order, hypervolume

    rng = np.random.default_rng(seed)
    mismatches = duplicates = 0
    worst = 0.0
    for number in range(sets):
        size, many = int(rng.integers(1, 61)), 2 + number % 3 // 2
        points = rng.random((size, many)) if number % 2 else rng.integers(0, 6, (size, many)) / 5
        duplicates += size - len(np.unique(points, axis=0))
        objectives = tuple(Objective(f"m{at}", "min") for at in range(many))
        ours = set(map(tuple, points[front_order(points, objectives)].tolist()))
        theirs = set(map(tuple, points[moocore.is_nondominated(points)].tolist()))
        mismatches += ours != theirs or ours != brute_front(points)
        corner = np.full(many, 1.1)
        volume = hypervolume(points, corner)
        others = [float(moocore.hypervolume(points, ref=corner))]
        others += [brute_volume(points, corner)] if size <= 12 else []
        worst = max(worst, *(abs(volume - other) for other in others))
    return {"sets": sets, "duplicate_points": duplicates, "mismatches": mismatches, "hypervolume_difference": worst}


# --- repeats ---------------------------------------------------------------------------------------------------------


def repeats(trials: int = 80) -> dict[str, Any]:
    """Every controller on a space so small that it proposes what it had before: how often that is measured again."""
    import tempfile

    import faults_toy
    from faults_driver import CONTROLLERS

    from autoprune.executors import SerialExecutor
    from autoprune.store import open_store
    from autoprune.testing import ToySearch, toy_space

    small = ToySearch(toy_space((8, 8, 16), multiple=4))
    faults_toy.TOY = small
    found: dict[str, Any] = {}
    for controller in CONTROLLERS:
        measured: Counter[str] = Counter()

        class Counting:
            def evaluate(self, candidate: Candidate) -> Iterator[Measurement]:
                measured[candidate.digest] += 1  # noqa: B023
                yield Measurement(small.measure(candidate), 1, 0.0, True)

        with tempfile.TemporaryDirectory() as folder, open_store(f"sqlite:///{folder}/a.db") as store:
            with faults_toy.open_toy(store, trials=trials, controller=controller) as session:
                SerialExecutor(Counting, 60.0).run(session)
            proposed = len(store.trials(faults_toy.NAME))
        again = measured.total() - len(measured)
        name = "/".join(str(value) for key, value in controller.items() if key in ("kind", "sampler", "preset"))
        found[name] = {"trials": proposed, "measured": measured.total(), "measured_again": again}
    return {"measured_again": sum(each["measured_again"] for each in found.values()), "controllers": found}


# --- MACs ------------------------------------------------------------------------------------------------------------

FAMILIES = ("lenet5", "vgg16_bn", "resnet20", "mobilenet_v1", "mobilenet_v2", "shufflenet_v2_x0_5")


def macs(each: int = 100, seed: int = 0) -> dict[str, Any]:
    """Random candidates of six families, sliced for real: the cost table beside torch's FlopCounterMode."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    from autoprune.config.schema import BuiltinModel, TorchvisionModel
    from autoprune.models import registry
    from autoprune.pruning.slicing import slice_model
    from autoprune.space.space import SearchSpace

    rng = np.random.default_rng(seed)
    found: dict[str, Any] = {}
    for family in FAMILIES:
        shape = (1, 28, 28) if family == "lenet5" else (3, 32, 32)
        config = TorchvisionModel(name=family) if family.startswith("shuffle") else BuiltinModel(name=family)
        model = registry.build(config, num_classes=10, in_channels=shape[0]).eval()
        space = SearchSpace.from_module(model, torch.zeros(1, *shape), check=False)
        wrong = 0
        for _ in range(each):
            candidate = Candidate({item.name: int(rng.choice(item.allowed)) for item in space.dimensions})
            keep = {
                group.name: np.sort(rng.permutation(group.units)[: candidate.widths[group.name] // group.unit])
                for group in space.groups
                if group.name in candidate.widths
            }
            sliced = slice_model(model, space.groups, keep).to("meta")
            with FlopCounterMode(display=False) as counter, torch.no_grad():
                sliced(torch.zeros(1, *shape, device="meta"))
            wrong += counter.get_total_flops() != 2 * space.cost.measure(candidate)["macs"]
        found[family] = wrong
    return {"networks": each * len(FAMILIES), "wrong": sum(found.values()), "families": found}


CASES = {"fronts": fronts, "repeats": repeats, "macs": macs}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default=",".join(CASES))
    parser.add_argument("--json", type=Path, help="append the results to this file, a line each")
    given = parser.parse_args()
    for name in given.only.split(","):
        line = json.dumps({"name": name, **CASES[name]()})
        sys.stdout.write(line + "\n")
        if given.json:
            with given.json.open("a") as file:
                file.write(line + "\n")


if __name__ == "__main__":
    main()
