"""How well networks keep their accuracy under each criterion: the same random candidates, ranked in different ways.

    python tests/benchmarks/criteria_compared.py launch/quickstart.yaml --candidates 60
    python tests/benchmarks/criteria_compared.py launch/cifar10_resnet20.yaml --set space.data.root=DATA/cifar10-jpeg

prints for each criterion its mean top1, and the mean difference from ``l1`` over the candidates with its 95 % interval
(normal approximation), in points. Each group's width is drawn evenly from those allowed.
"""

from __future__ import annotations

import argparse
import dataclasses

import numpy as np
import torch

from autoprune.config.loading import load_search
from autoprune.config.schema import SearchConfig
from autoprune.driver.assemble import Prepared, prepare
from autoprune.driver.observers import Silent
from autoprune.pruning import criteria
from autoprune.types import Candidate

REFERENCE = "l1"


def with_criterion(prepared: Prepared, name: str) -> Prepared:
    """The same space, data and base model, with channels ranked by another criterion."""
    content = prepared.config.model_dump(mode="json")
    content["evaluator"]["weights"] = {"kind": "inherit", "criterion": name}
    return dataclasses.replace(prepared, config=SearchConfig.model_validate(content))


def drawn(prepared: Prepared, count: int, seed: int) -> list[Candidate]:
    random, space = np.random.default_rng(seed), prepared.space
    rows = [[random.choice(dimension.allowed) for dimension in space.dimensions] for _ in range(count)]
    return [space.candidate(np.array(row)) for row in rows]


def top1(prepared: Prepared, candidates: list[Candidate]) -> np.ndarray:
    """Percent, (candidates,)."""
    scores = []
    for candidate in candidates:
        *_, last = prepared.evaluator.evaluate(candidate)
        scores.append(100 * last.metrics["top1"])
    return np.array(scores)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("launch")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--candidates", type=int, default=30)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--criteria", nargs="+", default=criteria.names())
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    prepared = prepare(load_search(arguments.launch, arguments.set), Silent())
    candidates = drawn(prepared, arguments.candidates, arguments.seed)
    reference = top1(with_criterion(prepared, REFERENCE), candidates)
    print(f"| criterion | top1 | points beyond {REFERENCE} | 95 % | better |\n|---|---|---|---|---|")
    for name in arguments.criteria:
        scores = reference if name == REFERENCE else top1(with_criterion(prepared, name), candidates)
        gain = scores - reference
        spread = 1.96 * gain.std(ddof=1) / np.sqrt(len(gain))
        print(
            f"| {name} | {scores.mean():.2f} % | {gain.mean():+.2f} | +-{spread:.2f} "
            f"| {int((gain > 0).sum())} of {len(gain)} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
