"""Searches whose trials are fine-tuned, on real images: through Ray with ASHA, exported, killed and resumed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

import autoprune
from autoprune.api.rebuilding import deviation, rebuilt
from autoprune.config.loading import load_search
from autoprune.driver.assemble import prepare
from autoprune.driver.observers import Silent
from autoprune.driver.running import run_session
from autoprune.errors import ExportMismatch, NotFound, StoreError
from autoprune.store import open_store
from autoprune.types import Trial, TrialState


@pytest.fixture
def tuned(launch: dict[str, Any]) -> dict[str, Any]:
    return launch | {
        "controller": {"kind": "random", "seed_uniform": 2},
        "evaluator": {**launch["evaluator"], "weights": {"criterion": "group_l2"}},
        "fidelity": {"epochs": 3, "lr": 0.02, "reduction": 2},
        "limits": {"trials": 12},
    }


def test_a_search_through_ray_stops_trains_and_exports(workplace: Path, tuned: dict[str, Any]) -> None:
    tuned["executor"] = {"kind": "ray", "max_parallel": 2, "cpus_per_trial": 0.5}
    result = autoprune.search(tuned)
    trials = autoprune.trials("small")
    stopped = [trial for trial in trials if trial.state is TrialState.STOPPED]
    complete = [trial for trial in trials if trial.state is TrialState.COMPLETE]
    assert len(stopped) + len(complete) == result.trials == 12
    assert len(stopped) >= 2
    for trial in stopped:
        epochs = int(trial.metrics["epochs"])
        assert epochs in (1, 2)
        assert trial.reason.startswith(f"ASHA: estimate after {epochs} of 3 epochs")
        assert trial.metrics["top1"] == trial.metrics[f"top1_epoch{epochs}"]
    for trial in complete:
        if trial.metrics["keep_ratio"] < 1:
            assert {"top1_calibrated", "top1_epoch1", "top1_epoch2"} <= set(trial.metrics)
            assert trial.timings["train"] > 0
    assert {trial.number for trial in result.front.trials} <= {trial.number for trial in complete}
    assert all("test_top1" in trial.metrics for trial in result.front.trials)
    assert f"ASHA stopped {len(stopped)} of them" in (result.output / "report.html").read_text()
    exports_are_what_was_measured(workplace, result.front.trials[0], stopped[0])


def exports_are_what_was_measured(folder: Path, *chosen: Trial) -> None:
    """Here one process trains what another one measured; also a trial that was stopped on its way."""
    for trial in chosen:
        autoprune.export("small", trial.number, folder / f"model-{trial.number}")
        written = json.loads((folder / f"model-{trial.number}" / "model.json").read_text())["metrics"]
        assert (written["top1"], written["loss"]) == (trial.metrics["top1"], trial.metrics["loss"])


def test_another_accuracy_is_no_export(workplace: Path, tuned: dict[str, Any]) -> None:
    prepared = prepare(load_search(tuned, ["fidelity.epochs=1"]), Silent())
    candidate = prepared.space.uniform(0.6)
    *_, last = prepared.evaluator.evaluate(candidate)
    trial = Trial(4, candidate, TrialState.COMPLETE, last.metrics)
    assert rebuilt(prepared, trial)[1].metrics == last.metrics
    assert deviation(prepared, trial) == ""
    near = {**last.metrics, "top1": last.metrics["top1"] - 0.009, "loss": 0.0}
    assert rebuilt(prepared, replace(trial, metrics=near))[1].metrics == last.metrics, "what is exported was scored"
    far = replace(trial, metrics={**last.metrics, "top1": last.metrics["top1"] - 0.011})
    with pytest.raises(ExportMismatch, match=r"trial 4, fine-tuned again, has a top1 of .* --retrain"):
        rebuilt(prepared, far)
    assert deviation(prepared, far).startswith("trial 4, fine-tuned again, has a top1 of ")


def history(store: str) -> list[Any]:
    """What must be equal between a killed and an uncut search."""
    trials = autoprune.trials("small", store=store)
    return [(each.number, each.candidate.digest, each.state, each.reason, each.metrics) for each in trials]


def test_kill_9_costs_the_running_trial_and_changes_nothing(workplace: Path, tuned: dict[str, Any]) -> None:
    tuned |= {"fidelity": {"epochs": 2, "lr": 0.02, "reduction": 2}, "limits": {"trials": 6}}
    Path("small.yaml").write_text(yaml.safe_dump(tuned))
    url = f"sqlite:///{workplace}/killed.db"
    driver = subprocess.Popen(
        [sys.executable, "-m", "autoprune", "search", "small.yaml", "--store", url],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    try:
        while len(before := finished(url)) < 3:
            assert driver.poll() is None
            time.sleep(0.02)
    finally:
        driver.send_signal(signal.SIGKILL)
        driver.wait()
    uncut = f"sqlite:///{workplace}/uncut.db"
    prepared = prepare(load_search(tuned), Silent())
    for target in (url, uncut):
        with open_store(target) as store:
            run_session(store, prepared, Silent())
    assert {number: trial for number, trial in finished(url).items() if number in before} == before
    assert history(url) == history(uncut)
    assert TrialState.STOPPED in {trial.state for trial in finished(url).values()}


def finished(url: str) -> dict[int, Trial]:
    try:
        return {trial.number: trial for trial in autoprune.trials("small", store=url) if trial.state.finished}
    except (NotFound, StoreError):
        return {}
