"""R2, R3, R11 and storms: drivers killed, frozen, racing, started again and again; and results that come twice."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from faults_toy import TOY, open_toy
from faults_watch import RAY, Bench, end, lives, spread

from autoprune.executors import SerialExecutor
from autoprune.store import open_store
from autoprune.types import Candidate, Measurement, Outcome, OutcomeKind

SERIAL = {"kind": "serial"}
CONTROLLERS: tuple[Mapping[str, Any], ...] = (
    {"kind": "uniform"},
    {"kind": "random", "seed_uniform": 3},
    {"kind": "regression"},
    {"kind": "optuna", "sampler": "tpe", "startup_trials": 8},
    {"kind": "optuna", "sampler": "nsga2", "population": 8},
    {"kind": "optuna", "sampler": "random"},
    {"kind": "evolution", "population": 8},
    {"kind": "evolution", "preset": "metapruning", "population": 8, "parents": 4},
    {"kind": "netadapt"},
    {"kind": "eagleeye"},
    {"kind": "amc", "warmup": 6, "hidden": 16},
)


def killed_driver(kills: int = 50, executor: Mapping[str, Any] = SERIAL, seed: int = 0) -> dict[str, Any]:
    """SIGKILL at random moments: half of them anywhere from the process's start, half in the midst of trials."""
    rng = random.Random(seed)
    at_once = int(executor.get("max_parallel", 1))
    with tempfile.TemporaryDirectory(prefix="apf-") as folder:
        bench = Bench(Path(folder))
        left = 0
        for number in range(kills):
            driver = bench.start(executor=executor, session={"trials": 100_000})
            if number % 2:
                time.sleep(rng.uniform(0.0, 2.0 if executor is SERIAL else 8.0))
            else:
                begun = len(bench.log())
                bench.wait_for(lambda: len(bench.log()) > begun + 2, driver)  # noqa: B023
                time.sleep(rng.uniform(0.0, 0.3))
            workers = bench.workers()
            driver.kill()
            driver.wait()
            deadline = time.monotonic() + 15
            while any(lives(pid) for pid in workers) and time.monotonic() < deadline:
                time.sleep(0.1)
            left += sum(lives(pid) for pid in workers)
            bench.look()
        number = len(bench.trials()) + 5
        code, _, errors = end(bench.start(session={"trials": number}), 120)
        verdict = bench.verdict(number)
        return {
            "fault": f"SIGKILL of the driver ({executor['kind']})",
            "n": kills,
            "survived": kills if code == 0 and not verdict["lost"] else 0,
            "in_flight_at_most": kills * at_once,
            "workers_left": left,
            **verdict,
            "errors": errors[-300:],
        }


def resumed(trials: int = 5000, repeats: int = 5) -> dict[str, Any]:
    """Seconds from the start of the process to the first new trial, with so many in the store."""
    found, fresh = {}, []
    for controller in ({"kind": "random"}, {"kind": "optuna", "sampler": "tpe"}, {"kind": "evolution"}):
        with tempfile.TemporaryDirectory(prefix="apf-") as folder:
            bench = Bench(Path(folder))
            assets = {"seconds": [0.0, 0.0]}
            code, _, errors = end(bench.start(assets=assets, session={"trials": trials}), 600)
            if code:
                raise RuntimeError(errors)
            seconds = []
            for number in range(repeats):
                begun, began = len(bench.log()), time.time()
                session = {"trials": trials + number + 1, "controller": controller}
                end(bench.start(assets=assets, session=session), 120)
                seconds.append(bench.log()[begun][3] - began)
            with tempfile.TemporaryDirectory(prefix="apf-") as empty:
                other, began = Bench(Path(empty)), time.time()
                end(other.start(assets=assets, session={"trials": 1, "controller": controller}), 120)
                fresh.append(other.log()[0][3] - began)
            found[str(controller.get("sampler", controller["kind"]))] = spread(seconds)
    return {
        "fault": f"resume at {trials} trials, process start to first new trial",
        "n": repeats,
        **found,
        "with_an_empty_store": spread(fresh),
    }


class _Evaluator:
    def __init__(self, cut_after: int = -1) -> None:
        self._left = cut_after

    def evaluate(self, candidate: Candidate) -> Iterator[Measurement]:
        if self._left == 0:
            raise KeyboardInterrupt
        self._left -= 1
        yield Measurement(TOY.measure(candidate), 1, 0.0, True)


def resumed_proposals(trials: int = 40, cuts: int = 6, seed: int = 0) -> dict[str, Any]:
    """The same seed, interrupted at random trials and not, one trial after another: proposals and results equal."""
    rng, found = random.Random(seed), {}
    with tempfile.TemporaryDirectory(prefix="apf-") as folder, open_store(f"sqlite:///{folder}/a.db") as store:
        for number, controller in enumerate(CONTROLLERS):
            kind = {"controller": controller, "trials": trials, "evaluation_digest": f"uncut{number}"}
            with open_toy(store, name=f"uncut{number}", **kind) as session:
                SerialExecutor(_Evaluator, 60).run(session)
            kind["evaluation_digest"] = f"cut{number}"
            for _ in range(cuts):
                session = open_toy(store, name=f"cut{number}", **kind)
                evaluator = _Evaluator(rng.randrange(1, max(2, trials // cuts)))
                SerialExecutor(lambda: evaluator, 60).run(session)  # noqa: B023
                session.close()
            with open_toy(store, name=f"cut{number}", **kind) as session:
                SerialExecutor(_Evaluator, 60).run(session)
            whole, parts = store.trials(f"uncut{number}"), store.trials(f"cut{number}")
            same = sum(a.candidate == b.candidate and a.metrics == b.metrics for a, b in zip(whole, parts, strict=True))
            name = controller.get("preset") or controller.get("sampler") or controller["kind"]
            found[f"{controller['kind']}/{name}"] = [same, len(whole)]
    return {
        "fault": f"interrupted {cuts} times, the same seed",
        "n": len(CONTROLLERS),
        "survived": sum(same == whole for same, whole in found.values()),
        "equal_of": found,
    }


def racing_drivers(rounds: int = 20, seed: int = 0) -> dict[str, Any]:
    """Two to five drivers of one search, started at once."""
    rng = random.Random(seed)
    leaders, refused, unexpected, totals = [], 0, [], {"lost": 0, "twice": 0, "stuck_running": 0, "numbers_wrong": 0}
    started = 0
    for _ in range(rounds):
        with tempfile.TemporaryDirectory(prefix="apf-") as folder:
            bench = Bench(Path(folder))
            spec = {"assets": {"seconds": [0.1, 0.2]}, "session": {"trials": 15}}
            drivers = [bench.start(**spec) for _ in range(rng.randint(2, 5))]
            started += len(drivers)
            ends = [end(driver) for driver in drivers]
            refused += sum(code == 3 and "is being run by process" in said for code, _, said in ends)
            unexpected += [said[-200:] for code, _, said in ends if code not in (0, 3) or "Traceback" in said]
            leaders.append(len({pid for _, _, pid, _ in bench.log()}))
            verdict = bench.verdict(15)
            totals = {key: totals[key] + verdict[key] for key in totals}
    return {
        "fault": "two to five drivers at once",
        "n": rounds,
        "survived": sum(count == 1 for count in leaders),
        "drivers": started,
        "refused_with_words": refused,
        **totals,
        "unexpected": unexpected,
    }


def fenced_driver(rounds: int = 10) -> dict[str, Any]:
    """A driver is frozen until its lease has run out and another has taken over; then it goes on."""
    fenced, words, totals = 0, [], {"lost": 0, "twice": 0, "stuck_running": 0, "numbers_wrong": 0}
    for _ in range(rounds):
        with tempfile.TemporaryDirectory(prefix="apf-") as folder:
            bench = Bench(Path(folder))
            spec = {"assets": {"seconds": [0.05, 0.1]}, "session": {"trials": 60, "ttl_seconds": 2.0}}
            first = bench.start(**spec)
            bench.wait_for(lambda: bench.look() >= 3, first)  # noqa: B023
            first.send_signal(signal.SIGSTOP)
            time.sleep(2.3)
            second = bench.start(**spec)
            known = bench.look()
            bench.wait_for(lambda: bench.look() >= known + 3, second)  # noqa: B023
            first.send_signal(signal.SIGCONT)
            code, _, said = end(first)
            fenced += code == 3 and "was taken over by another driver" in said and "Traceback" not in said
            words.append(said[-200:])
            end(second)
            verdict = bench.verdict(60)
            totals = {key: totals[key] + verdict[key] for key in totals}
    return {
        "fault": "a driver frozen for longer than its lease goes on",
        "n": rounds,
        "survived": fenced,
        **totals,
        "said": words[-1],
    }


def storm(kills: int = 25, every: float = 2.0, executor: Mapping[str, Any] = RAY) -> dict[str, Any]:
    """The driver is killed every two seconds, whatever it is at; what is left of it on the machine is counted."""
    with tempfile.TemporaryDirectory(prefix="apf", dir="/tmp") as folder:
        bench = Bench(Path(folder), {"TMPDIR": folder})
        for _ in range(kills):
            driver = bench.start(executor=executor, session={"trials": 100_000})
            with contextlib.suppress(Exception):
                driver.wait(every)
            driver.kill()
            driver.wait()
            bench.look()
        number = len(bench.trials()) + 5
        code, _, errors = end(bench.start(executor=executor, session={"trials": number}), 200)
        verdict = bench.verdict(number)
        time.sleep(2)
        return {
            "fault": f"driver killed every {every:g} s ({executor['kind']})",
            "n": kills,
            "survived": kills if code == 0 and not verdict["lost"] + verdict["twice"] else 0,
            "processes_left": _naming(folder),
            "scratch_folders_left": sum(name.startswith("autoprune-ray-") for name in os.listdir(folder)),
            **verdict,
            "errors": errors[-300:],
        }


def _naming(text: str) -> int:
    count = 0
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            count += text in (entry / "cmdline").read_bytes().decode(errors="replace") and lives(int(entry.name))
    return count


def told_twice(trials: int = 300, seed: int = 0) -> dict[str, Any]:
    """Outcomes told again, told late by an older attempt, told for what was never asked: the first one counts."""
    rng, changed = random.Random(seed), 0
    with tempfile.TemporaryDirectory(prefix="apf-") as folder, open_store(f"sqlite:///{folder}/a.db") as store:
        with open_toy(store, trials=trials) as session:
            told = []
            while not session.done:
                trial = session.ask()
                if trial is None:
                    break
                measured = Outcome(OutcomeKind.MEASURED, TOY.measure(trial.candidate))
                if rng.random() < 0.2:
                    session.tell(trial.number, Outcome(OutcomeKind.ACCIDENT, reason="lost"))
                    again = session.ask()
                    assert again is not None
                    assert (again.number, again.attempt) == (trial.number, trial.attempt + 1)
                session.tell(trial.number, measured)  # possibly by the attempt before
                told.append(trial.number)
                before = store.trials("toy", numbers=[*told[-3:]])
                wrong = Outcome(OutcomeKind.MEASURED, {**measured.metrics, "top1": 0.999})
                for number in [*rng.sample(told, min(2, len(told))), trial.number, trials + 7]:
                    session.tell(number, wrong)
                changed += store.trials("toy", numbers=[*told[-3:]]) != before
        found = store.trials("toy")
        numbers = [trial.number for trial in found]
        copied = sum(trial.metrics["top1"] == 0.999 for trial in found)
    return {
        "fault": "outcomes told twice, late, or of no trial",
        "n": trials,
        "survived": trials - changed - copied if numbers == list(range(trials)) else 0,
    }
