"""A search whose trials take milliseconds and misbehave on order: what the faults of tests/benchmarks/faults*.py hit.

Session, SQLite store, controllers and executors are the real ones. Every evaluation writes a line when it begins and
when it ends, into a file that outlives its process.
"""

from __future__ import annotations

import ctypes
import os
import signal
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import TypeAdapter

from autoprune.config.schema import ControllerConfig, LimitsConfig
from autoprune.controllers import registry
from autoprune.driver.session import Session
from autoprune.space.decoding import Decoder
from autoprune.store import Store, new_owner
from autoprune.testing import ToySearch, toy_space
from autoprune.types import Candidate, Measurement

__all__ = ["TOY", "FaultyEvaluator", "broken_build", "open_toy"]

TOY = ToySearch(toy_space((16, 16, 32, 32, 64, 64), multiple=1))
NAME = "toy"


class FaultyEvaluator:
    """Takes ``seconds`` (a range) a trial. ``faults``: what the first evaluations of the first candidates do instead.

    ``every``: only candidates whose digest is a multiple of it are concerned. ``always``: their fault, each time.
    """

    def __init__(self, assets: Mapping[str, Any]) -> None:
        self._assets = assets
        self._folder = Path(assets["folder"])
        self._log = os.open(self._folder / "log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)

    def evaluate(self, candidate: Candidate) -> Iterator[Measurement]:
        digest = candidate.digest
        self._say("begin", digest)
        fault = self._fault(digest)
        if fault:
            self._say(fault, digest)
            value = FAULTS[fault](self._assets)
            if value is not None:
                yield Measurement({**TOY.measure(candidate), "top1": value}, 1, 0.0, True)
                return
        low, high = self._assets.get("seconds", (0.01, 0.05))
        time.sleep(low + (high - low) * int(digest[:4], 16) / 65536)
        self._say("end", digest)
        yield Measurement(TOY.measure(candidate), 1, 0.0, True)

    def _say(self, what: str, digest: str) -> None:
        os.write(self._log, f"{what} {digest} {os.getpid()} {time.time():.6f}\n".encode())

    def _fault(self, digest: str) -> str:
        if int(digest[:8], 16) % int(self._assets.get("every", 1)):
            return ""
        if "always" in self._assets:
            return str(self._assets["always"])
        faults = self._assets.get("faults", ())
        if not faults or not self._first(f"seen-{digest}"):
            return ""
        return next((str(fault) for number, fault in enumerate(faults) if self._first(f"fault-{number}")), "")

    def _first(self, name: str) -> bool:
        """True once, in whichever process asks first."""
        try:
            os.close(os.open(self._folder / name, os.O_CREAT | os.O_EXCL))
        except FileExistsError:
            return False
        return True


def _sleep(assets: Mapping[str, Any]) -> None:
    time.sleep(600)


def _hold_the_gil(assets: Mapping[str, Any]) -> None:
    """A loop in C that never lets the interpreter go: no Python thread of this process runs again."""
    ctypes.PyDLL(None).sleep(600)


def _freeze(assets: Mapping[str, Any]) -> None:
    os.kill(os.getpid(), signal.SIGSTOP)


def _die(assets: Mapping[str, Any]) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _allocate(assets: Mapping[str, Any]) -> None:
    """Grows by ``step_mb`` every 20 ms, up to ``most_mb``: a fault must not take the machine down with it."""
    held = []
    for _ in range(int(assets["most_mb"] / assets["step_mb"])):
        held.append(np.ones(int(assets["step_mb"] * 2**20), dtype=np.uint8))
        time.sleep(0.02)
    time.sleep(5)


def _gulp(assets: Mapping[str, Any]) -> None:
    """Takes ``most_mb`` at once."""
    held = np.ones(int(assets["most_mb"] * 2**20), dtype=np.uint8)
    time.sleep(2)
    del held


FAULTS: dict[str, Callable[[Mapping[str, Any]], float | None]] = {
    "sleep": _sleep,
    "busy": _hold_the_gil,
    "freeze": _freeze,
    "die": _die,
    "allocate": _allocate,
    "gulp": _gulp,
    "nan": lambda assets: float("nan"),
    "inf": lambda assets: float("inf"),
    "-inf": lambda assets: -float("inf"),
}


def broken_build(assets: Mapping[str, Any]) -> FaultyEvaluator:
    """The first ``builds`` of the evaluator do what they say: ``die``, ``sleep``, ``busy``, ``raise``."""
    folder = Path(assets["folder"])
    for number, fault in enumerate(assets["builds"]):
        try:
            os.close(os.open(folder / f"build-{number}", os.O_CREAT | os.O_EXCL))
        except FileExistsError:
            continue
        if fault == "raise":
            raise ValueError("no such checkpoint: base.pt")
        FAULTS[fault](assets)
    return FaultyEvaluator(assets)


def open_toy(
    store: Store,
    *,
    name: str = NAME,
    controller: Mapping[str, Any] | None = None,
    trials: int = 100,
    seed: int = 0,
    ttl_seconds: float = 30.0,
    evaluation_digest: str = "toy",
    **limits: Any,
) -> Session:
    """A session on the toy search, which is created when it does not exist. Raises Conflict as the real one does."""
    config: Any = TypeAdapter(ControllerConfig).validate_python(controller or {"kind": "random"})
    record = store.create_search(
        name,
        config={"name": name},
        digest="toy",
        evaluation_digest=evaluation_digest,
        baseline=TOY.measure(TOY.space.full()),
        channels=TOY.space.full().widths,
    )
    decoder = Decoder(TOY.space, TOY.constraints, objectives=TOY.objectives, tolerance=0.02)
    lease = store.claim(name, owner=new_owner(), ttl_seconds=ttl_seconds)
    try:
        return Session(
            store=store,
            search=record,
            lease=lease,
            controller=registry.make(
                config, space=TOY.space, decoder=decoder, objectives=TOY.objectives, trials=trials, seed=seed
            ),
            decoder=decoder,
            space=TOY.space,
            objectives=TOY.objectives,
            constraints=TOY.constraints,
            limits=LimitsConfig(trials=trials, **limits),
        )
    except BaseException:
        store.release(lease)
        raise
