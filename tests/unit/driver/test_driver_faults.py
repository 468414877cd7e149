"""Killed drivers and full disks: nothing lost, nothing measured twice, the same proposals as the uncut search."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest
from sqlalchemy import event
from toy_search import ToyController, ToyEvaluator, history, open_session

from autoprune.errors import Conflict, StoreError
from autoprune.executors import SerialExecutor
from autoprune.store import open_store
from autoprune.types import SearchState, Trial

HERE = Path(__file__).parent
TRIALS = 400
"""Far more than a quiet machine gets through in ten short runs."""
KILLS = 10


def start(url: str, log: Path) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, str(HERE / "cut_search.py"), url, str(log), str(TRIALS)],
        cwd=Path.cwd(),
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )


def kill_soon(process: subprocess.Popen[bytes], log: Path, rng: random.Random) -> None:
    """Kill -9 at a random moment of the search, not of the imports."""
    runs = log.read_bytes().count(b"resumed") if log.exists() else 0
    while not (log.exists() and log.read_bytes().count(b"resumed") > runs):
        assert process.poll() is None
        time.sleep(0.002)
    time.sleep(rng.uniform(0.0, 0.08))
    process.send_signal(signal.SIGKILL)
    process.wait()


def finished(url: str) -> dict[int, Trial]:
    with open_store(url, read_only=True) as store:
        return {trial.number: trial for trial in store.trials("toy") if trial.state.finished}


def test_a_driver_killed_at_random_moments_loses_and_repeats_nothing(tmp_path: Path) -> None:
    url, log, rng = f"sqlite:///{tmp_path}/a.db", tmp_path / "log", random.Random(0)
    known: dict[int, Trial] = {}
    for _ in range(KILLS):
        measured = {trial.candidate.digest for trial in known.values()}
        already = log.stat().st_size if log.exists() else 0
        kill_soon(start(url, log), log, rng)
        again = measured & set(log.read_bytes()[already:].decode().split())
        assert not again, "measured before, and run again"
        now = finished(url)
        assert {number: now[number] for number in known} == known, "a finished trial changed or was lost"
        known = now
    assert 0 < len(known) < TRIALS, "the kills fell into the search"
    assert start(url, log).wait(60) == 0
    with open_store(url) as store:
        with open_session(store, name="uncut", evaluation_digest="u", trials=TRIALS) as session:
            SerialExecutor(ToyEvaluator, 10).run(session)
        assert history(store) == history(store, "uncut")
        assert store.search("toy").state is SearchState.COMPLETE
    runs = Counter(log.read_text().split())
    del runs["resumed"]
    assert sum(runs.values()) - len(runs) <= KILLS, "a kill costs at most the trial that ran"


def test_a_second_driver_is_refused_while_the_first_lives_in_another_process(tmp_path: Path) -> None:
    url, log = f"sqlite:///{tmp_path}/a.db", tmp_path / "log"
    process = start(url, log)
    while not (log.exists() and log.read_bytes()):
        time.sleep(0.002)
    process.send_signal(signal.SIGSTOP)
    try:
        with open_store(url) as store, pytest.raises(Conflict, match=f"process {process.pid}"):
            open_session(store)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    with open_store(url) as store, open_session(store) as session:
        assert session.ask() is not None, "and free at once when it is dead"


def test_a_full_disk_ends_the_search_and_keeps_what_was_measured(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/a.db"
    with open_store(url) as store:
        with store._reading() as connection:
            pages = connection.exec_driver_sql("PRAGMA page_count").scalar_one()
        store._engine.dispose()
        event.listen(store._engine, "connect", lambda raw, _: raw.execute(f"PRAGMA max_page_count={pages + 6}"))
        session = open_session(store, trials=100)
        with pytest.raises(StoreError, match=r"the disk is full .*free some space"):
            SerialExecutor(ToyEvaluator, 10).run(session)
        session.close()
    before = finished(url)
    assert 5 < len(before) < 100
    with open_store(url) as store:
        with open_session(store, trials=100) as session:
            SerialExecutor(ToyEvaluator, 10).run(session)
        with open_session(store, name="uncut", evaluation_digest="u", trials=100) as session:
            SerialExecutor(ToyEvaluator, 10).run(session)
        assert history(store) == history(store, "uncut")
    assert {number: finished(url)[number] for number in before} == before


@pytest.fixture
def small_disk(tmp_path: Path) -> Path:
    """A real file system of 1 MB; skipped where mounting is not permitted."""
    folder = tmp_path / "disk"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)]
    try:
        mounted = subprocess.run(command, capture_output=True, check=False).returncode == 0
    except OSError:
        mounted = False
    if not mounted:
        pytest.skip("mounting is not permitted here")
    return folder


def test_a_disk_that_is_really_full(small_disk: Path) -> None:
    url = f"sqlite:///{small_disk}/a.db"
    try:
        with open_store(url) as store:
            session = open_session(store, trials=20000)
            with pytest.raises(StoreError, match="disk"):
                SerialExecutor(ToyEvaluator, 10).run(session)
            session.close()
        before = finished(url)
        assert len(before) > 10
        subprocess.run(["mount", "-o", "remount,size=8m", str(small_disk)], check=True)
        with open_store(url) as store:
            with open_session(store, trials=len(before) + 50) as session:
                SerialExecutor(ToyEvaluator, 10).run(session)
            assert store.search("toy").state is SearchState.COMPLETE
        after = finished(url)
        assert {number: after[number] for number in before} == before
    finally:
        subprocess.run(["umount", str(small_disk)], check=True)


def test_a_resume_continues_with_state_that_only_the_store_has(tmp_path: Path) -> None:
    """A controller without the stored state and history would propose otherwise."""
    url = f"sqlite:///{tmp_path}/a.db"
    with open_store(url) as store:
        with open_session(store, trials=5) as session:
            SerialExecutor(ToyEvaluator, 10).run(session)
        fresh, resumed = ToyController(), ToyController()
        with open_session(store, resumed, trials=6) as session:
            trial = session.ask()
        proposal = fresh.ask(5)
        assert trial is not None
        assert proposal is not None
        assert trial.candidate != proposal.candidate
