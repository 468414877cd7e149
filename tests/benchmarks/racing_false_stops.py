"""How often racing stops a trial that full evaluation would have put on the front, beside the confidence it states.

    python tests/benchmarks/racing_false_stops.py                             simulated answers
    python tests/benchmarks/racing_false_stops.py --name SEARCH [--store URL]  a stored search's models on its images
    python tests/benchmarks/racing_false_stops.py --name SEARCH --counts       its top1 values, answers in random order

Three tables. *Hardest case* (simulated): every trial's final top1 equals its rival's, so that every stop is false.
*Searches* (simulated): 200 candidates whose answers to the same images are correlated, raced one after another.
*Stored search*: the answers of real pruned models, raced in the order of the search, over many orders of the images.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from autoprune.config.schema import RacingConfig
from autoprune.data.dataset import Split
from autoprune.driver.observers import LiveFront
from autoprune.driver.racing import Bound, Racing
from autoprune.types import Candidate, Measurement, Objective, Trial, TrialState

OBJECTIVES = (Objective("top1", "max"), Objective("macs", "min"))
CONFIDENCES = (0.9, 0.95, 0.99)


def balanced(labels: np.ndarray, seed: int) -> np.ndarray:
    """The order in which an evaluator with this seed sees images with these labels."""
    return Split(np.arange(len(labels))[:, None, None, None], labels).take(len(labels), seed).images.ravel()


# --- the hardest case ------------------------------------------------------------------------------------------------


def hardest(labels: np.ndarray, answers: np.ndarray, step: int, first: int, orders: int) -> list[float]:
    """Percent of the class-balanced orders in which these answers are stopped for a rival of equal top1."""
    total, looks = len(labels), [seen for seen in range(step, len(labels), step) if seen >= first]
    counts = np.stack([np.cumsum(answers[balanced(labels, seed)])[np.array(looks) - 1] for seed in range(orders)])
    rates = []
    for confidence in CONFIDENCES:
        limits = _limits(Bound(total, confidence), looks, int(answers.sum()))
        rates.append(100 * float((counts <= limits).any(axis=1).mean()))
    return rates


def _limits(bound: Bound, looks: Sequence[int], rival: int) -> np.ndarray:
    """(looks,) the most correct answers with which a trial is stopped at each look; -1: never."""
    limits = []
    for before, seen in zip((0, *looks), looks, strict=False):
        low, high = -1, seen + 1
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (middle, high) if bound.upper(middle, seen, before) < rival else (low, middle)
        limits.append(low)
    return np.array(limits)


def hardest_cases() -> Iterator[tuple[str, np.ndarray, np.ndarray, int, int]]:
    """Name, labels, answers, images between looks, images before the first."""
    random = np.random.default_rng(0)
    ten = np.arange(2000) % 10
    for top1 in (0.6, 0.9):
        yield f"2000 images, 10 classes, all at top1 {top1}", ten, _right(ten, np.full(10, top1), random), 250, 200
    spread = np.linspace(0.4, 1.0, 10)
    yield "2000 images, 10 classes at top1 0.4 to 1", ten, _right(ten, spread, random), 250, 200
    hundred = np.arange(2000) % 100
    yield "2000 images, 100 classes, all at 0.6", hundred, _right(hundred, np.full(100, 0.6), random), 250, 200
    digits = np.arange(288) % 10
    yield "288 images, 10 classes, all at 0.9", digits, _right(digits, np.full(10, 0.9), random), 32, 64
    many = np.arange(2000) % 200
    yield (
        "2000 images, 200 classes, all at 0.5 (fewest a class)",
        many,
        _right(many, np.full(200, 0.5), random),
        250,
        200,
    )
    pairs = np.arange(2000) % 1000
    yield "2000 images, 1000 classes, all at 0.5 (refused)", pairs, _right(pairs, np.full(1000, 0.5), random), 250, 200


def _right(labels: np.ndarray, top1: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Answers with this exact share right in each class."""
    answers = np.zeros(len(labels), bool)
    for label, share in enumerate(top1):
        members = random.permutation(np.flatnonzero(labels == label))
        answers[members[: round(share * len(members))]] = True
    return answers


# --- whole searches --------------------------------------------------------------------------------------------------


@dataclass
class Tally:
    """Counts over trials."""

    trials: int = 0
    entering: int = 0
    """Of which full evaluation puts this many on the front of their moment."""
    stopped: int = 0
    false: int = 0
    """Stopped although they would have entered."""
    seen: int = 0
    images: int = 0
    """Of full evaluations."""

    def row(self, name: str) -> str:
        rate = 100 * self.false / max(self.entering, 1)
        return (
            f"| {name} | {self.trials} | {self.entering} | {self.stopped} | {self.false} | {rate:.2f} % | "
            f"{100 * (1 - self.seen / self.images):.0f} % |"
        )


HEADING = (
    "| confidence | trials | would enter the front | stopped | of these falsely | false-stop rate | images saved |"
)


def race(tally: Tally, answers: np.ndarray, macs: np.ndarray, config: RacingConfig, step: int) -> None:
    """Race the candidates one after another; ``answers``: (candidates, images) bool in the order of the images."""
    total = answers.shape[1]
    racing, front = Racing(OBJECTIVES, config, total), LiveFront(OBJECTIVES)
    for number, row in enumerate(answers):
        full = {"top1": float(row.sum() / total), "macs": float(macs[number])}
        seen = _seen(racing, number, row, full, front.trials, step)
        probe = LiveFront(OBJECTIVES)
        for member in front.trials:
            probe.add(member)
        trial = Trial(number, Candidate({}), TrialState.COMPLETE, full)
        enters = probe.add(trial)
        tally.trials += 1
        tally.entering += enters
        tally.stopped += seen < total
        tally.false += enters and seen < total
        tally.seen += seen
        tally.images += total
        if seen == total:
            front = probe


def _seen(
    racing: Racing, number: int, row: np.ndarray, full: dict[str, float], front: Sequence[Trial], step: int
) -> int:
    """How many images a candidate is scored on."""
    right = np.cumsum(row)
    racing.begin(number, full)
    for seen in range(step, len(row), step):
        if not racing.goes_on(number, Measurement({"top1": right[seen - 1] / seen}, seen, 0.0, False), front):
            return seen
    return len(row)


def simulated_search(seed: int, candidates: int = 200, images: int = 2000) -> tuple[np.ndarray, np.ndarray]:
    """Answers in the order of the images, and MACs.

    An image is answered rightly when skill plus a candidate's own taste exceeds its difficulty; candidates lie on a
    curve of skill over MACs or, exponentially, below it, and each has classes that suffer more than others.
    """
    random = np.random.default_rng((seed, 7))
    labels = np.arange(images) % 10
    share = random.uniform(0.25, 1.0, candidates)
    skill = 1.6 - 0.9 * (1 - share) ** 2 / 0.5625 - random.exponential(0.35, candidates)
    suffering = random.normal(0.0, 0.35, (candidates, 10))
    taste = random.normal(0.0, 0.5, (candidates, images))
    difficulty = random.normal(0.0, 1.0, images)
    answers = skill[:, None] + suffering[:, labels] + taste > difficulty
    return answers[:, balanced(labels, seed)], share


def stored_search(name: str, store: str | None, sample: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Answers (candidates, images) of up to ``sample`` complete trials in their order, their MACs, and the labels."""
    import torch

    from autoprune.api.stores import open_at, store_url
    from autoprune.config.loading import load_search
    from autoprune.driver.assemble import prepare
    from autoprune.driver.observers import Silent
    from autoprune.training.scoring import normalise

    with open_at(store_url(store), read_only=True) as opened:
        record = opened.search(name)
        complete = opened.trials(name, states=[TrialState.COMPLETE])
    trials = list({trial.candidate.digest: trial for trial in reversed(complete)}.values())[::-1]
    prepared = prepare(load_search(record.config), Silent())
    assets = prepared.assets
    images = normalise(torch.tensor(assets.images), assets.mean, assets.std)
    trials = trials[:: max(1, len(trials) // sample)][:sample]
    answers = []
    for trial in trials:
        model = prepared.evaluator.materialise(trial.candidate)
        with torch.inference_mode():
            guesses = torch.cat([model(batch).argmax(1) for batch in images.split(250)])
        answers.append(guesses.numpy() == assets.labels)
    drift = max(abs(row.mean() - trial.metrics["top1"]) for row, trial in zip(answers, trials, strict=True))
    print(
        f"{name}: {len(trials)} models, {len(assets.labels)} images, top1 within {100 * drift:.2f} points of the store"
    )
    return np.stack(answers), np.array([trial.metrics["macs"] for trial in trials]), assets.labels


def stored_counts(name: str, store: str | None, searches: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """For each run, every complete trial of a stored search with its own top1, in a plain random order of answers.

    Racing looks at one candidate's answers at a time, so that the counts are all it needs; no model is run.
    """
    from autoprune.api.stores import open_at, store_url

    with open_at(store_url(store), read_only=True) as opened:
        images = int(opened.search(name).config["evaluator"]["validation_images"])
        trials = opened.trials(name, states=[TrialState.COMPLETE])
    right = np.array([round(trial.metrics["top1"] * images) for trial in trials])
    macs = np.array([trial.metrics["macs"] for trial in trials])
    random = np.random.default_rng(0)
    ordered = np.arange(images) < right[:, None]
    return [(random.permuted(ordered, axis=1), macs) for _ in range(searches)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--name", help="a finished search")
    parser.add_argument("--store")
    parser.add_argument("--sample", type=int, default=200, help="models of the stored search at most")
    parser.add_argument("--orders", type=int, default=10_000, help="orders of the images in the hardest case")
    parser.add_argument("--searches", type=int, default=50, help="simulated searches, or orders of the stored one")
    parser.add_argument("--counts", action="store_true", help="use the stored top1 of all trials, and run no model")
    arguments = parser.parse_args()
    if arguments.name and arguments.counts:
        runs = stored_counts(arguments.name, arguments.store, arguments.searches)
    elif arguments.name:
        answers, macs, labels = stored_search(arguments.name, arguments.store, arguments.sample)
        runs = [(answers[:, balanced(labels, seed)], macs) for seed in range(arguments.searches)]
    else:
        print("| stopped falsely at confidence | " + " | ".join(map(str, CONFIDENCES)) + " |")
        for name, *case in hardest_cases():
            rates = hardest(*case, arguments.orders)
            print(f"| {name} | " + " | ".join(f"{rate:.2f} %" for rate in rates) + " |")
        print()
        runs = [simulated_search(seed) for seed in range(arguments.searches)]
    step = max(1, runs[0][0].shape[1] // 8)
    print(HEADING)
    for confidence in CONFIDENCES:
        tally = Tally()
        for answers, macs in runs:
            race(tally, answers, macs, RacingConfig(confidence=confidence, min_images=min(200, 2 * step)), step)
        print(tally.row(str(confidence)))


if __name__ == "__main__":
    main()
