"""Controllers on a made-up accuracy with a known landscape: hypervolume and best accuracy at a budget.

    python tests/benchmarks/controllers_synthetic.py [--seeds 5] [--trials 60 200] [--arms amc evolution]

Twelve groups (toy chain, 32 to 128 channels, multiples of 4, floor 0.25); each seed draws its own landscape. Prints
mean and standard deviation over the seeds of
- hypervolume: share of the box (top1 from 0, MACs up to the baseline's) that the front dominates;
- top1 at a budget: the best accuracy when only accuracy counts and MACs are bounded by 30 %.
CMA-ES follows one objective and has no hypervolume.
"""

from __future__ import annotations

import argparse
import time

import numpy as np

from autoprune.config.controllers import RegressionControllerConfig
from autoprune.config.schema import (
    AmcControllerConfig,
    ControllerConfig,
    EagleEyeControllerConfig,
    EvolutionControllerConfig,
    NetAdaptControllerConfig,
    OptunaControllerConfig,
    RandomControllerConfig,
    UniformControllerConfig,
)
from autoprune.controllers import make
from autoprune.space import Decoder
from autoprune.testing import ToySearch, toy_space
from autoprune.testing.controllers import drive
from autoprune.types import Constraint, Objective, Trial

CHANNELS = (32,) * 4 + (64,) * 4 + (128,) * 4
ARMS: dict[str, ControllerConfig] = {
    "uniform": UniformControllerConfig(),
    "random": RandomControllerConfig(),
    "random, 5 uniform": RandomControllerConfig(seed_uniform=5),
    "tpe, 0 uniform": OptunaControllerConfig(seed_uniform=0),
    "tpe (default)": OptunaControllerConfig(),
    "tpe, 10 uniform": OptunaControllerConfig(seed_uniform=10),
    "tpe, 30 startup": OptunaControllerConfig(startup_trials=30),
    "regression": RegressionControllerConfig(),
    "nsga2, 10": OptunaControllerConfig(sampler="nsga2", population=10),
    "nsga2, 20 (default)": OptunaControllerConfig(sampler="nsga2"),
    "nsga2, 40": OptunaControllerConfig(sampler="nsga2", population=40),
    "nsga3": OptunaControllerConfig(sampler="nsga3"),
    "gp": OptunaControllerConfig(sampler="gp"),
    "cmaes": OptunaControllerConfig.model_validate({"sampler": "cmaes"}),
    "qmc": OptunaControllerConfig(sampler="qmc"),
    "evolution": EvolutionControllerConfig(),
    "evolution, crowding": EvolutionControllerConfig(survival="crowding"),
    "metapruning": EvolutionControllerConfig.model_validate({"preset": "metapruning"}),
    "netadapt": NetAdaptControllerConfig(),
    "eagleeye": EagleEyeControllerConfig(),
    "amc": AmcControllerConfig(),
    "amc, paper": AmcControllerConfig(mode="paper", warmup=30),
}

ONE_OBJECTIVE = ("cmaes",)


def run(config: ControllerConfig, search: ToySearch, trials: int, seed: int) -> list[Trial]:
    decoder = Decoder(search.space, search.constraints, objectives=search.objectives)
    controller = make(
        config, space=search.space, decoder=decoder, objectives=search.objectives, trials=trials, seed=seed
    )
    return drive(controller, search, 0, trials)


def hypervolume(trials: list[Trial], full: float) -> float:
    """Of (MACs / full, top1) against (1, 0), by sweeping from the cheapest trial on."""
    area, best = 0.0, 0.0
    for trial in sorted(trials, key=lambda trial: trial.metrics["macs"]):
        gain = trial.metrics["top1"] - best
        if gain > 0:
            area += gain * (1 - trial.metrics["macs"] / full)
            best = trial.metrics["top1"]
    return area


def front_search(seed: int) -> ToySearch:
    return ToySearch(toy_space(CHANNELS), landscape=seed)


def budget_search(seed: int) -> ToySearch:
    bound = Constraint("macs", "<=", 0.3, relative=True)
    return ToySearch(toy_space(CHANNELS), (Objective("top1", "max"),), (bound,), landscape=seed)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--trials", type=int, nargs="+", default=[60, 200])
    parser.add_argument("--arms", nargs="+", choices=list(ARMS), default=list(ARMS), metavar="ARM")
    options = parser.parse_args()
    for trials in options.trials:
        print(f"{trials} trials".ljust(22), "hypervolume".ljust(18), "top1 at 30 % MACs".ljust(18), "ms a proposal")
        for name in options.arms:
            config = ARMS[name]
            volumes, bests = [], []
            started, asked = time.process_time(), 0
            for seed in range(options.seeds):
                history: list[Trial] = []
                if name not in ONE_OBJECTIVE:
                    search = front_search(seed)
                    history = run(config, search, trials, seed)
                    volumes.append(hypervolume(history, search.space.cost.baseline["macs"]))
                best = run(config, budget_search(seed), trials, seed)
                bests.append(max(trial.metrics["top1"] for trial in best))
                asked += len(history) + len(best)
            each = (time.process_time() - started) / asked * 1e3
            columns = [
                (f"{np.mean(values):.4f} +- {np.std(values):.4f}" if values else "-").ljust(18)
                for values in (volumes, bests)
            ]
            print(name.ljust(22), *columns, f"{each:.1f}", flush=True)


if __name__ == "__main__":
    main()
