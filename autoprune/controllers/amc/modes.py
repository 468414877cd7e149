"""The constants of the two modes."""

from __future__ import annotations

from dataclasses import dataclass

from autoprune.config.controllers import AmcControllerConfig
from autoprune.controllers.amc.exploration import Schedule

__all__ = ["Constants", "constants"]


@dataclass(frozen=True)
class Constants:
    """Of one search."""

    episodes: int
    warmup: int
    hidden: int
    rates: tuple[float, float]
    """Learning rates of actor and critic."""
    updates: int
    """Gradient steps after an episode, for each of its steps."""
    batch: int
    memory: int
    """Episodes in the replay."""
    schedule: Schedule
    restraint: float
    """Keeps the actor's sigmoid from saturating."""
    discount: float
    """0 in ``fixed``: the reward of the whole episode is known at each of its steps, so nothing is to be looked
    ahead for."""


def constants(config: AmcControllerConfig, episodes: int) -> Constants:
    """``paper``: the released code's. ``episodes`` counts where the configuration does not."""
    episodes = config.episodes or episodes
    if config.mode == "paper":
        warmup = config.warmup or 100
        return Constants(
            episodes, warmup, config.hidden or 300, (1e-4, 1e-3), 1, 64, 100, Schedule(0.5, 0.95, warmup), 0.0, 1.0
        )
    warmup = config.warmup or max(1, min(100, episodes // 4))
    schedule = Schedule.over(episodes, warmup, 0.3, 0.03)
    return Constants(episodes, warmup, config.hidden or 32, (3e-3, 3e-3), 2, 64, 1000, schedule, 0.1, 0.0)
