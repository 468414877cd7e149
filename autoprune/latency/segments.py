"""A forward pass cut at the borders of its layers, and timed piece by piece as it runs."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from autoprune.cost.table import CostTable, Term
from autoprune.latency.layout import Axis, Segment
from autoprune.latency.measure import Run, Stopwatch
from autoprune.latency.settings import LatencySettings

__all__ = ["Borders", "find_segments"]


class Borders:
    """Notes the time whenever one of the named modules starts or ends."""

    def __init__(self, model: nn.Module, names: list[str], settings: LatencySettings) -> None:
        self._stopwatch = Stopwatch(settings)
        self._cuda = settings.device != "cpu"
        self._model = model
        self._events: list[tuple[str, str, Any]] = []
        self._shapes: dict[str, tuple[int, ...]] = {}
        self._hooks = []
        for name in names:
            module = model.get_submodule(name)
            self._hooks.append(module.register_forward_pre_hook(self._noting("start", name)))
            self._hooks.append(module.register_forward_hook(self._noting("end", name)))

    def _noting(self, kind: str, name: str) -> Callable[..., None]:
        def hook(module: nn.Module, args: tuple[Any, ...], *_: object) -> None:
            self._events.append((kind, name, self._now()))
            if kind == "start" and args and isinstance(args[0], Tensor):
                self._shapes[name] = tuple(args[0].shape)

        return hook

    def _now(self) -> Any:
        if not self._cuda:
            return self._stopwatch.clock()
        event = torch.cuda.Event(enable_timing=True)
        event.record()
        return event

    def run(self, inputs: tuple[Tensor, ...]) -> tuple[np.ndarray, Run]:
        """Times between neighbouring borders of one forward pass, in ms, (borders + 1,) float64; and the whole run."""
        self._events.clear()
        self._stopwatch.start()
        start = self._now()
        self._model(*inputs)
        times = [start, *(when for *_, when in self._events), self._now()]
        run = self._stopwatch.stop()
        if self._cuda:
            torch.cuda.synchronize(inputs[0].device)
            return np.array([one.elapsed_time(other) for one, other in itertools.pairwise(times)]), run
        return np.diff(np.array(times)) * 1e3, run

    @property
    def order(self) -> list[tuple[str, str]]:
        """The borders of the last run: (``start`` or ``end``, layer)."""
        return [(kind, name) for kind, name, _ in self._events]

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Shape of what each layer read in the last run."""
        return dict(self._shapes)

    def close(self) -> None:
        for hook in self._hooks:
            hook.remove()


def find_segments(
    model: nn.Module, inputs: tuple[Tensor, ...], cost: CostTable, settings: LatencySettings
) -> tuple[list[str], tuple[Segment, ...]]:
    """The layers to watch and the segments of a forward pass of the full model, in the order in which they run."""
    terms = {name: term for term in cost.terms if term.applications and (name := _owner(model, term))}
    borders = Borders(model, list(terms), settings)
    try:
        borders.run(inputs)
    finally:
        borders.close()
    sides = {name: _sides(term, model.get_submodule(name), cost) for name, term in terms.items()}
    order = [("start", ""), *borders.order, ("end", "")]
    segments = []
    for (kind, name), (next_kind, next_name) in itertools.pairwise(order):
        if kind == "start" and next_kind == "end" and name == next_name and name:
            signature = _signature(model.get_submodule(name), terms[name], borders.shapes.get(name, ()))
            segments.append(Segment(name, signature, *sides[name]))
            continue
        before = sides[name][1 if kind == "end" else 0] if name else Axis()
        after = sides[next_name][0 if next_kind == "start" else 1] if next_name else Axis()
        label = f"{name or 'images'} -> {next_name or 'output'}"
        segments.append(Segment(label, label, before, after))
    return list(terms), tuple(segments)


def _owner(model: nn.Module, term: Term) -> str:
    """The module that holds the parameter; empty for one that the whole model holds."""
    return term.parameter.rpartition(".")[0]


def _sides(term: Term, module: nn.Module, cost: CostTable) -> tuple[Axis, Axis]:
    """Channels in and out of a layer."""
    out_dim, in_dim = (1, 0) if getattr(module, "transposed", False) else (0, 1)
    out, into = _axis(term, out_dim, cost), _axis(term, in_dim, cost)
    groups = getattr(module, "groups", 1)
    if groups > 1:
        if term.shape[1] == 1:  # depthwise: as many groups as channels, whatever the width
            return out, out
        into = Axis(groups * into.constant, {name: groups * count for name, count in into.positions.items()})
    return into, out


def _axis(term: Term, dim: int, cost: CostTable) -> Axis:
    if dim >= len(term.shape):
        return Axis()
    constant = term.shape[dim]
    positions: dict[str, int] = {}
    for cut in term.cuts:
        if cut.dim == dim:
            name = cost.groups[cut.group]
            positions[name] = positions.get(name, 0) + cut.positions
            constant -= cut.positions * int(cost.channels[cut.group] // cost.unit[cut.group])
    return Axis(constant, positions)


def _signature(module: nn.Module, term: Term, shape: tuple[int, ...]) -> str:
    """What decides a layer's time beside its widths."""
    groups = getattr(module, "groups", 1)
    kind = "depthwise" if groups > 1 and term.shape[1] == 1 else f"groups {groups}" if groups > 1 else ""
    parts = [type(module).__name__, "x".join(map(str, term.shape[2:])), kind]
    parts += [f"{key} {getattr(module, key)}" for key in ("stride", "padding", "dilation") if hasattr(module, key)]
    spatial = shape[2:] if len(shape) >= 4 else shape[1:-1]
    parts += [f"on {'x'.join(map(str, spatial))}" if spatial else "", f"{term.applications} applications"]
    parts += ["biased"] if getattr(module, "bias", None) is not None else []
    return ", ".join(part for part in parts if part)
