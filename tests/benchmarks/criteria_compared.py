"""Which criterion, and which reconstruction, keeps most accuracy without training, and ranks networks best.

    python tests/benchmarks/criteria_compared.py measure LAUNCH --searched NAME --store URL --file trials.jsonl
    python tests/benchmarks/criteria_compared.py finetune LAUNCH --searched NAME --store URL --file finetuned.jsonl
    python tests/benchmarks/criteria_compared_report.py trials.jsonl finetuned.jsonl --out DIR

Candidates are near 70, 50 and 30 % of the MACs: uniform widths, and the best so many of a stored search. ``measure``
ranks channels by each criterion, slices, reconstructs, re-estimates BatchNorm and scores on search-val. A draw is
another choice of the training images for criterion, reconstruction and BatchNorm (for random: another seed); the
network and the scored images stay. ``finetune`` trains each candidate for a short time, from the channels of one
criterion. What the files have is not measured again.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from autoprune.api.stores import open_at
from autoprune.config.loading import load_search
from autoprune.config.recipes import Recipe
from autoprune.data.dataset import Dataset, Split
from autoprune.driver.assemble import Prepared, prepare
from autoprune.driver.observers import Silent
from autoprune.evaluators.assets import base_module
from autoprune.evaluators.evaluator import PruneEvaluator
from autoprune.evaluators.inherit import InheritSource
from autoprune.pruning import criteria
from autoprune.pruning.ranking import keep, rank
from autoprune.pruning.reconstruction import Material, Reconstructor, gather_moments, make_reconstructor
from autoprune.pruning.statistics import Statistics, collect
from autoprune.training.loop import Trainer
from autoprune.training.scoring import normalise
from autoprune.types import Candidate, TrialState

BUDGETS = (0.7, 0.5, 0.3)
KINDS = ("none", "channel", "full", "full, once")
FALLBACK = "group_l2"


class Bench:
    """One trained network: its candidates, and what is measured of them."""

    def __init__(self, prepared: Prepared, criterion_images: int) -> None:
        assets = prepared.assets
        self.prepared, self.groups = prepared, assets.groups
        self.base = base_module(assets).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.networks = PruneEvaluator(assets).networks
        self._criterion_images = criterion_images
        self._labels = torch.tensor(assets.labels)
        self._scored = list(self._batches(assets.images))

    def _batches(self, images: np.ndarray) -> Iterator[Tensor]:
        assets = self.prepared.assets
        for part in torch.tensor(images).split(assets.config.batch_size):
            yield normalise(part, assets.mean, assets.std).contiguous(memory_format=torch.channels_last)

    def images(self, count: int, draw: int) -> Split:
        return self.prepared.dataset.train.take(count, self.prepared.config.seed + draw)

    def calibration(self, draw: int) -> list[Tensor]:
        return list(self._batches(self.images(self.prepared.config.evaluator.calibration_images, draw).images))

    def statistics(self, names: Sequence[str], draw: int) -> Statistics:
        """What all the criteria need, in one pass."""
        split = self.images(self._criterion_images, draw)
        labels = torch.tensor(split.labels).split(self.prepared.assets.config.batch_size)
        needs = frozenset().union(*(criteria.get(name).needs for name in names))
        return collect(self.base, self.groups, needs, zip(self._batches(split.images), labels, strict=True))

    def rankings(self, names: Sequence[str], draw: int, folder: Path) -> dict[str, dict[str, np.ndarray]]:
        """Criterion -> group -> units, best first; kept in ``folder``."""
        path = folder / f"rankings-{self.prepared.config.name}-{self._criterion_images}-{draw}.json"
        kept = json.loads(path.read_text()) if path.exists() else {}
        missing = [name for name in names if name not in kept]
        known = self.statistics(missing, draw) if missing else Statistics({})
        for name in missing:
            criterion = criteria.get(name, seed=self.prepared.config.seed + draw)
            found = rank(self.base, self.groups, criterion, known, fallback=criteria.get(FALLBACK))
            kept[name] = {group: order.tolist() for group, order in found.items()}
        if missing:
            path.write_text(json.dumps(kept))
        return {name: {group: np.array(each) for group, each in kept[name].items()} for name in names}

    def reconstructor(self, kind: str, draw: int, images: int) -> Reconstructor | None:
        if kind == "none":
            return None
        level, _, once = kind.partition(", ")
        split = self.images(images, draw).images
        shown = list(self._batches(split))
        if not once:
            material = Material(level, 0.01, 10, True, images=split)
            return make_reconstructor(self.base, self.groups, material, torch.cat(shown))
        moments = gather_moments(self.base, self.groups, shown, 10)
        return make_reconstructor(self.base, self.groups, Material(level, 0.01, 10, True, moments=moments), None)

    def built(
        self,
        candidate: Candidate,
        ranking: Mapping[str, np.ndarray],
        reconstruct: Reconstructor | None,
        calibration: Sequence[Tensor],
        *,
        calibrates: bool,
    ) -> nn.Module:
        model = InheritSource(self.base, self.groups, ranking).build(candidate)
        if reconstruct is not None:
            reconstruct(model, keep(ranking, self.groups, candidate))
        if not calibrates:
            self.networks.network(model).calibrate(calibration)
        return model

    def top1(self, model: nn.Module) -> float:
        network = self.networks.network(model)
        network.fold()
        correct = 0
        for images, labels in zip(self._scored, self._labels.split(len(self._scored[0])), strict=True):
            correct += int((network(images).argmax(1) == labels).sum())
        return correct / len(self._labels)

    def candidates(self, searched: str, store: str, count: int) -> list[dict[str, Any]]:
        """At each budget the widest uniform candidate and the best ``count`` of the search, within 10 % below it."""
        space = self.prepared.space
        with open_at(store, read_only=True) as opened:
            trials = [trial for trial in opened.trials(searched) if trial.state is TrialState.COMPLETE]
        full = space.cost.baseline["macs"]
        even = [space.uniform(ratio) for ratio in np.linspace(0.2, 1.0, 400)]
        found = []
        for budget in BUDGETS:
            below: Callable[[Candidate], float] = lambda item: space.cost.measure(item)["macs"] / full  # noqa: E731
            chosen = max((item for item in even if below(item) <= budget), key=below)
            found.append({"budget": budget, "widths": "uniform", "candidate": chosen, "macs": below(chosen)})
            near = [trial for trial in trials if 0.9 * budget <= below(trial.candidate) <= budget]
            near.sort(key=lambda trial: -trial.metrics["top1"])
            distinct = list({trial.candidate.digest: trial.candidate for trial in near}.values())
            found += [
                {"budget": budget, "widths": f"searched {place}", "candidate": item, "macs": below(item)}
                for place, item in enumerate(distinct[:count], start=1)
            ]
        return found


class Rows:
    """A file of JSON lines that is added to."""

    def __init__(self, path: str) -> None:
        self._path = Path(path)
        lines = self._path.read_text().splitlines() if self._path.exists() else []
        self._known = {self._key(json.loads(line)) for line in lines}

    @staticmethod
    def _key(row: Mapping[str, Any]) -> str:
        return json.dumps([value for name, value in sorted(row.items()) if name not in ("top1", "before", "seconds")])

    def has(self, row: Mapping[str, Any]) -> bool:
        return self._key(row) in self._known

    def add(self, row: Mapping[str, Any]) -> None:
        self._known.add(self._key(row))
        with self._path.open("a") as file:
            file.write(json.dumps(row) + "\n")


def described(name: str, item: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "network": name,
        "budget": item["budget"],
        "widths": item["widths"],
        "macs": round(item["macs"], 4),
        "candidate": item["candidate"].digest,
    }


@torch.no_grad()
def measure(bench: Bench, items: Sequence[Mapping[str, Any]], arguments: argparse.Namespace) -> None:
    rows, name = Rows(arguments.file), bench.prepared.config.name
    for draw in range(arguments.first_draw, arguments.first_draw + arguments.draws):
        calibration = bench.calibration(draw)
        with torch.enable_grad():
            rankings = bench.rankings(arguments.criteria, draw, Path(arguments.file).parent)
        for kind in arguments.reconstructions:
            reconstruct = bench.reconstructor(kind, draw, arguments.reconstruction_images)
            calibrates = kind not in ("none", "full, once")
            for item in items:
                for each, ranking in rankings.items():
                    row = {**described(name, item), "criterion": each, "reconstruction": kind, "draw": draw}
                    if rows.has(row):
                        continue
                    started = time.process_time()
                    model = bench.built(item["candidate"], ranking, reconstruct, calibration, calibrates=calibrates)
                    row["top1"] = bench.top1(model)
                    row["seconds"] = round(time.process_time() - started, 4)
                    rows.add(row)


def finetune(bench: Bench, items: Sequence[Mapping[str, Any]], arguments: argparse.Namespace) -> None:
    """From the channels of one criterion, on the first images of the train split: a cosine to zero."""
    rows, data = Rows(arguments.file), bench.prepared.dataset
    train = bench.images(arguments.train_images or len(data.train), 0)
    scored = Split(bench.prepared.assets.images, bench.prepared.assets.labels)
    small = Dataset(train, scored, data.num_classes, data.class_names, data.mean, data.std, read_test=data.read_test)
    base = bench.prepared.config.space.base.recipe
    ranking = bench.rankings([arguments.criterion], 0, Path(arguments.file).parent)[arguments.criterion]
    for draw in range(arguments.draws):
        settings = {"epochs": arguments.epochs, "lr": arguments.lr, "schedule": "cosine", "seed": draw}
        recipe = Recipe.model_validate({**base.model_dump(), **settings, "preset": None})
        for item in items:
            schedule = f"{arguments.epochs} epochs of {len(train)} images, lr {arguments.lr:g}"
            row = {**described(bench.prepared.config.name, item), "criterion": arguments.criterion, "draw": draw}
            row["schedule"] = schedule
            if rows.has(row):
                continue
            with torch.no_grad():
                model = bench.built(item["candidate"], ranking, None, bench.calibration(0), calibrates=False)
                row["before"] = bench.top1(model)
            started = time.process_time()
            *_, last = Trainer(model.requires_grad_(True), small, recipe).run()
            row["top1"] = last.val_top1
            row["seconds"] = round(time.process_time() - started, 2)
            rows.add(row)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("measure", "finetune"))
    parser.add_argument("launch")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--searched", required=True, metavar="NAME")
    parser.add_argument("--store", required=True, metavar="URL")
    parser.add_argument("--file", required=True)
    parser.add_argument("--count", type=int, default=3, help="searched candidates a budget")
    parser.add_argument("--draws", type=int, default=3)
    parser.add_argument("--first-draw", type=int, default=0)
    parser.add_argument("--criteria", nargs="+", default=criteria.names())
    parser.add_argument("--criterion-images", type=int, default=500)
    parser.add_argument("--reconstructions", nargs="+", choices=KINDS, default=["none"])
    parser.add_argument("--reconstruction-images", type=int, default=500)
    parser.add_argument("--criterion", default=FALLBACK, help="for finetune")
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--lr", type=float, default=0.02)
    parser.add_argument("--train-images", type=int, default=0, help="0: all")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    bench = Bench(prepare(load_search(arguments.launch, arguments.set), Silent()), arguments.criterion_images)
    items = bench.candidates(arguments.searched, arguments.store, arguments.count)
    (measure if arguments.what == "measure" else finetune)(bench, items, arguments)


if __name__ == "__main__":
    main()
