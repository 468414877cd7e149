"""Reconstruction layer by layer, each from what it reads in the pruned network itself.

One call of the pruned network does it all: just before a layer runs, its weights are fitted to give the base model's
outputs from what has arrived, and it goes on with the new ones. BatchNorm normalises by the images' own statistics
meanwhile, so that each layer reads what it will read after calibration.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, fx, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.hooks import RemovableHandle

from autoprune.pruning.calibration import Batch, calibrate
from autoprune.pruning.fusion import Program, find_program
from autoprune.pruning.reconstruction.constants import add_constant, place_of_constant
from autoprune.pruning.reconstruction.consumers import Consumer, find_consumers, kernel_size
from autoprune.pruning.reconstruction.observing import observe, require_finite, run, watched
from autoprune.pruning.reconstruction.patches import map_sizes, outputs_at, patches_at, sample_places
from autoprune.pruning.reconstruction.solving import fit
from autoprune.pruning.slicing import slice_model
from autoprune.pruning.tracing import FORWARD_ERRORS
from autoprune.types import ChannelGroup

__all__ = ["SequentialReconstructor"]

_SMALL = 0.01
"""Of the mean |scale| of a BatchNorm: channels below it say too little of what is in front of it."""


@dataclass(frozen=True, eq=False)
class _Goal:
    """What one layer of the base model gave, at sampled places."""

    consumer: Consumer
    norm: str
    places: Tensor
    outputs: Tensor
    """(rows, filters)."""
    shortcut: Tensor | None
    """What is added behind the layer and its BatchNorm: (rows, filters)."""
    added: fx.Node | None
    """Where that is found in a run."""


class SequentialReconstructor:
    """Fits the readers of cut channels in the order of execution (the asymmetric problem): targets are the base model's
    outputs, inputs are the pruned network's. So later layers make up for what earlier ones could not.

    The last layer of a residual branch aims at the base model's output plus what its shortcut has lost, brought in
    front of the BatchNorm between them (He et al. 2017, section 3.3), where the model can be traced; of two branches
    that meet, it is the one that runs last. ``batch`` goes through in one piece. ``level`` and ``recalibrated`` as in
    :class:`OnceReconstructor`; where recalibrated, the BatchNorm statistics are afterwards those of ``batch``.
    Raises ConfigError when the base model's activations are not finite.
    """

    def __init__(
        self,
        model: nn.Module,
        groups: Sequence[ChannelGroup],
        batch: Batch,
        *,
        level: str,
        ridge: float,
        positions: int,
        recalibrated: bool,
    ) -> None:
        self._model = model
        self._batch = batch
        self._level, self._ridge, self._recalibrated = level, ridge, recalibrated
        program = _checked_program(model, groups, batch)
        self._graph = program.images.graph if program else None
        added = {step.conv: step.added for step in program.steps if step.conv and step.added} if program else {}
        structure = observe(model, find_consumers(model, groups)[0], batch)
        self._goals: list[_Goal] = []
        walk = _Walk(model, self._graph)
        with (
            torch.no_grad(),
            watched(self._noting(item, structure.norms, added, walk, positions) for item in structure.once),
        ):
            run(walk, batch)

    def _noting(
        self,
        consumer: Consumer,
        norms: Mapping[str, str],
        sums: Mapping[str, fx.Node],
        walk: _Walk,
        positions: int,
    ) -> RemovableHandle:
        layer = self._model.get_submodule(consumer.name)
        added = sums.get(consumer.name)

        def hook(_: nn.Module, __: tuple[Tensor, ...], output: Tensor) -> None:
            places = sample_places(0, len(output), map_sizes(layer, output), positions)
            outputs = outputs_at(layer, output, places)
            require_finite(outputs, consumer.name)
            shortcut = None if added is None else outputs_at(layer, walk.value(added), places)
            self._goals.append(_Goal(consumer, norms.get(consumer.name, ""), places, outputs, shortcut, added))

        return layer.register_forward_hook(hook)

    @torch.no_grad()
    def __call__(self, sliced: nn.Module, keep: Mapping[str, np.ndarray]) -> None:
        """Change weights of ``sliced``, which was cut by ``keep``, and its BatchNorm statistics in place."""
        walk = _Walk(sliced, self._graph)

        def fitting(goal: _Goal) -> RemovableHandle:
            def hook(layer: nn.Module, inputs: tuple[Tensor, ...]) -> None:
                self._fit(goal, layer, inputs[0], sliced, keep, walk)

            return sliced.get_submodule(goal.consumer.name).register_forward_pre_hook(hook)

        with watched(fitting(goal) for goal in self._goals):
            if self._recalibrated and any(isinstance(module, _BatchNorm) for module in sliced.modules()):
                calibrate(walk, [self._batch])
            else:
                modes = {module: module.training for module in walk.modules()}
                run(walk.eval(), self._batch)
                for module, mode in modes.items():
                    module.training = mode

    def _fit(
        self, goal: _Goal, layer: Any, inputs: Tensor, sliced: nn.Module, keep: Mapping[str, np.ndarray], walk: _Walk
    ) -> None:
        name, groups = goal.consumer.name, goal.consumer.groups
        filters = torch.from_numpy(goal.consumer.kept(keep)[0])
        place = place_of_constant(sliced, name, goal.norm, self._recalibrated)
        if self._level == "bias" and place in ("absorbed", "nowhere"):
            return
        rows = patches_at(layer, inputs, goal.places).transpose(0, 1)  # (groups, rows, weights of a filter)
        weight = layer.weight.reshape(groups, len(filters) // groups, -1)
        missing = self._target(goal, layer, filters, walk)
        if layer.bias is not None:
            missing = missing - layer.bias
        missing = missing.view(len(missing), groups, -1).transpose(0, 1) - rows @ weight.mT
        mean, offset = rows.mean(1, keepdim=True), missing.mean(1, keepdim=True)
        if place != "nowhere":
            rows, missing = rows - mean, missing - offset
        change = torch.zeros_like(weight, dtype=torch.float64)
        if self._level != "bias":
            gram, cross = ((left.mT @ rows).double() / rows.shape[1] for left in (rows, missing))
            inherited = weight.double()
            centre = None if place == "nowhere" else mean[:, 0].double()
            fitted = fit(self._level, inherited, gram, cross, math.prod(kernel_size(layer)), self._ridge, centre)
            change = fitted - inherited
            layer.weight.copy_(fitted.reshape(layer.weight.shape))
        constant = offset.mT.double() - change @ mean.mT.double()
        add_constant(sliced, name, goal.norm, place, constant.flatten())

    def _target(self, goal: _Goal, layer: nn.Module, filters: Tensor, walk: _Walk) -> Tensor:
        """What the layer should give, (rows, kept filters)."""
        target = goal.outputs[:, filters]
        if goal.shortcut is None or goal.added is None:
            return target
        lost = goal.shortcut[:, filters] - outputs_at(layer, walk.value(goal.added), goal.places)
        if not goal.norm:
            return target + lost
        norm: Any = self._model.get_submodule(goal.norm)
        scale = torch.rsqrt(norm.running_var[filters] + norm.eps)
        if norm.weight is not None:
            scale = scale * norm.weight[filters]
            small = norm.weight[filters].abs() < _SMALL * norm.weight.abs().mean()
            scale = torch.where(small, torch.inf, scale)
        return target + lost / scale


class _Walk(nn.Module):
    """A network run node by node where it could be traced, so that values which are still needed can be looked up."""

    def __init__(self, model: nn.Module, graph: fx.Graph | None) -> None:
        super().__init__()
        self.model = model
        self._graph = graph
        self._interpreter: fx.Interpreter | None = None

    def forward(self, *inputs: Tensor) -> Any:
        if self._graph is None:
            return self.model(*inputs)
        self._interpreter = fx.Interpreter(self.model, graph=self._graph)
        try:
            return self._interpreter.run(*inputs)
        finally:
            self._interpreter = None

    def value(self, node: fx.Node) -> Tensor:
        """While it runs: what an earlier operation gave."""
        assert self._interpreter is not None
        found: Tensor = self._interpreter.env[node]
        return found


def _checked_program(model: nn.Module, groups: Sequence[ChannelGroup], batch: Batch) -> Program | None:
    """The model's trace, where it runs a slice as the slice runs itself: a trace fixes what Python code reads."""
    program = find_program(model) if isinstance(batch, Tensor) else None
    if program is None:
        return None
    half = slice_model(model, groups, {group.name: np.arange(-(-group.units // 2)) for group in groups})
    walk = _Walk(half, program.images.graph)
    few: Any = batch[:2]
    try:
        with torch.no_grad():
            expected, got = half(few), walk(few)
    except FORWARD_ERRORS:
        return None
    alike = expected.shape == got.shape and torch.allclose(expected, got, rtol=1e-4, atol=1e-5, equal_nan=True)
    return program if alike else None
