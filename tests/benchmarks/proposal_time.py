"""How long each controller takes for a proposal, by the length of the history, and for a resume.

    python tests/benchmarks/proposal_time.py [--history 100 1000 5000] [--running 0] [--asks 20]
        [--spaces toy resnet20] [--arms regression "optuna tpe"] [--json FILE]

The history is random candidates (one in twenty of them infeasible) that the controller is loaded with; then asks and
tells are timed, while ``--running`` trials more run. ``toy`` has 20 groups, ``resnet20`` is the space of
search_spaces/cifar10_resnet20.yaml with the toy's made-up accuracy. Milliseconds of processor time (one thread: set
OMP_NUM_THREADS=1), so a busy machine stretches them less than a clock would. The bytes are of the state as it is
written with a trial where it changed, the megabytes those that loading the history took (one row after another in one
process, so freed memory is used again). AMC and NetAdapt walk through their own trials, so only proposals of their own
can be their history: they run up to the longest history themselves, unless --arms leaves them out.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import replace
from functools import cache
from itertools import product
from pathlib import Path

import numpy as np

from autoprune.bench.memory import resident_mb
from autoprune.config.controllers import (
    AmcControllerConfig,
    ControllerConfig,
    EagleEyeControllerConfig,
    EvolutionControllerConfig,
    NetAdaptControllerConfig,
    OptunaControllerConfig,
    RandomControllerConfig,
    RegressionControllerConfig,
    UniformControllerConfig,
)
from autoprune.config.loading import load_space
from autoprune.controllers import make
from autoprune.driver.assemble import make_space
from autoprune.protocols import Controller
from autoprune.space import Decoder, SearchSpace
from autoprune.testing import ToySearch, toy_space
from autoprune.testing.controllers import drive, finished
from autoprune.types import Constraint, Objective, Trial, TrialState

ROOT = Path(__file__).resolve().parents[2]
SAMPLERS = ("tpe", "nsga2", "nsga3", "gp", "qmc", "random")
ARMS: dict[str, ControllerConfig] = {
    "uniform": UniformControllerConfig(),
    "random": RandomControllerConfig(),
    "eagleeye": EagleEyeControllerConfig(),
    "regression": RegressionControllerConfig(),
    "evolution": EvolutionControllerConfig(),
    "netadapt": NetAdaptControllerConfig(),
    "amc": AmcControllerConfig(),
    **{f"optuna {name}": OptunaControllerConfig.model_validate({"sampler": name}) for name in SAMPLERS},
    "optuna cmaes": OptunaControllerConfig.model_validate({"sampler": "cmaes"}),
    "optuna gp, one objective": OptunaControllerConfig(sampler="gp"),
    "optuna tpe, one objective": OptunaControllerConfig(sampler="tpe"),
}
WALKERS = ("uniform", "netadapt", "amc")


@cache
def space_of(name: str) -> SearchSpace:
    if name == "toy":
        return toy_space((32,) * 6 + (64,) * 7 + (128,) * 7)
    return make_space(load_space(ROOT / "search_spaces" / "cifar10_resnet20.yaml"))


def search_of(name: str, arm: str) -> ToySearch:
    """Front of two objectives, or the best top1 at half of the MACs."""
    if "cmaes" not in arm and "one objective" not in arm:
        return ToySearch(space_of(name))
    bound = Constraint("macs", "<=", 0.5, relative=True)
    return ToySearch(space_of(name), (Objective("top1", "max"),), (bound,))


def controller(arm: str, search: ToySearch, trials: int) -> Controller:
    decoder = Decoder(search.space, search.constraints, objectives=search.objectives)
    return make(ARMS[arm], space=search.space, decoder=decoder, objectives=search.objectives, trials=trials, seed=0)


def spoilt(trial: Trial) -> Trial:
    return replace(trial, state=TrialState.INFEASIBLE, metrics={}) if trial.number % 20 == 7 else trial


@cache
def drawn(name: str, one: bool, length: int) -> tuple[Trial, ...]:
    """Random candidates, with the notes of the generations they would have belonged to."""
    search = search_of(name, "one objective" if one else "")
    decoder = Decoder(search.space, search.constraints, objectives=search.objectives)
    source = make(
        RandomControllerConfig(),
        space=search.space,
        decoder=decoder,
        objectives=search.objectives,
        trials=length,
        seed=1,
    )
    return tuple(drive(source, search, 0, length, spoilt))


def noted(arm: str, trial: Trial) -> Trial:
    """As the sampler itself would have noted it."""
    key, size = {
        "optuna nsga2": ("_Nsga2:generation", 20),
        "optuna nsga3": ("_Nsga3:generation", 20),
        "optuna cmaes": ("cma:generation", 10),
    }.get(arm, ("", 1))
    return replace(trial, note={"generation": {key: trial.number // size}}) if key else trial


def loaded(arm: str, name: str, length: int, running: int, objectives: int) -> tuple[Trial, ...]:
    """So many finished trials, then those that run."""
    trials = tuple(noted(arm, trial) for trial in drawn(name, objectives == 1, length + running))
    return trials[:length] + tuple(replace(trial, state=TrialState.RUNNING, metrics={}) for trial in trials[length:])


def measured(arm: str, name: str, length: int, slots: int, asks: int) -> dict[str, float | str | int]:
    search = search_of(name, arm)
    running = controller(arm, search, length + asks)
    if arm in WALKERS:
        history = tuple(drive(running, search, 0, length, spoilt))
        if len(history) < length:  # a grid at its end
            history = history[: max(0, len(history) - asks)]
        running, slots = controller(arm, search, length + asks), 0
    else:
        history = loaded(arm, name, length, slots, len(search.objectives))
    before = resident_mb()
    began = time.process_time()
    running.load_state(running.state(), history)
    resumed = time.process_time() - began
    grown = resident_mb() - before
    times: list[float] = []
    for number in range(len(history), len(history) + asks):
        began = time.process_time()
        proposal = running.ask(number)
        asked = time.process_time() - began
        if proposal is None:
            break
        trial = spoilt(finished(search, number, proposal))
        began = time.process_time()
        running.tell(trial)
        times.append(1e3 * (asked + time.process_time() - began))
    middle, slow, longest = np.quantile(times, [0.5, 0.95, 1.0]) if times else (np.nan,) * 3
    row: dict[str, float | str | int] = {
        "controller": arm,
        "space": name,
        "history": len(history) - slots,
        "running": slots,
    }
    return row | {
        "median_ms": round(float(middle), 2),
        "p95_ms": round(float(slow), 2),
        "max_ms": round(float(longest), 2),
        "resume_seconds": round(resumed, 2),
        "state_bytes": len(json.dumps(running.state())),
        "memory_mb": round(grown, 1),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--history", type=int, nargs="+", default=[100, 1000, 5000])
    parser.add_argument("--running", type=int, nargs="+", default=[0], help="trials that run at the same time")
    parser.add_argument("--asks", type=int, default=20)
    parser.add_argument("--spaces", nargs="+", choices=["toy", "resnet20"], default=["toy", "resnet20"])
    parser.add_argument("--arms", nargs="+", choices=list(ARMS), default=list(ARMS), metavar="ARM")
    parser.add_argument("--json", type=Path, help="write the rows to this file as well")
    options = parser.parse_args()
    print(
        "| controller | space | history | running | median ms | p95 ms | slowest ms | resume s | state bytes | MB |\n"
        "|---|---|--:|--:|--:|--:|--:|--:|--:|--:|"
    )
    rows = []
    for arm in options.arms:
        for name in options.spaces:
            measured(arm, name, min(options.history), 0, 1)  # imports and caches
            for length, slots in product(options.history, options.running):
                rows.append(measured(arm, name, length, slots, options.asks))
                print("| " + " | ".join(str(value) for value in rows[-1].values()) + " |", flush=True)
    if options.json:
        options.json.write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
