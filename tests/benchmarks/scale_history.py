"""What forgetting costs: hypervolume after equal trials with a history that cuts, and without one.

    python tests/benchmarks/scale_history.py OUT.json [--trials 1000] [--history 250] [--seeds 5]
        [--arms tpe regression]

The landscapes of ``controllers_synthetic.py`` (twelve groups, another landscape for each seed), top1 noisy like a count
of 2,000 images; equal candidates measure equally. Both arms of a seed are the same search but for ``history``, and the
same up to its first cut; TPE's window is half of the history in both. Prints the mean of the paired differences with a
95 % interval (Student's t).
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent))

from controllers_synthetic import front_search, hypervolume

from autoprune.config.controllers import ControllerConfig, OptunaControllerConfig, RegressionControllerConfig
from autoprune.controllers import make
from autoprune.space import Decoder
from autoprune.testing.controllers import drive
from autoprune.types import Trial

IMAGES = 2000


def config_of(arm: str, history: int, window: int) -> ControllerConfig:
    if arm == "regression":
        return RegressionControllerConfig(history=history)
    return OptunaControllerConfig(sampler="tpe", history=history, window=window)


def noisy(trial: Trial) -> Trial:
    """The count of right answers in as many images as a search looks at, a function of the candidate."""
    top1 = trial.metrics["top1"]
    rng = np.random.default_rng(int(trial.candidate.digest, 16))
    return replace(trial, metrics={**trial.metrics, "top1": rng.binomial(IMAGES, top1) / IMAGES})


def volumes(config: ControllerConfig, trials: int, seed: int) -> list[float]:
    """Hypervolume after each quarter of the trials."""
    search = front_search(seed)
    decoder = Decoder(search.space, search.constraints, objectives=search.objectives)
    controller = make(
        config,
        space=search.space,
        decoder=decoder,
        objectives=search.objectives,
        trials=trials,
        seed=seed,
    )
    ran = drive(controller, search, 0, trials, noisy)
    full = search.space.cost.baseline["macs"]
    return [hypervolume(ran[:end], full) for end in range(trials // 4, trials + 1, trials // 4)]


def compared(arm: str, given: argparse.Namespace) -> dict[str, Any]:
    window = min(250, given.history // 2)
    arms = [config_of(arm, history, window) for history in (10 * given.trials, given.history)]
    rows = [[volumes(config, given.trials, seed) for config in arms] for seed in range(given.seeds)]
    whole, cut = np.array([row[0] for row in rows]), np.array([row[1] for row in rows])
    differences = (cut - whole)[:, -1].tolist()
    from scipy.stats import t

    half = float(t.ppf(0.975, given.seeds - 1)) * statistics.stdev(differences) / given.seeds**0.5
    result = {
        "arm": arm,
        "trials": given.trials,
        "history": given.history,
        "seeds": given.seeds,
        "all": whole.mean(axis=0).round(5).tolist(),
        "cut": cut.mean(axis=0).round(5).tolist(),
        "difference": round(statistics.mean(differences), 5),
        "interval": round(half, 5),
        "differences": [round(each, 5) for each in differences],
    }
    print(
        f"{arm}: all {result['all'][-1]}, history {given.history} {result['cut'][-1]}, "
        f"difference {result['difference']:+.5f} +- {half:.5f}",
        flush=True,
    )
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--trials", type=int, default=1000)
    parser.add_argument("--history", type=int, default=250)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--arms", nargs="+", choices=["tpe", "regression"], default=["tpe", "regression"])
    given = parser.parse_args()
    given.out.write_text(json.dumps([compared(arm, given) for arm in given.arms], indent=1) + "\n")


if __name__ == "__main__":
    main()
