"""The constants of the two modes, and what the controller asks of either."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from autoprune.config.controllers import AmcControllerConfig
from autoprune.controllers.amc.exploration import Schedule
from autoprune.types import Candidate, Trial

__all__ = ["Constants", "Episodes", "constants"]


@dataclass(frozen=True)
class Constants:
    """Of one search."""

    episodes: int
    warmup: int
    hidden: int
    rates: tuple[float, float]
    """Learning rates of actor and critic."""
    batch: int
    """Transitions of a gradient step (``paper``), or whole episodes (``fixed``)."""
    memory: int
    """Episodes in the replay."""
    schedule: Schedule


def constants(config: AmcControllerConfig, episodes: int) -> Constants:
    """``paper``: the released code's. ``episodes`` counts where the configuration does not."""
    episodes = config.episodes or episodes
    if config.mode == "paper":
        warmup = config.warmup or 100
        return Constants(episodes, warmup, config.hidden or 300, (1e-4, 1e-3), 64, 100, Schedule(0.5, 0.95, warmup))
    warmup = config.warmup or max(1, min(10, episodes // 4))
    schedule = Schedule.over(episodes, warmup, 0.25, 0.025)
    return Constants(episodes, warmup, config.hidden or 32, (3e-3, 3e-3), 32, 1000, schedule)


class Episodes(Protocol):
    """How a mode walks through the groups and learns from what came of it."""

    def propose(self, number: int, attempt: int) -> tuple[Candidate, Mapping[str, object]]:
        """An episode, decoded, and what its trial's note must say; later attempts stray further."""
        ...

    def remember(self, trial: Trial, losses: np.ndarray) -> None:
        """Into the replay: losses (objectives,), infinite for a bad candidate."""
        ...

    def learn(self, number: int) -> None:
        """Gradient steps after trial ``number``."""
        ...

    def saved(self) -> str:
        """What was learnt, as text; empty where it is too much to save with a trial."""
        ...

    def load(self, text: str) -> bool:
        """What ``saved`` gave; False where it does not fit."""
        ...
