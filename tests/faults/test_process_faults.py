"""Faults of processes and nodes: none of them loses a result, stores one twice or leaves a trial RUNNING."""

from __future__ import annotations

from typing import Any

import faults
import faults_driver
import faults_ends
import pytest

NONE = ("lost", "twice", "stuck_running", "numbers_wrong", "orphans", "shm_files", "processes_left", "unexpected")
"""What must not be, where a fault counts it."""
OURS = [
    "R1",
    "R2",
    "R2-ray",
    "R2-resume",
    "R3",
    "R4",
    "R5",
    "R11-fenced",
    "R12",
    "builds",
    "cut",
    "far",
    "freeze",
    "head",
    "node",
    "raylet",
    "storm",
    "storm-serial",
]


def survived(found: dict[str, Any]) -> None:
    if "skipped" in found:
        pytest.skip(found["skipped"])
    assert found.get("survived", found["n"]) == found["n"] > 0, found
    assert not {key: found[key] for key in NONE if found.get(key)}, found


def test_outcomes_that_come_twice_or_late_change_nothing() -> None:
    survived(faults_driver.told_twice(60))


def test_of_drivers_that_race_one_leads_and_the_others_leave_with_words() -> None:
    survived(faults_driver.racing_drivers(1))


def test_a_driver_that_is_told_to_go_leaves_at_once_with_its_trials_to_be_resumed() -> None:
    survived(faults_ends.terminated(["SIGTERM"], ["middle"], 1, ["serial"]))


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # pipes to drivers that were killed
@pytest.mark.parametrize("name", OURS)
def test_fault(name: str) -> None:
    inject, quick = faults.CASES[name]
    survived(inject(**quick))
