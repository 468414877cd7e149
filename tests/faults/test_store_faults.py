"""Faults of stores and artifacts, a few of each kind; faults_of_stores.py and soak.py (benchmarks) inject many."""

from __future__ import annotations

import errno
import io
import sqlite3
import threading
import time
from pathlib import Path
from typing import Any

import faults_artifacts
import faults_disk
import faults_of_stores
import pytest
import soak
from faults_toy import NAME, open_toy

from autoprune.cli.output import said_unless_full
from autoprune.errors import StoreError
from autoprune.executors import SerialExecutor
from autoprune.store import open_store, sqlite
from autoprune.types import Outcome, OutcomeKind


@pytest.mark.parametrize("part", ["cached_networks", "cached_numbers", "tables", "exports", "served"])
def test_no_damage_is_missed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, part: str) -> None:
    monkeypatch.setenv("AUTOPRUNE_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("CXX", "no-compiler")  # a library takes seconds to compile
    make = getattr(faults_artifacts, part)
    formats = {"formats": ()} if part == "exports" else {}  # programs take seconds to convert
    found = 0
    for case in make(*([] if part.startswith("cached") else [tmp_path]), **formats):
        faults_artifacts.remember_sidecars(case)
        counts = faults_artifacts.inject(case, flips=6, cuts=3)
        assert counts["missed"] == 0, case.name
        assert counts["detected"] >= 6, case.name
        found += 1
    assert found


@pytest.mark.parametrize("name", ["scores", "report", "trained network"])
def test_a_full_disk_leaves_nothing_half_written(name: str) -> None:
    try:
        found = faults_disk.full_disk_artifacts((name,), (0, 40))
    except PermissionError as error:
        pytest.skip(str(error))
    assert found["strange"] == []
    assert found["half_written"] == found["left_behind"] == 0
    assert found["written_after"] == found["faults"] == 2


@pytest.mark.parametrize("folder", ["with space", "ünïcode 中", "a#b", "100%", "it's; --", "[x]*", "a=b&c"])
def test_a_store_may_lie_anywhere(tmp_path: Path, folder: str) -> None:
    url = f"sqlite:///{tmp_path / folder.replace('?', '')}/a b.db"
    with open_store(url) as store, open_toy(store, trials=3) as session:
        SerialExecutor(_Toy, 60.0).run(session)
    with open_store(url, read_only=True) as store:
        assert [trial.state.value for trial in store.trials(NAME)] == ["complete"] * 3
    assert [path.name for path in tmp_path.iterdir()] == [folder]


class _Toy:
    def evaluate(self, candidate: Any) -> Any:
        from faults_toy import TOY

        from autoprune.types import Measurement

        yield Measurement(TOY.measure(candidate), 1, 0.0, True)


def test_who_is_asked_to_leave_does_not_wait_for_a_lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite, "BUSY_SECONDS", 0.1)
    monkeypatch.setattr("autoprune.driver.session._LEAVING_SECONDS", 0.3)
    with open_store(f"sqlite:///{tmp_path}/a.db") as store:
        session = open_toy(store, trials=3)
        trial = session.ask()
        assert trial is not None
        holder = sqlite3.connect(tmp_path / "a.db", isolation_level=None)
        holder.execute("BEGIN EXCLUSIVE")
        threading.Timer(0.2, session.stop, ["terminated"]).start()
        began = time.monotonic()
        with pytest.raises(StoreError, match="locked"):
            session.tell(trial.number, _outcome(trial))
        assert time.monotonic() - began < 60, "and not the five minutes of a driver that is wanted"
        holder.close()
        session.close()


def _outcome(trial: Any) -> Outcome:
    from faults_toy import TOY

    return Outcome(OutcomeKind.MEASURED, TOY.measure(trial.candidate))


class _Full(io.StringIO):
    def __init__(self, number: int) -> None:
        super().__init__()
        self._number = number

    def flush(self) -> None:
        raise OSError(self._number, "no")


def test_a_log_on_a_full_disk_ends_nothing() -> None:
    said_unless_full(_Full(errno.ENOSPC), "searching")
    with pytest.raises(OSError, match="no"):
        said_unless_full(_Full(errno.EIO), "searching")


def test_the_plain_front_is_a_front() -> None:
    points = [(0, 0.5, 3.0), (1, 0.5, 2.0), (2, 0.6, 2.0), (3, 0.7, 5.0), (4, 0.7, 5.0), (5, 0.65, 5.0)]
    assert soak.brute_front(points) == {(0.6, 2.0), (0.7, 5.0)}


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # pipes to drivers that were killed
@pytest.mark.parametrize("name", list(faults_of_stores.CASES))
def test_faults_are_survived(name: str) -> None:
    inject, quick = faults_of_stores.CASES[name]
    try:
        found = inject(**quick)
    except PermissionError as error:
        pytest.skip(str(error))
    parts = [found, *(each for each in found.values() if isinstance(each, dict))]
    survivals = [each["survived"] for each in parts if "survived" in each]
    assert all(each is True or each == "1 of 1" for each in survivals), found
    assert not found.get("errors"), found
    assert not found.get("total", {}).get("missed"), found


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_short_soak() -> None:
    found = soak.soak(trials=500, minutes=0.5)
    assert found["survived"], found
    assert found["faults_total"] >= 5


@pytest.mark.slow
def test_a_broken_search_has_the_rows_of_a_whole_one() -> None:
    found = soak.uncut(trials=100, breaks=3)
    assert {each["rows_that_differ"] for each in found.values() if isinstance(each, dict)} == {0}
