"""Slicing and timing the networks of a table, round after round in a new order: a slow spell meets all alike."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor, nn

from autoprune.errors import ConfigError
from autoprune.latency.measure import Run, counted_runs, ready_runner, runner, timed_runs, typical_ms
from autoprune.latency.segments import Borders
from autoprune.latency.settings import LatencySettings
from autoprune.pruning.slicing import Slicer
from autoprune.types import ChannelGroup

__all__ = ["OnProgress", "Visits"]

OnProgress = Callable[[int, int], None]


class Visits:
    """``base`` and ``inputs`` are in the dtype, layout and on the device of ``settings``, and not compiled."""

    def __init__(
        self,
        base: nn.Module,
        inputs: tuple[Tensor, ...],
        groups: Sequence[ChannelGroup],
        settings: LatencySettings,
        watched: list[str],
        segments: int,
    ) -> None:
        self._slice = Slicer(base, groups)
        self._inputs = inputs
        self._groups = groups
        self._settings = settings
        self._plain = replace(settings, compiled=False)
        self._watched = watched
        self._segments = segments

    def steps(self, designed: int, whole: int, rounds: int) -> int:
        """Visits of so many networks. A network that has to be compiled is visited once, for all rounds."""
        return rounds * designed + (1 if self._settings.compiled else rounds) * whole

    def all(
        self, designed: np.ndarray, whole: np.ndarray, rounds: int, runs: int, seed: int, on_progress: OnProgress | None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Times by segment (N, S) and of whole networks (M,), in ms: each network's quietest round."""
        times = np.full((rounds, len(designed), self._segments), np.inf)
        measured = np.full((rounds, len(whole)), np.inf)
        once = self._settings.compiled
        done, steps = 0, self.steps(len(designed), len(whole), rounds) + 1
        for turn in range(rounds):
            count = len(designed) + (0 if once and turn else len(whole))
            for visit in np.random.default_rng((seed, 2, turn)).permutation(count):
                if visit < len(designed):
                    times[turn, visit] = self._by_segment(designed[visit], runs)
                else:
                    at = visit - len(designed)
                    measured[turn, at] = self._whole(whole[at], 2 * runs * (rounds if once else 1))
                done += 1
                if on_progress is not None:
                    on_progress(done, steps)
        quietest = times.sum(axis=2).argmin(axis=0)
        return times[quietest, np.arange(len(designed))].round(6), measured.min(axis=0).round(6)

    def _network(self, widths: np.ndarray) -> nn.Module:
        pairs = zip(self._groups, widths, strict=True)
        return self._slice({group.name: np.arange(int(width) // group.unit) for group, width in pairs}).eval()

    def _whole(self, widths: np.ndarray, runs: int) -> float:
        network = self._network(widths)
        if not self._settings.compiled:
            return typical_ms(runner(network, self._inputs, self._settings), repeats=runs)
        torch._dynamo.reset()  # beyond a few shapes of one class, it would stop compiling without a word
        return typical_ms(ready_runner(network, self._inputs, self._settings), repeats=runs)

    def _by_segment(self, widths: np.ndarray, runs: int) -> np.ndarray:
        borders = Borders(self._network(widths), self._watched, self._plain)
        kept: list[np.ndarray] = []

        def run() -> Run:
            times, whole = borders.run(self._inputs)
            kept.append(times)
            return whole

        timed = timed_runs(run, repeats=runs)
        times = np.stack(kept[-len(timed) :])[counted_runs(timed)]
        if times.shape[1] != self._segments:
            raise ConfigError(
                f"the network runs {times.shape[1]} segments at one width and {self._segments} at full width.",
                "A network whose layers depend on its widths has no latency table.",
            )
        return np.asarray(np.median(times, axis=0))
