"""Carrying trainings out: what the store lacks, on the executor of the search, each result kept as it comes."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from pathlib import Path

from autoprune.api.comparing_session import RunSession
from autoprune.api.training_materials import materials, require_images
from autoprune.config.schema import RayExecutorConfig, SearchConfig, SerialExecutorConfig
from autoprune.driver.assemble import Prepared, with_model_file
from autoprune.errors import ConfigError, SearchAborted
from autoprune.protocols import AskTell, Progress
from autoprune.retraining.runs import Materials, Run, make_retrainer
from autoprune.store import Store

__all__ = ["carry_out", "executed_by", "output_folder"]


def executed_by(config: SearchConfig, kind: str | None) -> SearchConfig:
    """The search with ``serial`` or ``ray`` in place of its own executor; None: as it is. Raises ConfigError for a
    search that has no images to train on."""
    require_images(config)
    if kind is None or kind == config.executor.kind:
        return config
    return config.model_copy(update={"executor": SerialExecutorConfig() if kind == "serial" else RayExecutorConfig()})


def output_folder(folder: Path) -> Path:
    """Made now: a folder that cannot be written is said before hours of training. Raises ConfigError."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(
            f"the folder {folder} cannot be made: {error.strerror}.", "Give another with --out."
        ) from None
    if not os.access(folder, os.W_OK):
        raise ConfigError(f"the folder {folder} cannot be written.", "Give another with --out.")
    return folder


def carry_out(opened: Store, prepared: Prepared, runs: Sequence[Run], progress: Progress) -> tuple[int, list[str]]:
    """Run what the store lacks; how many this call ended, and why others did not.

    What another process is at just now is waited for. Raises SearchAborted when no run could be carried out at all,
    KeyboardInterrupt when it was stopped.
    """
    wanted = list({run.digest: run for run in runs}.values())
    kept = opened.retrainings([run.digest for run in wanted])
    pending = [run for run in wanted if run.digest not in kept]
    progress.phase("training", sum(run.epochs for run in wanted))
    progress.advance(
        f"{len(kept)} of {len(wanted)} runs are in the store", sum(run.epochs for run in wanted if run.digest in kept)
    )
    if not pending:
        return 0, []
    with RunSession(opened, prepared.config.name, pending, prepared.config.limits.retries, progress) as session:
        given = materials(prepared, pending, sent=True)
        while session.await_work():
            _execute(prepared, given, session)
    reasons = sorted(set(session.failed.values()))
    if session.stopped:
        raise KeyboardInterrupt
    if not kept and not opened.retrainings([run.digest for run in pending]):
        raise SearchAborted(f"no run could be carried out: {'; '.join(reasons)}.", "Nothing was stored.")
    return session.ended, reasons


def _execute(prepared: Prepared, given: Materials, session: AskTell) -> None:
    """On the executor of the search. Trainings have no time limit."""
    executor = prepared.config.executor
    if isinstance(executor, RayExecutorConfig):
        from autoprune.executors.ray_tune import RayTuneExecutor

        make = with_model_file(prepared.config, make_retrainer)
        return RayTuneExecutor(executor, given, make, math.inf, training=True).run(session)
    from autoprune.executors.serial import SerialExecutor
    from autoprune.training.threads import torch_threads

    with torch_threads(1):  # as a Ray worker of one processor: the same numbers to the bit
        return SerialExecutor(lambda: make_retrainer(given), math.inf).run(session)
