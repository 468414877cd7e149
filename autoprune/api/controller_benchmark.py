"""Which controller to use: all of them on one space, with equal budgets of evaluations, over several seeds."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from autoprune.driver.observers import Silent
from autoprune.errors import StoreError, without_password

if TYPE_CHECKING:
    from autoprune.analysis.controller_benchmark import ControllerBenchmark
    from autoprune.config.benchmark import BenchmarkConfig
    from autoprune.protocols import Progress

__all__ = ["ControllerBenchmarkResult", "benchmark_controllers"]


@dataclass(frozen=True)
class ControllerBenchmarkResult:
    """What was found, and the files that say so."""

    benchmark: ControllerBenchmark
    output: Path
    files: tuple[Path, ...]


def benchmark_controllers(
    config: str | Path | Mapping[str, Any] | BenchmarkConfig,
    *,
    overrides: Sequence[str] = (),
    workers: int | None = None,
    recorded_only: bool = False,
    from_store: str | None = None,
    progress: Progress | None = None,
) -> ControllerBenchmarkResult:
    """Compare controllers as a benchmark file says (``launch/benchmark_controllers_digits.yaml`` is one).

    Each run of an arm is a search on a simulated clock. Candidates that the table holds are looked up; the others are
    measured, ``workers`` runs at a time (null: one a core; 1: in this process), and kept at once. So a run that was
    killed goes on where it was, and a second one takes what the controllers take. ``recorded_only``: measure nothing,
    and need neither data nor weights. ``from_store``: a store whose trials of the same evaluation are recorded first.

    With more than one worker the calling script needs ``if __name__ == "__main__":``, since processes are started.

    Raises ConfigError, NothingFeasible (a budget out of reach), NotFound (a candidate is not recorded), Conflict (the
    table was recorded with another base model or other images) and StoreError.
    """
    from autoprune.analysis.controller_report import write_report
    from autoprune.api import controller_benchmark_prepare as prepare
    from autoprune.api.controller_benchmark_pool import run_all
    from autoprune.config.benchmark import BenchmarkConfig
    from autoprune.config.loading import load_with_space

    loaded = load_with_space(BenchmarkConfig, config, overrides)
    shown = progress or Silent()
    shown.phase("groups")
    space = prepare.checked_space(loaded)
    table = prepare.open_table(loaded, space)
    if recorded_only:
        bench = prepare.recorded(loaded, space, table)
    else:
        bench = prepare.measurable(loaded, space, table, shown)
        if from_store is not None:
            count, shown_url = prepare.record_store(from_store, bench, table), without_password(from_store)
            shown.note(f"{count} candidates of {shown_url} are recorded now")
    try:
        runs, measured = run_all(bench, prepare.tasks(loaded), workers or _cores(), shown)
    finally:
        table.compact()
    result = prepare.result(bench, runs, measured, len(table))
    shown.phase("report")
    output = Path(loaded.output) / loaded.name
    try:
        files = write_report(result, output)
    except OSError as error:
        raise StoreError(
            f"the report cannot be written to {output}: {error.strerror}.", "Use --set output=DIR."
        ) from None
    return ControllerBenchmarkResult(result, output, tuple(files))


def _cores() -> int:
    """Those that this process may use, where the system says so."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
