"""Where the time of a search's workers went: seconds by phase, and in one sentence what slows the search down."""

from __future__ import annotations

import math
import statistics
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from autoprune.types import Trial

__all__ = ["PHASES", "PhaseTime", "bottleneck", "in_words", "phase_times"]

PHASES = ("slice", "reconstruct", "calibrate", "train", "evaluate", "report", "wait")
"""In the order in which a trial goes through them, but for ``wait``, which comes before it."""

_ADVICE = {
    "slice": ("cutting models out of the base model", "more images a trial would make it count less"),
    "reconstruct": (
        "fitting the layers that read cut channels",
        "fewer images (evaluator.reconstruction.images) or mode: once would shorten it most",
    ),
    "calibrate": (
        "re-estimating BatchNorm on training images",
        "fewer of them (evaluator.calibration_images) would shorten it most",
    ),
    "train": (
        "fine-tuning",
        "fewer epochs (fidelity.epochs) or stopping more trials (fidelity.reduction) would shorten it most",
    ),
    "evaluate": (
        "scoring validation images",
        "fewer of them (evaluator.validation_images) or racing would shorten it most",
    ),
    "report": (
        "carrying candidates and results between driver and workers, and storing them",
        "trials this short gain little from more workers",
    ),
    "wait": (
        "waiting for the next candidate",
        "the controller proposes more slowly than the workers measure: another controller, or fewer workers",
    ),
}


@dataclass(frozen=True)
class PhaseTime:
    """One phase over the trials that were run."""

    name: str
    median_seconds: float
    """Over the trials that have the phase."""
    total_seconds: float
    share: float
    """Of the seconds of all phases and trials, in [0, 1]."""


def phase_times(trials: Sequence[Trial]) -> list[PhaseTime]:
    """Each phase of the trials that were run (not looked up), in the order of ``PHASES``, then others by name."""
    seconds: dict[str, list[float]] = defaultdict(list)
    for trial in trials:
        for phase, value in trial.timings.items():
            if math.isfinite(value) and not trial.duplicate_of:
                seconds[phase].append(value)
    total = sum(map(sum, seconds.values())) or 1.0
    names = [*(name for name in PHASES if name in seconds), *sorted(set(seconds) - set(PHASES))]
    return [
        PhaseTime(name, statistics.median(seconds[name]), sum(seconds[name]), sum(seconds[name]) / total)
        for name in names
    ]


def bottleneck(phases: Sequence[PhaseTime]) -> str:
    """What slows the search down, as a sentence; empty without timings."""
    if not phases:
        return ""
    most = max(phases, key=lambda phase: phase.total_seconds)
    what, advice = _ADVICE.get(most.name, (most.name, ""))
    return f"{100 * most.share:.0f} % of the workers' time goes into {what}" + (f"; {advice}." if advice else ".")


def in_words(timings: Mapping[str, float]) -> str:
    """
    >>> in_words({"wait": 0.02, "evaluate": 1.061, "slice": 0.0042})
    'slice 4.2 ms, evaluate 1.06 s, wait 20 ms'
    """
    names = [*(name for name in PHASES if name in timings), *sorted(set(timings) - set(PHASES))]
    return ", ".join(f"{name} {_seconds(timings[name])}" for name in names)


def _seconds(value: float) -> str:
    if not math.isfinite(value):
        return "-"
    return f"{value:.2f} s" if value >= 0.9995 else f"{1000 * value:.{0 if value >= 0.00995 else 1}f} ms"
