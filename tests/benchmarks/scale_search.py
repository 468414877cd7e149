"""A search of any size without a network: the real session, store and space, an evaluator that only pretends.

Imported by ``scale.py``, which runs each segment of a search in a process of its own.
"""

from __future__ import annotations

import json
import resource
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TextIO, cast

import numpy as np

from autoprune.bench.memory import resident_mb
from autoprune.cli.progress import LineProgress
from autoprune.config.loading import load_search, load_space
from autoprune.config.schema import LimitsConfig, SearchConfig
from autoprune.controllers import make
from autoprune.driver.assemble import make_space
from autoprune.driver.session import Session
from autoprune.executors.simulated import SimulatedExecutor
from autoprune.space import Decoder, SearchSpace
from autoprune.store import Store, new_owner, open_store
from autoprune.testing import toy_space
from autoprune.types import Candidate, Measurement

__all__ = ["NAME", "Pretended", "segment", "space_of"]

ROOT = Path(__file__).resolve().parents[2]
NAME = "scale"
_WINDOWS = 5
_REFERENCES = 200
_SECONDS, _SPREAD = 60.0, 0.5
"""Median of a trial on the virtual clock, and the standard deviation of its logarithm."""


def space_of(groups: int) -> SearchSpace:
    """ResNet-20's twelve groups, or a chain of as many convolutions as asked for."""
    if groups == 12:
        return make_space(load_space(ROOT / "search_spaces" / "cifar10_resnet20.yaml"))
    third = groups // 3
    return toy_space((64,) * (groups - 2 * third) + (128,) * third + (256,) * third, multiple=4, floor=0.25)


class Pretended:
    """top1 falls with each group's logarithm of what it keeps, more in some groups than in others, and is noisy like a
    count of 2,000 images; equal candidates measure equally. Trials take log-normal times."""

    def __init__(self, space: SearchSpace) -> None:
        self._space = space
        self._full = np.array([item.channels for item in space.dimensions], dtype=float)
        slopes = np.exp(np.random.default_rng(0).normal(0.0, 0.8, len(self._full)))
        self._slopes = 1.2 * slopes / slopes.sum()

    def evaluate(self, candidate: Candidate) -> Iterator[Measurement]:
        return iter([self._measured(candidate)])

    def _measured(self, candidate: Candidate) -> Measurement:
        noise = np.array([[(int(candidate.digest[at : at + 8], 16) + 0.5) / 2**32 for at in (0, 8)]])
        top1, seconds = self.measured(self._space.vector(candidate)[None], noise)
        return self.measurement(float(top1[0]), float(seconds[0]))

    def measured(self, widths: np.ndarray, noise: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Widths (N, G), two uniform numbers each (N, 2) -> top1 and seconds, (N,)."""
        mean = 1.0 / (1.0 + np.exp(-(2.4 + 2.0 * (np.log(widths / self._full) @ self._slopes))))
        radius, angle = np.sqrt(-2 * np.log(noise[:, 0])), 2 * np.pi * noise[:, 1]  # Box and Muller (1958)
        right = np.round(2000 * mean + radius * np.cos(angle) * np.sqrt(2000 * mean * (1 - mean)))
        return np.clip(right, 0, 2000) / 2000, _SECONDS * np.exp(_SPREAD * radius * np.sin(angle))

    @staticmethod
    def measurement(top1: float, seconds: float) -> Measurement:
        timings = {"slice": 0.0046, "calibrate": 0.4 * seconds, "evaluate": 0.6 * seconds}
        return Measurement({"top1": top1, "loss": 1.2 * (1 - top1)}, 2000, seconds, True, timings)


@dataclass
class Spent:
    """Seconds by part, where the clock was running: parts that call each other count twice."""

    seconds: dict[str, float] = field(default_factory=lambda: defaultdict(float))

    def watch(self, owner: object, method: str, part: str) -> None:
        """Count the seconds of ``owner.method`` as this part's."""
        inner: Callable[..., Any] = getattr(owner, method)

        def timed(*given: Any, **named: Any) -> Any:
            began = time.perf_counter()
            try:
                return inner(*given, **named)
            finally:
                self.seconds[part] += time.perf_counter() - began

        setattr(owner, method, timed)


@dataclass
class Marks:
    """At every window, what a trial has cost since the last one: from the first result, when all slots are busy, to
    the last proposal."""

    spent: Spent
    every: int
    last: int
    done: int
    finished: int = 0
    rows: list[dict[str, Any]] = field(default_factory=list)
    _begun: tuple[float, float, dict[str, float], int] = (0.0, 0.0, {}, 0)

    def begin(self) -> None:
        self._begun = (time.process_time(), time.perf_counter(), dict(self.spent.seconds), self.finished)

    def on_trial(self, trial: Any) -> None:
        self.finished += trial.state.finished
        if not trial.state.finished or self.finished > self.last:
            return
        if self.finished == 1:
            self.begin()
        elif self.finished % self.every == 0:
            self._mark()

    def on_front(self, front: Any) -> None:
        """Nothing: the progress counts."""

    def _mark(self) -> None:
        """One row for the last window."""
        busy, clock, before, count = self._begun
        trials = self.finished - count
        wall = time.perf_counter() - clock
        parts = {
            part: round(1e6 * (seconds - before.get(part, 0.0)) / trials, 1)
            for part, seconds in sorted(self.spent.seconds.items())
        }
        self.rows.append(
            {
                "finished": self.done + self.finished,
                "reference_us": reference(),
                "cpu_us": round(1e6 * (time.process_time() - busy) / trials, 1),
                "wall_us": round(1e6 * wall / trials, 1),
                "parts_wall_us": parts,
                "rss_mb": round(resident_mb(), 1),
            }
        )
        print(json.dumps(self.rows[-1]), file=sys.stderr, flush=True)
        self.begin()


def reference() -> float:
    """Microseconds of processor time of a fixed piece of work, like a driver's: what a busy machine makes slower."""
    began = time.process_time()
    rows = np.arange(1536.0).reshape(128, 12)
    for number in range(_REFERENCES):
        text = json.dumps({f"layer{at}.conv1": number + at for at in range(12)})
        sum(json.loads(text).values())
        np.exp(rows @ rows.T)[0].searchsorted(0.5)
    return round(1e6 * (time.process_time() - began) / _REFERENCES, 1)


def _config(controller: Mapping[str, Any], trials: int) -> SearchConfig:
    config = load_search(ROOT / "launch" / "cifar10_resnet20.yaml")
    content = config.model_dump(mode="json")
    content |= {"name": NAME, "controller": dict(controller), "constraints": [], "limits": {"trials": trials}}
    content["objectives"] = ["top1 max", "macs min"]
    return SearchConfig.model_validate(content)


def _session(store: Store, config: SearchConfig, space: SearchSpace, observers: list[Any], spent: Spent) -> Session:
    record = store.create_search(
        NAME,
        config=config.model_dump(mode="json"),
        digest="scale",
        evaluation_digest="scale",
        baseline={"top1": 0.917, "loss": 0.1, **space.cost.baseline},
        channels=space.full().widths,
    )
    objectives = config.parsed_objectives()
    decoder = Decoder(space, (), objectives=objectives)
    controller = make(
        config.controller, space=space, decoder=decoder, objectives=objectives, trials=config.limits.trials, seed=0
    )
    for owner, method, part in (
        (controller, "ask", "controller: ask"),
        (controller, "tell", "controller: tell"),
        (controller, "load_state", "controller: restore"),
        (store, "lookup", "store: lookup"),
        (store, "start_trial", "store: start"),
        (store, "finish_trial", "store: finish"),
    ):
        spent.watch(owner, method, part)
    return Session(
        store=store,
        search=record,
        lease=store.claim(NAME, owner=new_owner(), ttl_seconds=60.0),
        controller=controller,
        decoder=decoder,
        space=space,
        objectives=objectives,
        constraints=(),
        limits=LimitsConfig(trials=config.limits.trials),
        observers=observers,
    )


def segment(
    url: str, *, controller: Mapping[str, Any], groups: int, slots: int, trials: int, done: int
) -> dict[str, Any]:
    """Run the search in ``url`` from ``done`` finished trials to ``trials``: what opening it, and each trial, cost."""
    space, spent = space_of(groups), Spent()
    evaluator = Pretended(space)
    steady = max(0, trials - done - slots)
    marks = Marks(spent, max(2, steady // _WINDOWS), steady, done)
    with open_store(url) as store, Path("/dev/null").open("w") as sink:
        progress = LineProgress(cast(TextIO, sink))
        for method in ("on_trial", "on_front"):
            spent.watch(progress, method, "observers")
        before, busy, clock = resident_mb(), time.process_time(), time.perf_counter()
        session = _session(store, _config(controller, trials), space, [progress, marks], spent)
        opened = {
            "cpu_seconds": round(time.process_time() - busy, 2),
            "seconds": round(time.perf_counter() - clock, 2),
            "rss_mb": round(resident_mb() - before, 1),
            "peak_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1.024e-3 - before, 1),
        }
        spent.watch(session, "ask", "ask")
        spent.watch(session, "tell", "tell")
        spent.watch(evaluator, "evaluate", "evaluator")
        with session:
            SimulatedExecutor(evaluator, slots).run(session)
        state = store.controller_state(NAME)
    return {
        "trials": trials,
        "before_mb": round(before, 1),
        "opening": opened,
        "end_mb": round(resident_mb(), 1),
        "windows": marks.rows,
        "front": len(session.front),
        "controller_state_bytes": len(json.dumps(state)),
    }


if __name__ == "__main__":
    print(json.dumps(segment(sys.argv[1], **json.loads(sys.argv[2]))))
