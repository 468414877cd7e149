"""The Ray executor on a real local cluster: each trial once, accidents, limits, stopping, signals, no traces."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import fake_ray_session as fake
import numpy as np
import pytest
import ray
from fake_ray_session import Evaluator, FakeSession, broken_evaluator

from autoprune.config.schema import RayExecutorConfig
from autoprune.errors import ConfigError, SearchAborted, StoreError
from autoprune.executors.ray_cluster import connected
from autoprune.executors.ray_tune import RayTuneExecutor
from autoprune.types import Outcome, OutcomeKind, Trial

TRIAL_SECONDS = 2.0
ONE = RayExecutorConfig(max_parallel=1, cpus_per_trial=0.5)
TWO = RayExecutorConfig(max_parallel=2, cpus_per_trial=0.5)


@pytest.fixture(scope="module")
def cluster() -> Iterator[None]:
    """One connection for all tests here: run() uses it and leaves it open."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", _python_path())
        with connected(RayExecutorConfig()):
            yield
    assert not ray.is_initialized()


def _python_path() -> str:
    here = Path(__file__).parent
    return os.pathsep.join([str(here), str(here.parents[1]), os.environ.get("PYTHONPATH", "")])


def _run(session: FakeSession, folder: Path, **assets: object) -> FakeSession:
    RayTuneExecutor(TWO, {"folder": str(folder), **assets}, Evaluator, TRIAL_SECONDS).run(session)
    return session


# Before the tests that connect: these two must not.


def test_a_finished_session_starts_nothing() -> None:
    RayTuneExecutor(RayExecutorConfig(), {}, broken_evaluator, 1.0).run(FakeSession([]))
    assert not ray.is_initialized()


@pytest.mark.usefixtures("cluster")
class TestMeasuring:
    def test_every_candidate_once_in_two_processes_that_share_the_assets(self, tmp_path: Path) -> None:
        images = np.arange(300_000, dtype=np.int64)
        session = _run(FakeSession(list(range(30))), tmp_path, images=images)
        assert session.done
        assert sorted(session.outcomes) == list(range(30))
        assert not session.accidents
        for number, outcome in session.outcomes.items():
            assert outcome.kind is OutcomeKind.MEASURED
            assert outcome.metrics["top1"] == number / 100
            assert outcome.metrics["sum"] == images.sum()
            # A view of the object store's shared memory: neither copied nor writable.
            assert (outcome.metrics["owns"], outcome.metrics["writeable"]) == (0.0, 0.0)
            assert outcome.timings["slice"] == 0.25
            assert set(outcome.timings) == {"slice", "report", "wait"}
            assert all(0.0 <= outcome.timings[phase] < 5.0 for phase in ("report", "wait"))
            assert outcome.worker.endswith(f":{int(outcome.metrics['builds/pid'])}")
        builds = (tmp_path / "builds").read_text().split()
        assert len(builds) == len(set(builds)) <= 2
        assert ray.is_initialized()

    def test_what_the_driver_and_the_way_take_is_told_apart(self, tmp_path: Path) -> None:
        """Told apart from the worker's work, from each other, and together no more than the time that passed."""

        class SlowToPropose(FakeSession):
            def ask(self) -> Trial | None:
                time.sleep(0.2 if len(self.outcomes) in (4, 5) else 0.0)
                return super().ask()

        session = SlowToPropose([1, 2, 3, fake.A_SECOND, 4, 5, 6])
        began = time.perf_counter()
        RayTuneExecutor(ONE, {"folder": str(tmp_path)}, Evaluator, TRIAL_SECONDS).run(session)
        elapsed = time.perf_counter() - began
        timings = {number: outcome.timings for number, outcome in session.outcomes.items()}
        assert sorted(number for number, each in timings.items() if each["wait"] >= 0.2) == [4, 5]
        assert timings[3]["report"] < 0.8, "the second of work is not counted as the way"
        assert sum(each["report"] + each["wait"] for each in timings.values()) + 1.0 < elapsed

    def test_waits_without_spinning_while_a_generation_is_open(self, tmp_path: Path) -> None:
        told_at: list[float] = []

        def two_generations(session: FakeSession) -> bool:
            if len(session.outcomes) == 6 and not told_at:
                told_at.append(time.monotonic())
            return len(session.asked_at) < 6 or (bool(told_at) and time.monotonic() - told_at[0] > 1.0)

        before = time.process_time()
        session = _run(FakeSession(list(range(12)), after=two_generations), tmp_path)
        assert sorted(session.outcomes) == list(range(12))
        assert session.asks < 100
        assert time.process_time() - before < 3.0
        assert len((tmp_path / "builds").read_text().split()) <= 2

    def test_stops_a_trial_that_the_session_gives_up(self, tmp_path: Path) -> None:
        session = FakeSession([fake.SLICES, 1, 2])
        session.wants_estimates = True
        session.stop_below = 0.4
        _run(session, tmp_path)
        assert session.reports == [(0, 0.9), (0, 0.7), (0, 0.5), (0, 0.3)]
        assert session.outcomes[0].kind is OutcomeKind.STOPPED
        assert session.outcomes[0].metrics == {"top1": 0.3}
        assert {session.outcomes[1].kind, session.outcomes[2].kind} == {OutcomeKind.MEASURED}

    def test_estimates_that_nobody_wants_stay_with_the_worker(self, tmp_path: Path) -> None:
        session = _run(FakeSession([fake.SLICES, 1]), tmp_path)
        assert session.reports == []
        assert session.outcomes[0].kind is OutcomeKind.MEASURED
        assert session.outcomes[0].metrics["top1"] == fake.SLICES / 100


@pytest.fixture(scope="module")
def accidents(cluster: None, tmp_path_factory: pytest.TempPathFactory) -> FakeSession:
    widths = [fake.RAISES, fake.RAISES_EVALUATION_ERROR, fake.DIES, fake.SLEEPS, fake.HOLDS_THE_GIL, 1, 2, 3]
    return _run(FakeSession(widths), tmp_path_factory.mktemp("accidents"))


class TestAccidents:
    def test_all_are_measured_in_the_end(self, accidents: FakeSession) -> None:
        assert sorted(accidents.outcomes) == list(range(8))
        assert {outcome.kind for outcome in accidents.outcomes.values()} == {OutcomeKind.MEASURED}

    @pytest.mark.parametrize(
        ("number", "reason"),
        [
            (0, "RuntimeError: mat1 and mat2 shapes cannot be multiplied"),
            (1, "EvaluationError: slicing failed"),
            (2, "worker process died (killed or out of memory)"),
            (3, "exceeded trial_seconds=2 and was killed: raise limits.trial_seconds"),
            (4, "exceeded trial_seconds=2 and was killed: raise limits.trial_seconds"),
        ],
    )
    def test_reason_in_words(self, accidents: FakeSession, number: int, reason: str) -> None:
        assert [told for which, told in accidents.accidents if which == number] == [reason]

    @pytest.mark.parametrize("number", [3, 4])
    def test_hung_trials_are_killed_in_time(self, accidents: FakeSession, number: int) -> None:
        """At the limit when Python still runs, a second later when C code holds the interpreter."""
        assert TRIAL_SECONDS <= accidents.seconds[number, 1] <= TRIAL_SECONDS + 3.0


@pytest.mark.usefixtures("cluster")
class TestErrors:
    def test_an_evaluator_that_cannot_be_built_ends_the_search(self, tmp_path: Path) -> None:
        session = FakeSession([1, 2, 3])
        executor = RayTuneExecutor(TWO, {"folder": str(tmp_path)}, broken_evaluator, TRIAL_SECONDS)
        with pytest.raises(SearchAborted, match=r"ValueError: no such checkpoint: base\.pt"):
            executor.run(session)
        assert not session.outcomes
        assert session.stopped

    def test_what_the_session_raises_comes_out(self, tmp_path: Path) -> None:
        class Session(FakeSession):
            def tell(self, number: int, outcome: Outcome) -> None:
                raise StoreError("disk full")

        with pytest.raises(StoreError, match="disk full"):
            _run(Session([1, 2, 3]), tmp_path)

    def test_a_trial_that_does_not_fit_the_cluster(self, tmp_path: Path) -> None:
        executor = RayTuneExecutor(RayExecutorConfig(cpus_per_trial=1000), {}, Evaluator, 1.0)
        with pytest.raises(ConfigError, match=r"executor\.cpus_per_trial is 1000, but the Ray cluster has"):
            executor.run(FakeSession([1]))


SCRIPT = """
import sys
import fake_ray_session as fake
from autoprune.config.schema import RayExecutorConfig
from autoprune.executors.ray_tune import RayTuneExecutor
session = fake.FakeSession([fake.SLEEPS, fake.A_SECOND, 1, 2])
config = RayExecutorConfig(max_parallel=2, cpus_per_trial=0.5)
RayTuneExecutor(config, {"folder": sys.argv[1]}, fake.Evaluator, 600.0).run(session)
print(sorted(session.running), sorted(session.outcomes), session.stopped)
"""


def test_ctrl_c_finishes_what_it_can_and_leaves_nothing_behind(tmp_path: Path) -> None:
    """One trial ends within the grace, the other hangs until a second signal; nothing new is asked after the first."""
    environment = {**os.environ, "PYTHONPATH": _python_path(), "TMPDIR": str(_short_folder()), "HOME": "/nonexistent"}
    process = subprocess.Popen(
        [sys.executable, "-W", "error::ResourceWarning", "-c", SCRIPT, str(tmp_path)],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        _wait_for(tmp_path / f"seen-{fake.A_SECOND}", process)
        _wait_for(tmp_path / f"seen-{fake.SLEEPS}", process)
        os.killpg(process.pid, signal.SIGINT)  # the whole foreground group, as a terminal does
        time.sleep(2.0)
        process.send_signal(signal.SIGTERM)  # Ray's core had put a handler of its own there
        output, errors = process.communicate(timeout=30)
    finally:
        process.kill()
    assert (output, errors, process.returncode) == ("[0] [1] interrupted\n", "", 0)
    assert _processes_with(str(environment["TMPDIR"])) == []
    Path(environment["TMPDIR"]).rmdir()  # fails unless empty


def _short_folder() -> Path:
    """A folder of its own whose path is short enough for Ray's sockets."""
    folder = Path("/tmp") / f"ap{os.getpid()}"
    folder.mkdir()
    return folder


def _wait_for(path: Path, process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 60
    while not path.exists():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline, f"{path.name} never appeared"
        time.sleep(0.05)


def _processes_with(text: str) -> list[str]:
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            command = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode()
        except (FileNotFoundError, ProcessLookupError):
            continue
        if text in command:
            found.append(command)
    return found
