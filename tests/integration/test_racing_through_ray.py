"""A search that races, on real images and through Ray: trials are stopped, marked, and kept off the front."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import autoprune
from autoprune.cli.progress import LineProgress
from autoprune.types import TrialState

IMAGES = 287


def test_stopped_trials_are_marked_and_never_on_the_front(workplace: Path, launch: dict[str, Any]) -> None:
    shown = io.StringIO()
    lines = LineProgress(shown)
    launch |= {
        "controller": {"kind": "random", "seed_uniform": 6},
        "evaluator": {"calibration_images": 100, "validation_images": IMAGES, "batch_size": 25},
        "racing": {"confidence": 0.9, "min_images": 50},
        "executor": {"kind": "ray", "max_parallel": 2, "cpus_per_trial": 0.5},
        "limits": {"trials": 36},
    }
    result = autoprune.search(launch, progress=lines)
    lines.close()
    trials = autoprune.trials("small")
    states = {state: [trial for trial in trials if trial.state is state] for state in TrialState}
    complete, stopped = states[TrialState.COMPLETE], states[TrialState.STOPPED]
    assert len(complete) + len(stopped) == result.trials == 36
    assert stopped, "narrow networks of random shape are far below uniform ones"

    for trial in stopped:
        assert 50 <= trial.metrics["images"] < IMAGES
        assert trial.metrics["images"] % 25 == 0
        right = trial.metrics["top1"] * trial.metrics["images"]
        assert abs(right - round(right)) < 1e-9, "a share of the images that were seen"
        assert trial.reason.startswith(f"estimate from {trial.metrics['images']:.0f} of {IMAGES} images")
        rival = next(other for other in complete if trial.reason.split(" of trial ")[1].startswith(f"{other.number} "))
        assert rival.metrics["macs"] <= trial.metrics["macs"]
        assert rival.metrics["top1"] > trial.metrics["top1"]
    assert all("images" not in trial.metrics for trial in complete)
    numbers = {trial.number for trial in complete}
    assert result.front.trials
    assert {trial.number for trial in result.front.trials} <= numbers
    assert {trial.number for trial in autoprune.front("small", x="params").trials} <= numbers
    assert autoprune.select("small", where=["macs <= baseline"]).trial.number in numbers
    assert f"{len(stopped)} stopped" in shown.getvalue()
