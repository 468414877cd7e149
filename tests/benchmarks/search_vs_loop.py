"""Trials a minute of a finished search beside a plain loop over its candidates, on the machine it ran on.

The loop is what is left when store, controller and Ray are taken away: the same evaluator, one candidate after another
in one process. It runs once with all of torch's threads and once with one, each over the same sample of candidates.

    python tests/benchmarks/search_vs_loop.py cifar10-resnet20 --sample 30
"""

from __future__ import annotations

import argparse
import json
import statistics
from collections.abc import Sequence

import torch

from autoprune.api.reporting import facts
from autoprune.api.stores import open_at, store_url
from autoprune.bench.search_rate import loop_seconds
from autoprune.config.loading import load_search
from autoprune.driver.assemble import Prepared, prepare
from autoprune.driver.observers import Silent
from autoprune.types import Candidate, Trial, TrialState


def search_rate(trials: Sequence[Trial]) -> float:
    """Finished trials a minute between the first start and the last end, pauses of more than a minute left out."""
    ended = sorted(trial.finished_at or 0.0 for trial in trials)
    start = min(trial.started_at for trial in trials)
    gaps = [later - earlier for earlier, later in zip([start, *ended[:-1]], ended, strict=True)]
    return 60 * len(trials) / sum(gap for gap in gaps if gap < 60)


def loop_rate(prepared: Prepared, candidates: Sequence[Candidate], threads: int) -> tuple[float, list[float]]:
    """Candidates a minute of the plain loop, and the seconds of each."""
    torch.set_num_threads(threads)
    loop_seconds(prepared.evaluator, candidates[:1])  # the first call also warms caches up
    seconds = loop_seconds(prepared.evaluator, candidates)
    return 60 / statistics.mean(seconds), seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name")
    parser.add_argument("--store")
    parser.add_argument("--sample", type=int, default=30)
    arguments = parser.parse_args()
    with open_at(store_url(arguments.store), read_only=True) as store:
        record = store.search(arguments.name)
        trials = [
            trial for trial in store.trials(arguments.name, states=[TrialState.COMPLETE]) if not trial.duplicate_of
        ]
    prepared = prepare(load_search(record.config), Silent())
    sample = [trial.candidate for trial in trials[:: max(1, len(trials) // arguments.sample)]][: arguments.sample]
    cores = torch.get_num_threads()
    result = {"search": arguments.name, "trials": len(trials), "search_trials_per_minute": search_rate(trials)}
    for threads in dict.fromkeys((cores, 1)):
        rate, seconds = loop_rate(prepared, sample, threads)
        result[f"loop_{threads}_threads_per_minute"] = rate
        result[f"loop_{threads}_threads_seconds_median"] = statistics.median(seconds)
    print(json.dumps({**result, "sample": len(sample), **facts()}, indent=2))


if __name__ == "__main__":
    main()
