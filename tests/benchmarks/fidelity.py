"""What fine-tuning a trial brings, and what ASHA saves: rewards, searches and ranks, on the digits.

    OMP_NUM_THREADS=1 python tests/benchmarks/fidelity.py --file fidelity.jsonl --out results/fidelity-digits

Every step is appended to ``--file``, and a second call goes on where the first one stopped. Times are processor time of
one process with one thread, so other work on the machine counts little.

record    64 candidates drawn as random search draws, each fine-tuned for 4 epochs and scored after every one.
rewards   ASHA over the recorded candidates in 40 random orders, with several ideas of what a rung compares; and how
          earlier scores rank these candidates, beside those after the last epoch.
searches  20 trials by the launch file's controller, one seed: calibrated only, 1 epoch, 4 epochs, 4 epochs with
          ASHA. The best within half of the MACs is then trained to its end and scored on the test split.
ranks     candidates of all sizes trained to their end, beside what each fidelity says of them.
alike     the same of candidates at a quarter of the MACs.
"""

from __future__ import annotations

import argparse
import csv
import json
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy import stats

from autoprune.api.comparing_plan import plan_run
from autoprune.api.training_materials import materials
from autoprune.config.loading import load_search
from autoprune.controllers.drawing import Aim, draw
from autoprune.driver.assemble import Prepared, prepare
from autoprune.driver.halving import rewards
from autoprune.driver.observers import Silent
from autoprune.driver.running import run_session
from autoprune.executors.ray_asha import AshaRule
from autoprune.retraining.arms import FinetuneRewind
from autoprune.retraining.runs import RUN, make_retrainer
from autoprune.space import Decoder
from autoprune.store import open_store
from autoprune.types import Candidate, TrialState

LAUNCH = "launch/quickstart.yaml"
EPOCHS, GRACE, ETA = 4, 1, 3.0
RECORDED, ORDERS, TRIALS, SEEDS = 64, 40, 20, (0,)
ALIKE, SHARE = 12, 0.25
MODES = {
    "calibrate": "calibrate",
    "1 epoch": "{epochs: 1}",
    "4 epochs": "{epochs: 4, asha: false}",
    "4 epochs, ASHA": "{epochs: 4}",
}
Record = dict[str, Any]


class Journal:
    """Lines of JSON by key."""

    def __init__(self, path: Path) -> None:
        self._path = path
        lines = path.read_text().splitlines() if path.exists() else []
        self.records: dict[str, Record] = {item["key"]: item for item in map(json.loads, lines)}

    def once(self, key: str, make: Callable[[], Record]) -> Record:
        if key not in self.records:
            self.records[key] = {"key": key, **make()}
            with self._path.open("a") as file:
                file.write(json.dumps(self.records[key]) + "\n")
            print(json.dumps(self.records[key])[:200], flush=True)
        return self.records[key]


def prepared_for(fidelity: str, seed: int = 0) -> Prepared:
    settings = [f"fidelity={fidelity}", "executor.kind=serial", f"limits.trials={TRIALS}", f"seed={seed}"]
    return prepare(load_search(LAUNCH, settings), Silent())


def measured(prepared: Prepared, candidate: Candidate) -> Record:
    *_, last = prepared.evaluator.evaluate(candidate)
    return {**last.metrics, **prepared.space.cost.measure(candidate), "widths": dict(candidate.widths)}


# --- rewards ---------------------------------------------------------------------------------------------------------


def drawn(prepared: Prepared, number: int) -> Candidate:
    aim = Aim(prepared.decoder, prepared.config.parsed_objectives())
    return draw(prepared.space, aim, np.random.default_rng((7, number)))


def recorded(journal: Journal) -> list[Record]:
    prepared = prepared_for(MODES["4 epochs"])
    return [
        journal.once(f"recorded {number}", lambda number=number: measured(prepared, drawn(prepared, number)))
        for number in range(RECORDED)
    ]


def on_front(macs: np.ndarray, top1: np.ndarray) -> np.ndarray:
    """Places of the points that no other is better than in one and as good as in the other."""
    as_good = (macs[None, :] <= macs[:, None]) & (top1[None, :] >= top1[:, None])
    better = (macs[None, :] < macs[:, None]) | (top1[None, :] > top1[:, None])
    return np.flatnonzero(~(as_good & better).any(axis=1))


def log_odds(top1: np.ndarray, images: int) -> np.ndarray:
    return np.log((top1 * images + 0.5) / ((1 - top1) * images + 0.5))


def line_residual(top1: np.ndarray, costs: np.ndarray, images: int) -> np.ndarray:
    """Log-odds above a line over log MACs, with the median slope of all pairs (Theil and Sen), at least 0."""
    x, y = np.log(costs[:, 0]), log_odds(top1, images)
    i, j = np.triu_indices(len(x), 1)
    apart = np.abs(x[j] - x[i]) > 1e-9
    slope = max(float(np.median((y[j] - y[i])[apart] / (x[j] - x[i])[apart])), 0.0) if apart.any() else 0.0
    return np.asarray(y - slope * x)


def layers(top1: np.ndarray, costs: np.ndarray, images: int) -> np.ndarray:
    """Minus the number of fronts that must be taken away first (as in multi-objective ASHA, Schmucker et al. 2021)."""
    rank, left = np.zeros(len(top1)), np.arange(len(top1))
    for layer in range(len(top1)):
        front = on_front(costs[left, 0], top1[left])
        rank[left[front]] = -layer
        left = np.delete(left, front)
    return rank


def neighbours(top1: np.ndarray, costs: np.ndarray, images: int) -> np.ndarray:
    """The share of the 8 nearest in MACs that it beats."""
    x, found = np.log(costs[:, 0]), np.zeros(len(top1))
    for i in range(len(x)):
        near = np.argsort(np.where(np.arange(len(x)) == i, np.inf, np.abs(x - x[i])), kind="stable")[
            : min(8, len(x) - 1)
        ]
        found[i] = np.mean((top1[near] < top1[i]) + 0.5 * (top1[near] == top1[i])) if len(near) else 0.5
    return found


REWARDS = {
    "top1": lambda top1, costs, images: top1,
    "above a line over MACs": line_residual,
    "beats its neighbours in MACs": neighbours,
    "number of fronts above it": layers,
    "below the best at no more MACs (ours)": rewards,
}


def compare_rewards(rows: Sequence[Record], images: int) -> list[Record]:
    rule = AshaRule(EPOCHS, GRACE, ETA)
    macs, final = np.array([row["macs"] for row in rows]), np.array([row["top1"] for row in rows])
    front = on_front(macs, final)
    thirds = np.searchsorted(np.quantile(macs, [1 / 3, 2 / 3]), macs)
    table = []
    for name, reward in REWARDS.items():
        runs = []
        for seed in range(ORDERS):
            epochs = halved(rows, reward, rule, images, np.random.default_rng(seed).permutation(len(rows)))
            done, stopped = np.flatnonzero(epochs == EPOCHS), epochs < EPOCHS
            share = hypervolume(macs[done], final[done], macs.max()) / hypervolume(macs, final, macs.max())
            runs.append(
                [epochs.mean() / EPOCHS, *(stopped[thirds == k].mean() for k in range(3)), stopped[front].mean(), share]
            )
        names = ("epochs", "stopped small", "stopped middle", "stopped large", "front stopped", "hypervolume")
        table.append({"reward": name, **dict(zip(names, np.mean(runs, axis=0).round(4).tolist(), strict=True))})
    return table


def halved(
    rows: Sequence[Record], reward: Callable[..., np.ndarray], rule: AshaRule, images: int, order: np.ndarray
) -> np.ndarray:
    """(N,): epochs of each trial when they come one after another in this order."""
    epochs = np.full(len(rows), EPOCHS)
    reached: dict[int, list[int]] = {rung: [] for rung in rule.rungs}
    for trial in order:
        for rung, there in reached.items():
            there.append(int(trial))
            top1 = np.array([rows[each][f"top1_epoch{rung}"] for each in there])
            costs = np.array([[rows[each]["macs"]] for each in there])
            *theirs, own = reward(top1, costs, images).tolist()
            if rule.stops(rung, own, theirs):
                epochs[trial] = rung
                break
    return epochs


def hypervolume(macs: np.ndarray, top1: np.ndarray, most: float, least: float = 0.6) -> float:
    """Area above (top1 0.6, most MACs)."""
    order = np.argsort(macs)
    best = np.maximum.accumulate(np.maximum(top1[order], least))
    widths = np.diff([*macs[order], most])
    return float(((best - least) * widths).sum())


# --- searches --------------------------------------------------------------------------------------------------------


def run_search(fidelity: str, seed: int) -> Record:
    prepared = prepared_for(fidelity, seed)
    _ = prepared.evaluator
    with tempfile.TemporaryDirectory() as folder, open_store(f"sqlite:///{folder}/a.db") as store:
        began = time.process_time()
        run_session(store, prepared, Silent())
        seconds = time.process_time() - began
        trials = store.trials(prepared.config.name)
    complete = [trial for trial in trials if trial.state is TrialState.COMPLETE]
    macs, top1 = (np.array([trial.metrics[name] for trial in complete]) for name in ("macs", "top1"))
    full = prepared.space.cost.baseline["macs"]
    best = max((t for t in complete if t.metrics["macs"] <= 0.5 * full), key=lambda trial: trial.metrics["top1"])
    return {
        "seconds": seconds,
        "trials": len(trials),
        "stopped": len(trials) - len(complete),
        "hypervolume": hypervolume(macs, top1, full) / (0.4 * full),
        "best": best.metrics["top1"],
        "macs": best.metrics["macs"] / full,
        **trained(prepared, best.candidate, seed),
    }


def trained(prepared: Prepared, candidate: Candidate, seed: int = 0) -> Record:
    """Trained to its end by ``finetune_rewind``."""
    recipe = prepared.config.space.base.recipe
    run = plan_run(prepared, candidate.widths, FinetuneRewind(), seed, recipe, 1.0)
    *_, last = make_retrainer(materials(prepared, [run])).evaluate(Candidate({RUN: 0}))
    return {"final_top1": last.metrics["top1"], "final_test_top1": last.metrics["test_top1"]}


# --- ranks -----------------------------------------------------------------------------------------------------------


def ranked(journal: Journal, rows: Sequence[Record], steps: Sequence[str]) -> dict[str, list[Record]]:
    """Candidates of all sizes, or of one size, with what each fidelity and the end of the training say of them."""
    if not {"ranks", "alike"} & set(steps):
        return {}
    long, short = prepared_for(MODES["4 epochs"]), prepared_for(MODES["1 epoch"])
    by_size = sorted(rows, key=lambda row: row["macs"])
    chosen = [Candidate(row["widths"]) for row in by_size[2 :: len(by_size) // ALIKE]][:ALIKE]
    aim, rng = Aim(Decoder(long.space, ()), ()), np.random.default_rng(11)
    macs = SHARE * long.space.cost.baseline["macs"]
    low, high = long.decoder.cost_range("macs")
    alike = [aim.place(rng.uniform(-1, 1, len(long.space.dimensions)), (macs - low) / (high - low)) for _ in chosen]

    def row(candidate: Candidate) -> Record:
        found = measured(long, candidate)
        return {
            "macs": found["macs"] / long.space.cost.baseline["macs"],
            "calibrate": found["top1_calibrated"],
            "1 epoch": measured(short, candidate)["top1"],
            "4 epochs": found["top1"],
            **trained(long, candidate),
        }

    def rows_of(name: str, candidates: Sequence[Candidate]) -> Iterator[Record]:
        for number, candidate in enumerate(candidates):
            yield journal.once(f"ranked {name} {number}", lambda candidate=candidate: row(candidate))

    found = {}
    if "ranks" in steps:
        found["all sizes"] = list(rows_of("all sizes", chosen))
    if "alike" in steps:
        found[f"{100 * SHARE:.0f} % of the MACs"] = list(rows_of("one size", alike))
    return found


def tau(first: Sequence[float], second: Sequence[float]) -> tuple[float, float, float]:
    """Kendall's tau-b and its 95 % bootstrap interval over the candidates."""
    a, b, rng = np.array(first), np.array(second), np.random.default_rng(0)
    drawn_taus = []
    for _ in range(2000):
        chosen = rng.integers(0, len(a), len(a))
        drawn_taus.append(stats.kendalltau(a[chosen], b[chosen]).statistic)
    low, high = np.nanquantile(drawn_taus, [0.025, 0.975])
    return float(stats.kendalltau(a, b).statistic), float(low), float(high)


# --- tables ----------------------------------------------------------------------------------------------------------


def write(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    print(path.read_text())


def agreement(rows: Sequence[Record]) -> list[Record]:
    """Kendall's tau between what was known earlier and the top1 after the last epoch, by size."""
    macs = np.array([row["macs"] for row in rows])
    thirds = np.searchsorted(np.quantile(macs, [1 / 3, 2 / 3]), macs)
    groups = {"all": thirds >= 0, **{name: thirds == k for k, name in enumerate(("small", "middle", "large"))}}
    table = []
    for name, chosen in groups.items():
        some = [row for row, taken in zip(rows, chosen, strict=True) if taken]
        last = [row["top1"] for row in some]
        taus = {
            f"tau {key}": round(tau([row[key] for row in some], last)[0], 2)
            for key in ("macs", "top1_calibrated", *(f"top1_epoch{epoch}" for epoch in range(1, EPOCHS)))
        }
        means = {f"mean {key}": round(float(np.mean([r[key] for r in some])), 3) for key in ("top1_calibrated", "top1")}
        table.append({"candidates": name, "count": len(some), **taus, **means})
    return table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--file", type=Path, default=Path("fidelity.jsonl"))
    parser.add_argument("--out", type=Path, default=Path("results/fidelity-digits"))
    parser.add_argument("--steps", nargs="+", default=["rewards", "searches", "ranks", "alike"])
    args = parser.parse_args()
    torch.set_num_threads(1)
    args.out.mkdir(parents=True, exist_ok=True)
    journal = Journal(args.file)
    rows = recorded(journal)
    if "rewards" in args.steps:
        images = len(prepared_for("calibrate").assets.labels)
        write(args.out / "rewards.csv", compare_rewards(rows, images))
        write(args.out / "agreement.csv", agreement(rows))
    if "searches" in args.steps:
        found = []
        for seed in SEEDS:
            for mode, fidelity in MODES.items():
                record = journal.once(f"search {mode} {seed}", lambda: run_search(fidelity, seed))  # noqa: B023
                found.append({"fidelity": mode, "seed": seed, **{k: v for k, v in record.items() if k != "key"}})
                write(args.out / "searches.csv", found)
    if groups := ranked(journal, rows, args.steps):
        write_ranks(groups, args.out)


def write_ranks(groups: Mapping[str, Sequence[Record]], folder: Path) -> None:
    taus = []
    for name, candidates in groups.items():
        for proxy in ("calibrate", "1 epoch", "4 epochs"):
            for end in ("final_top1", "final_test_top1"):
                values = tau([row[proxy] for row in candidates], [row[end] for row in candidates])
                numbers = dict(zip(("tau", "low", "high"), (round(value, 3) for value in values), strict=True))
                taus.append({"candidates": name, "fidelity": proxy, "final": end, **numbers})
        kept = [{key: value for key, value in row.items() if key != "key"} for row in candidates]
        write(folder / f"ranked-{name.split()[0]}.csv", kept)
    write(folder / "ranks.csv", taus)


if __name__ == "__main__":
    main()
