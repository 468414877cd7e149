"""Making a latency table: time a few dozen networks by segment, and others whole to fit and to check the sum."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from typing import NamedTuple

import numpy as np
from torch import Tensor, nn

from autoprune.errors import ConfigError
from autoprune.latency.design import designed_widths
from autoprune.latency.layout import Segment
from autoprune.latency.measure import (
    Run,
    counted_runs,
    device_label,
    prepared,
    quiet_torch,
    runner,
    timed_runs,
    typical_ms,
)
from autoprune.latency.predictor import LatencyModel
from autoprune.latency.segments import Borders, find_segments
from autoprune.latency.settings import LatencySettings
from autoprune.latency.staircase import Staircase
from autoprune.latency.sweeps import sweep
from autoprune.latency.table import LatencyTable, Timed, architecture_digest, group_shapes
from autoprune.pruning.slicing import Slicer
from autoprune.space.space import SearchSpace

__all__ = ["Effort", "build_table"]

OnProgress = Callable[[int, int], None]


@dataclass(frozen=True)
class Effort:
    """How much is measured. A network is visited once a round, in a new order, and its quietest round counts."""

    levels: int = 7
    """About its square is the number of networks timed by segment."""
    rounds: int = 3
    runs: int = 5
    """Forward passes a visit; their median is the visit's time."""
    fitted: int = 12
    held_out: int = 20

    def __post_init__(self) -> None:
        least = {"levels": 2, "rounds": 1, "runs": 1, "fitted": 2, "held_out": 1}
        for name, low in least.items():
            if getattr(self, name) < low:
                raise ConfigError(f"{name} must be at least {low}, got {getattr(self, name)}.")


def build_table(
    model: nn.Module,
    example_input: Tensor,
    space: SearchSpace,
    settings: LatencySettings | None = None,
    *,
    effort: Effort | None = None,
    name: str = "",
    seed: int = 0,
    on_progress: OnProgress | None = None,
) -> LatencyTable:
    """Measure ``model`` over the widths of ``space`` on this machine. Weights do not matter, the model is not changed.

    ``example_input`` has the batch dimension first. ``on_progress`` gets (steps done, all steps). Raises ConfigError
    for settings that this machine cannot meet, or a network that does not run the same layers at every width.
    """
    settings, effort = settings or LatencySettings(), effort or Effort()
    if settings.compiled:
        raise ConfigError("a compiled network cannot be timed layer by layer.", "Make the table without compiling.")
    with quiet_torch(settings):
        found = _measured(*prepared(model, example_input, settings), space, settings, effort, seed, on_progress)
    cut = effort.fitted
    unknown = np.zeros(len(found.whole_ms))
    table = LatencyTable(
        name=name or type(model).__name__,
        device=device_label(settings),
        settings=settings,
        made=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        architecture=architecture_digest(space.cost),
        groups=group_shapes(space.cost),
        segments=found.segments,
        widths=found.designed,
        times_ms=found.times_ms,
        fitted=Timed(found.whole[:cut], found.whole_ms[:cut], unknown[:cut]),
        held_out=Timed(found.whole[cut:], found.whole_ms[cut:], unknown[cut:]),
        staircases=found.staircases,
    )
    return _calibrated(table, space)


class _Measured(NamedTuple):
    segments: tuple[Segment, ...]
    designed: np.ndarray
    """(N, G): widths of the networks timed by segment; ``times_ms`` (N, S)."""
    times_ms: np.ndarray
    whole: np.ndarray
    """(M, G): widths of the networks timed whole; ``whole_ms`` (M,)."""
    whole_ms: np.ndarray
    staircases: tuple[Staircase, ...]


def _measured(
    base: nn.Module,
    images: Tensor,
    space: SearchSpace,
    settings: LatencySettings,
    effort: Effort,
    seed: int,
    on_progress: OnProgress | None,
) -> _Measured:
    watched, segments = find_segments(base, images, space.cost, settings)
    allowed = [item.allowed for item in space.dimensions]
    designed = designed_widths(allowed, _meetings(segments, space), levels=effort.levels, seed=seed)
    whole = _random_widths(space, effort.fitted + effort.held_out, seed)
    visits = _Visits(base, images, space, settings, watched, len(segments))
    times, whole_ms = visits.all(designed, whole, effort, seed, on_progress)
    staircases = sweep(base, images, _slowest(segments, times[0]), settings)
    if on_progress is not None:
        steps = effort.rounds * (len(designed) + len(whole)) + 1
        on_progress(steps, steps)
    return _Measured(segments, designed, times, whole, whole_ms, staircases)


def _calibrated(table: LatencyTable, space: SearchSpace) -> LatencyTable:
    """With intercept and scale by least squares on relative errors, drawn towards 0 and 1, and all predictions."""
    allowed = [item.allowed for item in space.dimensions]
    raw = LatencyModel(table, space.cost, allowed).metrics(table.fitted.widths)["latency_ms"]
    measured = table.fitted.measured_ms
    level = float(measured.mean())
    rows = np.stack([level / measured, raw / measured], axis=1)
    pull = 0.05 * len(measured) ** 0.5 * np.eye(2)
    system = np.concatenate([rows, pull])
    target = np.concatenate([np.ones(len(measured)), pull @ np.array([0.0, 1.0])])
    (offset, scale), *_ = np.linalg.lstsq(system, target, rcond=None)
    if not scale > 0:
        offset, scale = 0.0, float(measured.sum() / raw.sum())
    ready = replace(table, intercept=float(offset * level), scale=float(scale))
    predict = LatencyModel(ready, space.cost, allowed).metrics
    timed = [
        replace(item, predicted_ms=predict(item.widths)["latency_ms"].round(6))
        for item in (ready.fitted, ready.held_out)
    ]
    return replace(ready, fitted=timed[0], held_out=timed[1])


def _meetings(segments: tuple[Segment, ...], space: SearchSpace) -> set[tuple[int, int]]:
    """Pairs of groups whose widths decide the time of one segment."""
    number = {name: position for position, name in enumerate(space.names)}
    pairs = set()
    for segment in segments:
        groups = sorted({number[name] for axis in (segment.first, segment.second) for name in axis.positions})
        pairs |= {(one, other) for one in groups for other in groups if one < other}
    return pairs


def _slowest(segments: tuple[Segment, ...], times: np.ndarray) -> list[str]:
    """The layer of each kind that takes the longest at full width; ``times`` (S,)."""
    slowest: dict[str, str] = {}
    for at in np.argsort(-times, kind="stable"):
        kind = ", ".join(segments[at].signature.split(", ")[:3])  # type, kernel, and groups if any
        if " -> " not in segments[at].name:
            slowest.setdefault(kind, segments[at].name)
    return list(slowest.values())


def _random_widths(space: SearchSpace, count: int, seed: int) -> np.ndarray:
    """Networks of all sizes, with different shares of each group: (count, G) int64."""
    rng = np.random.default_rng((seed, 1))
    top = np.array([len(item.allowed) - 1 for item in space.dimensions])
    share = rng.random((count, 1)) + rng.normal(0.0, 0.25, (count, len(top)))
    index = np.rint(np.clip(share, 0.0, 1.0) * top).astype(np.int64)
    rows = [[item.allowed[at] for item, at in zip(space.dimensions, row, strict=True)] for row in index]
    return np.array(rows, dtype=np.int64).reshape(count, len(top))


class _Visits:
    """Slices and times the networks, round after round."""

    def __init__(
        self,
        base: nn.Module,
        images: Tensor,
        space: SearchSpace,
        settings: LatencySettings,
        watched: list[str],
        segments: int,
    ) -> None:
        self._slice = Slicer(base, space.groups)
        self._images = images
        self._groups = space.groups
        self._settings = settings
        self._watched = watched
        self._segments = segments

    def all(
        self, designed: np.ndarray, whole: np.ndarray, effort: Effort, seed: int, on_progress: OnProgress | None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Times by segment (N, S) and of whole networks (M,), in ms."""
        times = np.full((effort.rounds, len(designed), self._segments), np.inf)
        measured = np.full((effort.rounds, len(whole)), np.inf)
        count = len(designed) + len(whole)
        for turn in range(effort.rounds):
            for done, visit in enumerate(np.random.default_rng((seed, 2, turn)).permutation(count)):
                if visit < len(designed):
                    times[turn, visit] = self._by_segment(designed[visit], effort.runs)
                else:
                    measured[turn, visit - len(designed)] = self._whole(whole[visit - len(designed)], effort.runs)
                if on_progress is not None:
                    on_progress(turn * count + done + 1, effort.rounds * count + 1)
        quietest = times.sum(axis=2).argmin(axis=0)
        return times[quietest, np.arange(len(designed))].round(6), measured.min(axis=0).round(6)

    def _network(self, widths: np.ndarray) -> nn.Module:
        pairs = zip(self._groups, widths, strict=True)
        return self._slice({group.name: np.arange(int(width) // group.unit) for group, width in pairs}).eval()

    def _whole(self, widths: np.ndarray, runs: int) -> float:
        return typical_ms(runner(self._network(widths), self._images, self._settings), repeats=2 * runs)

    def _by_segment(self, widths: np.ndarray, runs: int) -> np.ndarray:
        borders = Borders(self._network(widths), self._watched, self._settings)
        kept: list[np.ndarray] = []

        def run() -> Run:
            times, whole = borders.run(self._images)
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
