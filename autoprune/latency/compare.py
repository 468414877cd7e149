"""Networks timed side by side: in turns, so that a change of the machine's speed meets all of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from torch import Tensor, nn

from autoprune.latency.measure import Latency, Run, quiet_torch, ready_runner, summary, timed_runs, undisturbed
from autoprune.latency.settings import LatencySettings

__all__ = ["SideBySide", "measure_side_by_side"]


@dataclass(frozen=True, eq=False)
class SideBySide:
    latencies: Mapping[str, Latency]
    rounds: Mapping[str, np.ndarray]
    """The median of each network in each round, in ms: (R,) float64."""

    def ratio(self, one: str, other: str) -> tuple[float, float, float]:
        """Time of ``one`` over that of ``other``, round by round: lower quartile, median, upper quartile."""
        low, middle, high = np.percentile(self.rounds[one] / self.rounds[other], (25, 50, 75))
        return float(low), float(middle), float(high)


def measure_side_by_side(
    models: Mapping[str, nn.Module],
    example_input: Tensor | tuple[Tensor, ...],
    settings: LatencySettings | None = None,
    *,
    repeats: int = 50,
    rounds: int = 10,
    warmup: int = 10,
) -> SideBySide:
    """Time copies of the models, ``repeats`` runs each at least, spread over ``rounds``; every second in reverse.

    ``example_input`` as for :func:`autoprune.latency.measure.measure_latency`. Raises ConfigError for settings that
    this machine cannot meet.
    """
    settings = settings or LatencySettings()
    names = list(models)
    runs: dict[str, list[Run]] = {name: [] for name in names}
    medians: dict[str, list[float]] = {name: [] for name in names}
    with quiet_torch(settings):
        ready = {name: ready_runner(models[name], example_input, settings) for name in names}
        for name in names:
            timed_runs(ready[name], repeats=1, warmup=warmup)
        for number in range(rounds):
            for name in names if number % 2 == 0 else reversed(names):
                timed = timed_runs(ready[name], repeats=max(1, round(repeats / rounds)))
                runs[name] += timed
                medians[name].append(float(np.median(undisturbed(timed))))
    latencies = {name: summary(own, settings) for name, own in runs.items()}
    return SideBySide(latencies, {name: np.array(own) for name, own in medians.items()})
