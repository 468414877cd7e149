"""A space of three groups, a controller and an evaluator small enough to predict by hand."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from autoprune.config.schema import LimitsConfig
from autoprune.driver.session import Session
from autoprune.driver.stopping import Stopper
from autoprune.errors import ConfigError
from autoprune.store import Store, new_owner
from autoprune.types import Candidate, Constraint, Measurement, Objective, Proposal, Trial

CHANNELS = {"a": 16, "b": 16, "c": 16}
OBJECTIVES = (Objective("top1", "max"), Objective("macs", "min"))


class ToyCost:
    """macs = the sum of the widths times 10."""

    @property
    def baseline(self) -> dict[str, float]:
        return self.measure(Candidate(CHANNELS))

    def measure(self, candidate: Candidate) -> dict[str, float]:
        total = float(sum(candidate.widths.values()))
        return {"macs": 10 * total, "params": total}


class ToySpace:
    cost = ToyCost()

    def validate(self, candidate: Candidate) -> None:
        for name, width in candidate.widths.items():
            if name not in CHANNELS or not 1 <= width <= CHANNELS[name]:
                raise ConfigError(f"group {name!r}: width {width} is not allowed; allowed are 1 to 16.")


class ToyDecoder:
    """Everything infeasible becomes the smallest candidate."""

    def decode(self, candidate: Candidate) -> Candidate:
        return Candidate(dict.fromkeys(CHANNELS, 1))


class ToyController:
    """Widths from (seed, number) and from the sum of all top1 told: a wrong history shows in every later proposal."""

    def __init__(self, seed: int = 0, script: Mapping[int, Candidate] | None = None, length: int | None = None) -> None:
        self.seed, self.script, self.length = seed, script or {}, length
        self.told: list[Trial] = []
        self.asked = 0
        self.score = 0.0

    @property
    def exhausted(self) -> bool:
        return self.length is not None and self.asked >= self.length

    def ask(self, number: int) -> Proposal | None:
        if self.exhausted:
            return None
        self.asked = number + 1
        if number in self.script:
            return Proposal(self.script[number])
        text = f"{self.seed} {number} {self.score:.9f}"
        rng = np.random.default_rng(list(hashlib.sha256(text.encode()).digest()))
        return Proposal(Candidate({name: int(rng.integers(1, 17)) for name in CHANNELS}), {"drawn": number})

    def tell(self, trial: Trial) -> None:
        self.told.append(trial)
        self.score += trial.metrics.get("top1", 0.0)

    def state(self) -> dict[str, Any]:
        return {"asked": self.asked, "score": self.score}

    def load_state(self, state: Mapping[str, Any], history: Sequence[Trial]) -> None:
        self.asked, self.score = int(state["asked"]), float(state["score"])
        self.told = [trial for trial in history if trial.state.finished]


def top1_of(candidate: Candidate) -> float:
    """Grows with the widths, with a ripple from the digest so that fronts are not trivial."""
    return sum(candidate.widths.values()) / 64 + int(candidate.digest[:4], 16) / 65536 / 4


class ToyEvaluator:
    def __init__(self, score: Callable[[Candidate], float] = top1_of, seconds: float = 0.0, steps: int = 1) -> None:
        self.score, self.seconds, self.steps = score, seconds, steps
        self.ran: list[Candidate] = []

    def evaluate(self, candidate: Candidate) -> Iterator[Measurement]:
        self.ran.append(candidate)
        for step in range(1, self.steps + 1):
            time.sleep(self.seconds)
            yield Measurement(
                {"top1": self.score(candidate)}, step, self.seconds, step == self.steps, {"evaluate": 0.1}
            )


class Recorder:
    def __init__(self) -> None:
        self.trials: list[Trial] = []
        self.fronts: list[list[int]] = []

    def on_trial(self, trial: Trial) -> None:
        self.trials.append(trial)

    def on_front(self, front: Sequence[Trial]) -> None:
        self.fronts.append([trial.number for trial in front])


def open_session(
    store: Store,
    controller: Any = None,
    *,
    name: str = "toy",
    trials: int = 20,
    constraints: Sequence[Constraint] = (),
    evaluation_digest: str = "evaluation",
    observers: Sequence[Any] = (),
    ttl_seconds: float = 60.0,
    stopper: Stopper | None = None,
    **limits: Any,
) -> Session:
    """A session on a search that is created when it does not exist."""
    record = store.create_search(
        name, config={}, digest="config", evaluation_digest=evaluation_digest, baseline={"top1": 0.9, "macs": 480.0}
    )
    space: Any = ToySpace()
    decoder: Any = ToyDecoder()
    return Session(
        store=store,
        search=record,
        lease=store.claim(name, owner=new_owner(), ttl_seconds=ttl_seconds),
        controller=controller or ToyController(),
        decoder=decoder,
        space=space,
        objectives=OBJECTIVES,
        constraints=constraints,
        limits=LimitsConfig(trials=trials, **limits),
        observers=observers,
        stopper=stopper,
    )


def history(store: Store, name: str = "toy") -> list[tuple[int, str, str, float | None]]:
    """What must be equal between a cut and an uncut search."""
    return [(t.number, t.state.value, t.candidate.digest, t.metrics.get("top1")) for t in store.trials(name)]
