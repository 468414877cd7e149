"""The files a search leaves: front.csv, front.png, report.html; and the one look at the test split."""

from __future__ import annotations

import os
import platform
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

from autoprune import __version__
from autoprune.analysis.axes import search_axes
from autoprune.analysis.front import Front, build_front, write_csv
from autoprune.analysis.plots import plot_front
from autoprune.analysis.report import write_report
from autoprune.config.expressions import parse_objective
from autoprune.types import SearchRecord, Trial, TrialState

if TYPE_CHECKING:
    from autoprune.driver.assemble import Prepared
    from autoprune.protocols import Progress
    from autoprune.store import Store

__all__ = ["measure_test_split", "search_front", "write_files"]

_LIBRARIES = ("torch", "ray", "optuna", "torch-pruning", "numpy")


def measure_test_split(store: Store, prepared: Prepared, progress: Progress) -> None:
    """Score the front (and the baseline) on the test split, once; the search itself never opens it.

    The metrics are stored as ``test_top1`` and ``test_loss``. A trial that has them is not measured again.
    """
    name = prepared.config.name
    front = search_front(store.search(name), store.trials(name, states=[TrialState.COMPLETE]))
    pending = [trial for trial in front.trials if "test_top1" not in trial.metrics]
    baseline_pending = "test_top1" not in front.baseline
    if not pending and not baseline_pending:
        return
    progress.phase("test split", len(pending) + baseline_pending)
    split = prepared.dataset.open_test()
    unpruned = [prepared.space.full()] if baseline_pending else []
    measured = prepared.score_on([*unpruned, *(trial.candidate for trial in pending)], split)
    for trial, metrics in zip([*(None for _ in unpruned), *pending], measured, strict=True):
        named = {f"test_{metric}": value for metric, value in metrics.items()}
        if trial is None:
            store.add_baseline_metrics(name, named)
        else:
            store.add_metrics(name, trial.number, named)
        progress.advance("baseline" if trial is None else f"trial {trial.number}")


def write_files(record: SearchRecord, trials: Sequence[Trial], folder: Path) -> None:
    """Write ``front.csv``, ``front.png`` and ``report.html`` of a search into ``folder``."""
    front = search_front(record, trials)
    folder.mkdir(parents=True, exist_ok=True)
    write_csv(front, folder / "front.csv")
    plot_front(front, folder / "front.png", trials=trials)
    write_report(
        folder / "report.html",
        record=record,
        trials=trials,
        front=front,
        facts=facts(),
        channels=record.channels or None,
    )


def search_front(record: SearchRecord, trials: Sequence[Trial]) -> Front:
    """The front on the search's own objectives: its cost against its quality."""
    objectives = [parse_objective(text) for text in record.config["objectives"]]
    cost, quality = search_axes(objectives)
    return build_front(record.name, trials, baseline=record.baseline, x=str(cost), y=str(quality))


def facts() -> dict[str, str]:
    """Hardware and versions that a measured number needs beside it."""
    return {
        "processor": _processor(),
        "cores": str(os.cpu_count()),
        "system": platform.platform(terse=True),
        "Python": platform.python_version(),
        "autoprune": __version__,
        **{name: version(name) for name in _LIBRARIES},
    }


def _processor() -> str:
    """The processor's own name where the system tells it."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()
