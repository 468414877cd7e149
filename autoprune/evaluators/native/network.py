"""A sliced network run by the native kernels; what they do not know runs through torch in between."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from typing import Any

import torch
from torch import Tensor, fx, nn

from autoprune.evaluators.fast import AffineMap, finished, scale_and_shift, track, track_chunks
from autoprune.evaluators.native.build import Library
from autoprune.evaluators.native.layers import Arena, Buffer, Convolution, Rest, load, store
from autoprune.evaluators.native.pieces import Pieces, as_images, require_shape
from autoprune.evaluators.native.plan import Plan
from autoprune.pruning.fusion import Program, Step

__all__ = ["NativeNetwork"]

_Values = dict[fx.Node, Any]
"""What is still needed: Buffers, and what torch operations gave."""


class NativeNetwork:
    """Calibrates and runs one model, as ``FastNetwork`` does. ``groups`` groups of images go through a layer at once
    in calls; ``arena`` lends the memory for calibration, to one network at a time.

    Raises ValueError for a convolution that the kernels do not know.
    """

    def __init__(self, program: Program, model: nn.Module, library: Library, groups: int, arena: Arena) -> None:
        self._pieces = Pieces(program, model, library)
        self._library = library
        self._groups = groups
        self._arena = arena
        self._convolutions: dict[tuple[Step, tuple[int, int]], Convolution] = {}
        self._plan: Plan | None = None

    @torch.no_grad()
    def calibrate(self, batches: Iterable[Tensor]) -> None:
        """Cumulative BatchNorm statistics over ``batches`` (N, C, H, W), as ``pruning.calibration.calibrate`` gives."""
        if self._pieces.norms:
            for number, batch in enumerate(batches, 1):
                self._calibrate_on(batch, number)
            self._arena.shrink()

    def fold(self) -> None:
        """Take the statistics into copies of the convolutions' weights, for calls. The model keeps its own."""
        self._plan = Plan(self._pieces, self._groups)

    @torch.no_grad()
    def __call__(self, images: Tensor) -> Tensor:
        """(N, C, H, W) -> what the model gives for them, joined along the first dimension. Needs ``fold`` before."""
        assert self._plan is not None, "fold() comes before calls"
        chunks = images.split(self._groups * self._pieces.lanes)
        return torch.cat([self._plan.run(chunk) for chunk in chunks])

    def _calibrate_on(self, batch: Tensor, number: int) -> None:
        """Layer by layer over the whole batch. A BatchNorm is applied when its value is first read."""
        values: _Values = {self._pieces.program.images: batch}
        for step in self._pieces.program.steps:
            if step.source is None:
                values[step.node] = self._pieces.calls[step](partial(self._tensor, values, len(batch)))
            elif step.conv:
                values[step.node] = self._convolved(step, values, len(batch), number)
            else:
                values[step.node] = self._normalised(step, values, len(batch), number)
            for node in step.frees:
                del values[node]

    def _convolved(self, step: Step, values: _Values, images: int, number: int) -> Buffer:
        groups = self._pieces.groups(images)
        source = self._loaded(values, step.source, images)
        added = None if step.added is None else self._loaded(values, step.added, images)
        norm = self._pieces.norms.get(step)
        convolution = self._convolution(step, source.shape[1:])
        to = self._pieces.buffer(self._arena, step.node, convolution.shape, groups)
        require_shape(None if added is None else added.shape, to.shape)
        if norm is not None:
            mean, variance = convolution.measure(source, to, images, self._pieces.scratch)
            track(norm, mean, variance, images * to.shape[1] * to.shape[2], number)
            to.rest = Rest(*scale_and_shift(norm, mean, variance), added, step.relu)
            return to
        source.finish(self._library, groups)
        if added is not None:
            added.finish(self._library, groups)
        plus = None if added is None else added.value
        convolution.run(source.value, to.value, plus, groups, self._pieces.scratch)
        return to

    def _convolution(self, step: Step, size: tuple[int, int]) -> Convolution:
        """With the model's own weights; made once for all batches."""
        if (step, size) not in self._convolutions:
            conv = self._pieces.convs[step]
            relu = step.relu and step.norm is None
            made = Convolution(self._library, self._pieces.geometry[step], conv.weight, conv.bias, size, relu)
            self._pieces.scratch.hold(made.scratch_bytes)
            self._convolutions[step, size] = made
        return self._convolutions[step, size]

    def _normalised(self, step: Step, values: _Values, images: int, number: int) -> Tensor:
        """A BatchNorm that does not follow a convolution."""
        assert step.source is not None
        norm = self._pieces.norms[step]
        hidden = self._tensor(values, images, step.source)
        scaled = AffineMap(*scale_and_shift(norm, *track_chunks(norm, [hidden], number)))(hidden)
        return finished(step, scaled, None if step.added is None else self._tensor(values, images, step.added))

    def _tensor(self, values: _Values, images: int, node: fx.Node) -> Any:
        """For torch: (N, C, H, W)."""
        value = values[node]
        if not isinstance(value, Buffer):
            return value
        value.finish(self._library, self._pieces.groups(images))
        return store(self._library, value.value, images)

    def _loaded(self, values: _Values, node: fx.Node | None, images: int) -> Buffer:
        """For the kernels, from now on."""
        assert node is not None
        if not isinstance(values[node], Buffer):
            tensor = as_images(values[node])
            _, *shape = tensor.shape
            buffer = self._pieces.buffer(self._arena, node, (shape[0], shape[1], shape[2]), self._pieces.groups(images))
            load(self._library, tensor, buffer.value)
            values[node] = buffer
        loaded: Buffer = values[node]
        return loaded
