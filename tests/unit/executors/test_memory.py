"""Bounds on memory: one great allocation, growth, what is left alone, and the words."""

from __future__ import annotations

import math
import subprocess
import sys
from collections.abc import Iterator

import numpy as np
import pytest

from autoprune.executors import SerialExecutor
from autoprune.executors.memory import allocations_limited, held_bytes, is_memory_error
from autoprune.types import Candidate, Measurement, Outcome, OutcomeKind, Trial, TrialState

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="RLIMIT_DATA and /proc are Linux's")

MORE = 2**28


def test_allocations_beyond_the_limit_fail_and_are_possible_again_afterwards() -> None:
    with allocations_limited(held_bytes() + MORE):
        np.ones(MORE // 4, dtype=np.uint8)
        with pytest.raises(MemoryError):
            np.ones(4 * MORE, dtype=np.uint8)
    assert np.empty(4 * MORE, dtype=np.uint8).size == 4 * MORE


def test_no_limit_touches_nothing() -> None:
    with allocations_limited(math.inf):
        assert np.empty(4 * MORE, dtype=np.uint8).size == 4 * MORE


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB"), True),
        (RuntimeError("[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory"), True),
        (RuntimeError("mat1 and mat2 shapes cannot be multiplied"), False),
    ],
)
def test_what_says_that_memory_ran_out(error: Exception, expected: bool) -> None:
    assert is_memory_error(error) is expected


class Hungry:
    def evaluate(self, candidate: Candidate) -> Iterator[Measurement]:
        held = np.ones(candidate.widths["g"], dtype=np.uint8)
        yield Measurement({"top1": float(held[0])}, 1, 0.0, True)


class OneTrial:
    wants_estimates = False

    def __init__(self, width: int) -> None:
        self.waiting = [Trial(0, Candidate({"g": width}), TrialState.RUNNING)]
        self.outcomes: list[Outcome] = []

    @property
    def done(self) -> bool:
        return bool(self.outcomes)

    def ask(self) -> Trial | None:
        return self.waiting.pop()

    def report(self, number: int, measurement: Measurement) -> bool:
        return True

    def tell(self, number: int, outcome: Outcome) -> None:
        self.outcomes.append(outcome)

    def stop(self, reason: str) -> None:
        raise AssertionError(reason)


def test_a_serial_trial_that_takes_too_much_says_so_with_figures() -> None:
    most = held_bytes() + MORE
    session = OneTrial(4 * MORE)
    SerialExecutor(Hungry, 60, most).run(session)
    [outcome] = session.outcomes
    assert outcome.kind is OutcomeKind.OUT_OF_MEMORY
    assert outcome.reason.startswith("out of memory: ")
    assert f"limits.trial_memory_gb is {most / 1e9:g}" in outcome.reason
    session = OneTrial(1000)
    SerialExecutor(Hungry, 60, most).run(session)
    assert session.outcomes[0].kind is OutcomeKind.MEASURED


WATCHED = """
import time
import numpy as np
from autoprune.executors import ray_watchdog as dog
said = []
dog.internal_kv._internal_kv_put = lambda key, value, namespace: print(key.decode(), value.decode(), flush=True)
watchdog = dog.Watchdog("slot1", {memory})
watchdog.arm({seconds}, "took too long")
held = np.ones({size}, dtype=np.uint8)
time.sleep(0.8)
watchdog.disarm()
print("lives")
"""


@pytest.mark.parametrize(
    ("memory", "seconds", "size", "said", "code"),
    [
        (2e8, 60, 4e8, "slot1 out of memory: the worker held ", 1),
        (1e12, 0.3, 1, "slot1 took too long", 1),
        (1e12, 60, 1, "lives", 0),
    ],
)
def test_the_watchdog_ends_its_process_with_words(
    memory: float, seconds: float, size: float, said: str, code: int
) -> None:
    script = WATCHED.format(memory=memory, seconds=seconds, size=int(size))
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60)
    assert done.stdout.startswith(said), done.stderr
    assert done.returncode == code
