"""How soon our search reaches the hypervolume that the reference's reaches with 200 trials: the ratio of the times.

    OMP_NUM_THREADS=1 python tests/benchmarks/race_to_peer.py --root DATA/cifar10-jpeg --file race.jsonl

Hypervolume of (saved share of the MACs, top1) above (0, 0), MACs as Torch-Pruning counts them, the same images on both
sides. The clock runs from the start of Ray to a result; the base model and the images are there before. Every step is
appended to ``--file``, and a second call goes on where the first one stopped. ``--steps`` names those to run now:

replay  the reference's search (peer_ray_optuna_torch_pruning.py) in this process: its own OptunaSearch with the same
        seed, two trials running and one waiting as Tune keeps them on two cores, Torch-Pruning's own choice of
        channels, BatchNorm re-estimated and top1 taken on the same images; only the arithmetic of the forward passes
        is ours, since five times 200 trials as they are take more than an hour. Its wall time is then that of
        ``--timed`` real trials, measured now, times 200.
real    instead of ``replay``: the reference as it is, its wall time measured (``--real``).
ours    our search through Ray Tune with racing, from the launch file, every trial and the baseline included.

A seed decides the proposals and which of the search-val images are used; the base model never saw any of them.
PYTHONPATH=. goes before the command where autoprune is not installed.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import statistics
import tempfile
import time
from collections import deque
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import peer_ray_optuna_torch_pruning as peer
import torch
import torch_pruning as tp
from ray import tune
from ray.tune.search.optuna import OptunaSearch
from torch import nn

from autoprune.api.reporting import facts
from autoprune.config.loading import load_search
from autoprune.driver.assemble import Prepared, prepare
from autoprune.driver.observers import Silent
from autoprune.driver.running import run_session
from autoprune.pruning.ranking import keep
from autoprune.pruning.slicing import slice_model
from autoprune.store import open_store
from autoprune.training.scoring import normalise
from autoprune.types import Trial, TrialState

TRIALS = 200
AHEAD = 3
"""Proposals that Tune has drawn before it knows their results: two running on two cores, and one waiting."""
Record = dict[str, Any]


class Journal:
    """Steps done so far, one JSON object a line."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._records = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []

    def add(self, **record: Any) -> None:
        self._records.append(record)
        with self._path.open("a") as file:
            file.write(json.dumps(record) + "\n")

    def of(self, step: str, seed: int) -> list[Record]:
        return [item for item in self._records if item["step"] == step and item["seed"] == seed]


def prepared_for(prepared: Prepared, seed: int) -> Prepared:
    """The same data and base model for another seed; only proposals and the choice of images differ."""
    return dataclasses.replace(prepared, config=prepared.config.model_copy(update={"seed": seed}))


# --- the reference ---------------------------------------------------------------------------------------------------


def replay(journal: Journal, prepared: Prepared, seed: int, trials: int) -> None:
    """The reference's search; what the journal holds of it is told again, not measured again."""
    known = journal.of("replay", seed)
    model = prepared.base.module
    space = OptunaSearch.convert_search_space(
        {name: tune.uniform(0.0, peer.LARGEST_RATIO) for name in peer.coupled_layers(model)}
    )
    searcher = OptunaSearch(space=space, metric=["top1", "macs"], mode=["max", "min"], seed=seed)
    drawn: deque[dict[str, float]] = deque()
    for number in range(trials):
        for ahead in range(number + len(drawn), min(number + AHEAD, trials)):
            drawn.append(searcher.suggest(str(ahead)))
        ratios = drawn.popleft()
        if number >= len(known):
            journal.add(step="replay", seed=seed, number=number, **measured(prepared, ratios))
            known = journal.of("replay", seed)
        searcher.on_trial_complete(str(number), known[number])


def measured(prepared: Prepared, ratios: dict[str, float]) -> Record:
    """What the reference's trial reports, from the network that Torch-Pruning makes."""
    model = peer.pruned(prepared.base.module.requires_grad_(True), ratios)
    macs = tp_macs(model)
    fast = model.requires_grad_(False).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    with torch.inference_mode():
        network = prepared.evaluator.networks.network(fast)
        network.calibrate(batches(prepared, prepared.assets.calibration_images))
        network.fold()
        guesses = torch.cat([network(batch).argmax(1) for batch in batches(prepared, prepared.assets.images)])
    return {"top1": float((guesses.numpy() == prepared.assets.labels).mean()), "macs": macs}


def batches(prepared: Prepared, images: np.ndarray) -> Iterator[torch.Tensor]:
    for part in torch.tensor(images).split(peer.BATCH):
        yield normalise(part.contiguous(memory_format=torch.channels_last), prepared.assets.mean, prepared.assets.std)


def tp_macs(model: nn.Module) -> float:
    return float(tp.utils.count_ops_and_params(model, torch.zeros(1, 3, 32, 32))[0])


def real(journal: Journal, arguments: argparse.Namespace, seed: int, trials: int, step: str) -> None:
    """The reference as it is, on a cluster of its own."""
    result = peer.run(arguments.root, arguments.base, trials, seed)
    kept = ("trials", "wall_seconds", "hypervolume", "finished_at")
    journal.add(step=step, seed=seed, **{name: result[name] for name in kept})


# --- ours ------------------------------------------------------------------------------------------------------------


def race(journal: Journal, prepared: Prepared, seed: int, baseline: float) -> None:
    """One search of ours in a store of its own; the points of its complete trials, and when each was measured."""
    own = prepared_for(prepared, seed)
    own.assets  # noqa: B018 the ranking and the choice of images are there before, as the reference's images are
    with tempfile.TemporaryDirectory() as folder, open_store(f"sqlite:///{folder}/race.db") as store:
        began = time.time()
        run_session(store, own, Silent())
        seconds = time.time() - began
        trials = sorted(store.trials(own.config.name), key=lambda trial: trial.finished_at or 0.0)
    complete = [trial for trial in trials if trial.state is TrialState.COMPLETE]
    journal.add(
        step="ours",
        seed=seed,
        wall_seconds=seconds,
        trials=len(trials),
        stopped=sum(trial.state is TrialState.STOPPED for trial in trials),
        finished_at=[(trial.finished_at or 0.0) - began for trial in complete],
        hypervolume=peer.hypervolumes([point(own, trial) for trial in complete], baseline),
    )


def point(prepared: Prepared, trial: Trial) -> Record:
    kept = keep(prepared.assets.ranking, prepared.space.groups, trial.candidate)
    model = slice_model(prepared.base.module, prepared.space.groups, kept)
    return {"macs": tp_macs(model), "top1": trial.metrics["top1"]}


# --- the result ------------------------------------------------------------------------------------------------------


def reference(journal: Journal, seed: int, baseline: float) -> tuple[float, float | None] | None:
    """Hypervolume and wall seconds of the reference's search (None: not timed yet); None before it is complete."""
    ran = journal.of("real", seed)
    if ran:
        return ran[-1]["hypervolume"][-1], ran[-1]["wall_seconds"]
    replayed, timed = journal.of("replay", seed), journal.of("timed", 0)
    if len(replayed) < TRIALS:
        return None
    rates = [item["wall_seconds"] / item["trials"] for item in timed]
    return peer.hypervolumes(replayed, baseline)[-1], TRIALS * statistics.median(rates) if rates else None


def compared(journal: Journal, seed: int, baseline: float) -> Record | None:
    """Ours beside the reference for one seed. ``seconds`` is infinite where our trials never reached its figure."""
    known, ours = reference(journal, seed, baseline), journal.of("ours", seed)
    if known is None:
        return None
    wanted, wall = known
    result: Record = {"seed": seed, "reference_hypervolume": wanted, "reference_seconds": wall}
    if ours:
        last = ours[-1]
        areas, times = last["hypervolume"], last["finished_at"]
        first = next((at for at, area in enumerate(areas) if area >= wanted), None)
        seconds = float("inf") if first is None else times[first]
        result |= {
            "our_seconds": seconds,
            "our_complete_trials": first + 1 if first is not None else None,
            "our_hypervolume_at_the_end": areas[-1],
            "our_wall_seconds": last["wall_seconds"],
            "our_trials": last["trials"],
            "our_stopped": last["stopped"],
            "ratio": None if wall is None else wall / seconds,
        }
    return result


def summary(journal: Journal, seeds: Sequence[int], baseline: float) -> Record:
    rows = [row for seed in seeds if (row := compared(journal, seed, baseline))]
    ratios = [row["ratio"] for row in rows if row.get("ratio") is not None]
    how = "measured" if any(journal.of("real", seed) for seed in seeds) else f"{TRIALS} x the seconds of a timed trial"
    return {
        "reference_wall_time": how,
        "seeds": rows,
        "ratio_median": statistics.median(ratios) if ratios else None,
        **facts(),
    }


def arguments_of() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", required=True, help="folder with train/<class>/ and test/<class>/ images")
    parser.add_argument("--file", required=True, type=Path, help="journal of what is done, to go on from")
    parser.add_argument("--base", help="weights of the trained ResNet-20; default: the cached or newly trained one")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    parser.add_argument("--steps", nargs="+", choices=("replay", "timed", "ours"), default=["replay", "timed", "ours"])
    parser.add_argument("--real", action="store_true", help="run the reference itself for all its trials")
    parser.add_argument("--timed", type=int, default=20, help="real trials of the reference that give its pace")
    parser.add_argument("--trials", type=int, default=100, help="trials of ours at most")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="changes to our launch file")
    return parser.parse_args()


def main() -> None:
    arguments = arguments_of()
    torch.set_num_threads(1)
    arguments.root = os.path.abspath(arguments.root)
    overrides = [f"space.data.root={arguments.root}", f"limits.trials={arguments.trials}", "racing={}", *arguments.set]
    overrides += [f"space.base.checkpoint={arguments.base}"] if arguments.base else []
    prepared = prepare(load_search("launch/cifar10_resnet20.yaml", overrides), Silent())
    journal = Journal(arguments.file)
    baseline = tp_macs(prepared.base.module)
    if arguments.real:
        for seed in arguments.seeds:
            if not journal.of("real", seed):
                real(journal, arguments, seed, TRIALS, "real")
    elif "replay" in arguments.steps:
        for seed in arguments.seeds:
            replay(journal, prepared_for(prepared, seed), seed, TRIALS)
    if "timed" in arguments.steps and not arguments.real and not journal.of("timed", 0):
        real(journal, arguments, 0, arguments.timed, "timed")
    if "ours" in arguments.steps:
        for seed in arguments.seeds:
            if not journal.of("ours", seed):
                race(journal, prepared, seed, baseline)
    print(json.dumps(summary(journal, arguments.seeds, baseline), indent=2))


if __name__ == "__main__":
    main()
