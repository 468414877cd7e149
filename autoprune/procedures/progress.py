"""Where a procedure is, on disk and in memory: after a kill it goes on from the last round, or inside a training."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from autoprune.procedures.network import Standing
from autoprune.procedures.setting import Setting
from autoprune.training.cache import TrainedCache

__all__ = ["CACHE", "Course", "Row"]

CACHE = TrainedCache("procedures", "pruned model")
_SAVE_SECONDS = 20.0


@dataclass
class Row:
    """One line of the table that a procedure leaves."""

    stage: str
    macs: float
    params: float
    before: float | None = None
    """top1 on search-val after the cut, BatchNorm re-estimated, before anything is trained."""
    after: float | None = None
    """The same after the training that followed."""


@dataclass
class Course:
    """How far a procedure is."""

    standing: Standing
    phase: int = 0
    """Place among the preset's phases."""
    round: int = 0
    """Rounds of this phase that are over."""
    stage: int = 0
    """Trainings and rounds so far; what is drawn at random depends on it."""
    rows: list[Row] = field(default_factory=list)
    metrics: dict[str, float] = field(default_factory=dict)
    """Of the final model; empty while the procedure runs."""
    baseline: dict[str, float] = field(default_factory=dict)
    """Of the base model on the same images."""
    seconds: float = 0.0
    """Spent until the last save, in all attempts."""
    saved_at: float = field(default_factory=time.perf_counter)

    @property
    def done(self) -> bool:
        return bool(self.metrics)

    def save(self, key: str) -> None:
        """Write the network and all of this under ``key``."""
        now = time.perf_counter()
        self.seconds, self.saved_at = self.seconds + now - self.saved_at, now
        record = {
            "phase": self.phase,
            "round": self.round,
            "stage": self.stage,
            "rows": [asdict(row) for row in self.rows],
            "metrics": self.metrics,
            "baseline": self.baseline,
            "seconds": self.seconds,
            "kept": {name: units.tolist() for name, units in self.standing.kept.items()},
        }
        CACHE.save(key, self.standing.module, record)

    def save_now_and_then(self, key: str) -> None:
        """``save`` when the last one is 20 seconds ago."""
        if time.perf_counter() - self.saved_at > _SAVE_SECONDS:
            self.save(key)

    @classmethod
    def resume(cls, key: str, setting: Setting) -> Course | None:
        """What was saved under ``key``; None when nothing was, or it is damaged (which is warned of)."""
        found = CACHE.load(key)
        if found is None:
            return None
        state, record = found
        standing = _rebuilt(record["kept"], setting)
        standing.module.load_state_dict(state)
        rows = [Row(**row) for row in record["rows"]]
        numbers = {name: record[name] for name in ("phase", "round", "stage", "metrics", "baseline", "seconds")}
        return cls(standing, rows=rows, **numbers)


def _rebuilt(kept: Mapping[str, Any], setting: Setting) -> Standing:
    units = {name: np.array(each, dtype=np.int64) for name, each in kept.items()}
    return Standing.begin(setting.base, setting.groups).cut(units)
