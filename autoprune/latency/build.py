"""Making a latency table: time a few dozen networks by segment, and others whole to fit and to check the sum."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timezone
from typing import NamedTuple

import numpy as np
from torch import Tensor, nn

from autoprune.errors import ConfigError
from autoprune.latency.advice import LayerKind, layer_kind, varied_sides
from autoprune.latency.design import designed_widths
from autoprune.latency.layout import Segment
from autoprune.latency.measure import device_label, prepared, quiet_torch
from autoprune.latency.predictor import LatencyModel
from autoprune.latency.segments import find_segments
from autoprune.latency.settings import LatencySettings
from autoprune.latency.staircase import Staircase
from autoprune.latency.sweeps import sweep
from autoprune.latency.table import LatencyTable, Timed, architecture_digest, group_shapes
from autoprune.latency.visits import OnProgress, Visits
from autoprune.space.space import SearchSpace

__all__ = ["Effort", "build_table"]

_MOST_SWEPT = 24
_SWEPT_SHARE = 0.95
_COMPILED_FITTED = 6
_COMPILED_HELD_OUT = 8


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

    @classmethod
    def suited(cls, settings: LatencySettings, **given: int) -> Effort:
        """The defaults for ``settings``, but for what is given: each network timed whole is compiled, in seconds."""
        few = {"fitted": _COMPILED_FITTED, "held_out": _COMPILED_HELD_OUT} if settings.compiled else {}
        return cls(**{**few, **given})


def build_table(
    model: nn.Module,
    example_input: Tensor | tuple[Tensor, ...],
    space: SearchSpace,
    settings: LatencySettings | None = None,
    *,
    effort: Effort | None = None,
    name: str = "",
    seed: int = 0,
    on_progress: OnProgress | None = None,
) -> LatencyTable:
    """Measure ``model`` over the widths of ``space`` on this machine. Weights do not matter, the model is not changed.

    ``example_input`` (a tuple for a model of several inputs) has the batch dimension first. ``on_progress`` gets (steps
    done, all steps). A compiled network cannot be cut at its layers: with ``settings.compiled`` the layers are timed
    without compiling, and the networks timed whole are compiled, which decides how much of the layers, and of what runs
    between them, is left. Raises ConfigError for settings that this machine cannot meet, or a network that does not
    run the same layers at every width.
    """
    settings = settings or LatencySettings()
    effort = effort or Effort.suited(settings)
    plain = replace(settings, compiled=False)
    with quiet_torch(settings):
        base, inputs = prepared(model, example_input, plain)
        found = _measured(base, inputs, space, settings, effort, seed, on_progress)
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
    inputs: tuple[Tensor, ...],
    space: SearchSpace,
    settings: LatencySettings,
    effort: Effort,
    seed: int,
    on_progress: OnProgress | None,
) -> _Measured:
    plain = replace(settings, compiled=False)
    watched, segments = find_segments(base, inputs, space.cost, plain)
    allowed = [item.allowed for item in space.dimensions]
    designed = designed_widths(allowed, _meetings(segments, space), levels=effort.levels, seed=seed)
    whole = _random_widths(space, effort.fitted + effort.held_out, seed)
    visits = Visits(base, inputs, space.groups, settings, watched, len(segments))
    times, whole_ms = visits.all(designed, whole, effort.rounds, effort.runs, seed, on_progress)
    staircases = sweep(base, inputs, _swept(segments, times[0], space), plain)
    if on_progress is not None:
        steps = visits.steps(len(designed), len(whole), effort.rounds) + 1
        on_progress(steps, steps)
    return _Measured(segments, designed, times, whole, whole_ms, staircases)


def _calibrated(table: LatencyTable, space: SearchSpace) -> LatencyTable:
    """With the coefficients fitted, and all predictions."""
    allowed = [item.allowed for item in space.dimensions]

    def predicted(table: LatencyTable, widths: np.ndarray) -> np.ndarray:
        return LatencyModel(table, space.cost, allowed).metrics(widths)["latency_ms"]

    widths, measured = table.fitted.widths, table.fitted.measured_ms
    layers = predicted(replace(table, between=0.0), widths)
    glue = predicted(table, widths) - layers
    offset, scale, between = _coefficients(layers, glue, measured, apart=table.settings.compiled)
    ready = replace(table, intercept=offset, scale=scale, between=between)
    timed = [
        replace(item, predicted_ms=predicted(ready, item.widths).round(6)) for item in (ready.fitted, ready.held_out)
    ]
    return replace(ready, fitted=timed[0], held_out=timed[1])


def _coefficients(
    layers: np.ndarray, glue: np.ndarray, measured: np.ndarray, *, apart: bool
) -> tuple[float, float, float]:
    """Intercept, scale and between: least squares on relative errors, drawn towards 0, 1 and 1. All inputs (M,) ms.

    ``apart`` fits layers and what runs between them separately; where the latter comes out negative it is 0.
    """
    columns = [np.full(len(measured), float(measured.mean())), *([layers, glue] if apart else [layers + glue])]
    solved = _pulled(columns, measured, np.array([0.0, *[1.0] * (len(columns) - 1)]))
    if apart and solved[2] < 0:
        solved = np.append(_pulled(columns[:2], measured, np.array([0.0, 1.0])), 0.0)
    offset, scale, *rest = (float(value) for value in solved)
    if not scale > 0:
        return 0.0, float(measured.sum() / (layers + glue).sum()), 1.0
    return offset * float(measured.mean()), scale, max(rest[0], 0.0) / scale if rest else 1.0


def _pulled(columns: list[np.ndarray], measured: np.ndarray, towards: np.ndarray) -> np.ndarray:
    pull = 0.05 * len(measured) ** 0.5 * np.eye(len(towards))
    system = np.concatenate([np.stack(columns, axis=1) / measured[:, None], pull])
    target = np.concatenate([np.ones(len(measured)), pull @ towards])
    return np.asarray(np.linalg.lstsq(system, target, rcond=None)[0])


def _meetings(segments: tuple[Segment, ...], space: SearchSpace) -> set[tuple[int, int]]:
    """Pairs of groups whose widths decide the time of one segment."""
    number = {name: position for position, name in enumerate(space.names)}
    pairs = set()
    for segment in segments:
        groups = sorted({number[name] for axis in (segment.first, segment.second) for name in axis.positions})
        pairs |= {(one, other) for one in groups for other in groups if one < other}
    return pairs


def _swept(segments: tuple[Segment, ...], times: np.ndarray, space: SearchSpace) -> dict[str, tuple[str, ...]]:
    """Layers to sweep and their sides: one of each kind, the kinds that take longest first, until 95 % of the time of
    all layers that a group varies is covered. ``times`` (S,) of the full network."""
    full = {name: shape.channels // shape.unit for name, shape in group_shapes(space.cost).items()}
    layers = [at for at, segment in enumerate(segments) if segment.is_layer and varied_sides(segment)]
    together: dict[LayerKind, float] = {}
    for at in layers:
        kind = layer_kind(segments[at], full)
        together[kind] = together.get(kind, 0.0) + float(times[at])
    first = {layer_kind(segments[at], full): segments[at] for at in reversed(layers)}
    chosen: dict[str, tuple[str, ...]] = {}
    left = (1.0 - _SWEPT_SHARE) * sum(together.values())
    uncovered = sum(together.values())
    for kind in sorted(together, key=lambda kind: -together[kind])[:_MOST_SWEPT]:
        if uncovered <= left:
            break
        chosen[first[kind].name] = varied_sides(first[kind])
        uncovered -= together[kind]
    return chosen


def _random_widths(space: SearchSpace, count: int, seed: int) -> np.ndarray:
    """Networks of all sizes, with different shares of each group: (count, G) int64."""
    rng = np.random.default_rng((seed, 1))
    top = np.array([len(item.allowed) - 1 for item in space.dimensions])
    share = rng.random((count, 1)) + rng.normal(0.0, 0.25, (count, len(top)))
    index = np.rint(np.clip(share, 0.0, 1.0) * top).astype(np.int64)
    rows = [[item.allowed[at] for item, at in zip(space.dimensions, row, strict=True)] for row in index]
    return np.array(rows, dtype=np.int64).reshape(count, len(top))
