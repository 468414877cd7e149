"""The files a search leaves: front.csv, front.png, report.html; and the one look at the test split."""

from __future__ import annotations

import os
import platform
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from autoprune import __version__
from autoprune.analysis.axes import search_axes
from autoprune.analysis.front import Front, build_front, write_csv
from autoprune.analysis.nodes import NodeFigures, node_figures
from autoprune.analysis.overview import ACCIDENTS, Overview, search_objectives
from autoprune.analysis.plots import MOST_OTHERS, plot_front, thinned
from autoprune.analysis.report import write_report
from autoprune.api.preset_points import with_points
from autoprune.api.queries import read_front, read_history
from autoprune.types import SearchRecord, Trial, TrialState

if TYPE_CHECKING:
    from autoprune.driver.assemble import Prepared
    from autoprune.protocols import Progress
    from autoprune.store import Store

__all__ = [
    "audit_lines",
    "drawn_trials",
    "measure_test_split",
    "nodes_of",
    "objective_front",
    "search_front",
    "write_stored",
]

_LISTED_FAILURES = 50
_LIBRARIES = ("torch", "ray", "optuna", "numpy")


def measure_test_split(store: Store, prepared: Prepared, progress: Progress) -> None:
    """Score the front (and the baseline) on the test split, once; the search itself never opens it.

    The metrics are stored as ``test_top1`` and ``test_loss``. A trial that has them is not measured again.
    """
    from autoprune.api.rebuilding import deviation

    name = prepared.config.name
    front = objective_front(store, store.search(name))
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
            if text := deviation(prepared, trial):
                progress.note(text)
        progress.advance("baseline" if trial is None else f"trial {trial.number}")


def write_stored(store: Store, record: SearchRecord, folder: Path) -> None:
    """Write ``front.csv``, ``front.png`` and ``report.html`` of a search into ``folder``.

    Of more trials than a plot shows, some are loaded; counts and front are of all.
    """
    name, total = record.name, sum(record.trial_counts.values())
    if total <= MOST_OTHERS:
        trials = store.trials(name)
        return _write(store, record, search_front(record, trials), trials, None, folder)
    front = objective_front(store, record)
    others, uniform = _off_front(store, front)
    overview = Overview(
        counts={state.value: record.trial_counts.get(state.value, 0) for state in TrialState},
        history=read_history(store, name, search_objectives(record)),
        reused=store.reused(name),
        stopped_images=store.mean_metric(name, TrialState.STOPPED, "images"),
        stopped_epochs=store.mean_metric(name, TrialState.STOPPED, "epochs"),
        others=len(others),
    )
    some = store.trials(name, numbers={*thinned(range(total)), *thinned(uniform).tolist()})
    failed = store.trials(name, states=ACCIDENTS, limit=_LISTED_FAILURES)
    loaded = {trial.number: trial for trial in (*some, *failed, *front.trials)}
    _write(store, record, front, [loaded[number] for number in sorted(loaded)], overview, folder)


def drawn_trials(store: Store, front: Front) -> tuple[list[Trial], int]:
    """Trials off the front to draw behind it, by number: some, evenly spread, and those of uniform width.

    With how many comparable ones there are off the front.
    """
    others, uniform = _off_front(store, front)
    return store.trials(front.search, numbers={*thinned(others).tolist(), *thinned(uniform).tolist()}), len(others)


def _off_front(store: Store, front: Front) -> tuple[np.ndarray, np.ndarray]:
    """Numbers of the comparable trials off the front, and of those of them that have uniform widths; ascending."""
    found = store.metric_columns(front.search, [front.x.metric, front.y.metric])
    usable = np.isfinite(found.values[front.x.metric]) & np.isfinite(found.values[front.y.metric])
    numbers = found.numbers[usable]
    others = numbers[~np.isin(numbers, [trial.number for trial in front.trials])]
    uniform = np.array(store.noted(front.search, "origin", "uniform"), dtype=np.int64)
    return others, np.intersect1d(uniform, others)


def _write(
    store: Store,
    record: SearchRecord,
    front: Front,
    trials: Sequence[Trial],
    overview: Overview | None,
    folder: Path,
) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    write_csv(front, folder / "front.csv")
    front = with_points(store, front)
    plot_front(front, folder / "front.png", trials=trials, others=None if overview is None else overview.others)
    write_report(
        folder / "report.html",
        record=record,
        trials=trials,
        front=front,
        facts=facts(),
        channels=record.channels or None,
        overview=overview,
        audits=audit_lines(store, record.name),
        nodes=nodes_of(store, record.name),
    )


def nodes_of(store: Store, name: str) -> list[NodeFigures]:
    """What each node did for a search."""
    return node_figures(store.worker_totals(name), store.active_seconds(name))


def audit_lines(store: Store, name: str) -> list[str]:
    """What stored audits of a search's ranking found, a line an arm, with their warnings."""
    return [
        f"The {item['short']}.{' Warning: ' * bool(item['warning'])}{item['warning']}" for item in store.audits(name)
    ]


def objective_front(store: Store, record: SearchRecord) -> Front:
    """The front on the search's own objectives: its cost against its quality."""
    return read_front(store, record.name, search_axes(search_objectives(record)))


def search_front(record: SearchRecord, trials: Sequence[Trial]) -> Front:
    """The same of trials at hand."""
    x, y = search_axes(search_objectives(record))
    return build_front(record.name, trials, baseline=record.baseline, x=str(x), y=str(y))


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
