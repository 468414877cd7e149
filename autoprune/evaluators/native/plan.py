"""Evaluation by the native kernels: each step made ready once, with its memory, and then run on every chunk."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, fx, nn

from autoprune.evaluators.fast import AffineMap, finished, folded, scale_and_shift
from autoprune.evaluators.native.layers import Arena, Buffer, Convolution, Value, load, store, tiles_of
from autoprune.evaluators.native.pieces import Pieces, as_images, require_shape
from autoprune.pruning.fusion import Program, Step

__all__ = ["Plan", "chunk_groups"]

_WANTED_TILES = 12
_MOST_GROUPS = 12
_Values = dict[fx.Node, Any]
"""What is still needed: Values in fixed memory, and what torch operations gave."""
_Run = Callable[[_Values, int], Any]
"""From the values before a step and the number of images to the step's value."""


@torch.no_grad()
def chunk_groups(program: Program, model: nn.Module, image: Tensor, batch: int, lanes: int) -> int:
    """Groups of ``lanes`` images to put through a layer at once, for batches of ``batch`` and images like ``image``
    (1, C, H, W): enough for a block of tiles where the images are smallest, since weights are read once a block.

    A function of shapes alone, so that every worker computes the same way; the parts of a batch are of like size.
    """
    tiles: list[int] = []
    convs = [model.get_submodule(step.conv) for step in program.steps if step.conv]
    hooks = [
        conv.register_forward_hook(lambda _, inputs, output: tiles.append(tiles_of(*output.shape[2:])))
        for conv in convs
    ]
    try:
        model(image)
    finally:
        for hook in hooks:
            hook.remove()
    all_groups = -(-batch // lanes)
    wanted = min(-(-_WANTED_TILES // min(tiles)), _MOST_GROUPS, all_groups)
    return -(-all_groups // -(-all_groups // wanted))


class Plan:
    """Runs the model with the statistics that it has now. ``groups`` groups of images at once are the most."""

    def __init__(self, pieces: Pieces, groups: int) -> None:
        self._pieces = pieces
        self._library = pieces.library
        self._groups = groups
        self._folded = {step: folded(conv, pieces.norms.get(step)) for step, conv in pieces.convs.items()}
        self._scales = {
            step: AffineMap(*scale_and_shift(norm, norm.running_mean, norm.running_var))
            for step, norm in pieces.norms.items()
            if not step.conv
        }
        self._size: tuple[int, ...] = ()
        self._runs: dict[Step, _Run] = {}
        self._arena = Arena()
        self._held: dict[fx.Node, Buffer] = {}

    def run(self, images: Tensor) -> Tensor:
        """(N, C, H, W) -> what the model gives. The first call, and one with images of another size, gets ready."""
        first = tuple(images.shape[1:]) != self._size
        if first:
            self._size, self._arena = (), Arena()
        values: _Values = {self._pieces.program.images: images}
        for step in self._pieces.program.steps:
            if first:
                self._runs[step] = self._prepared(step, values)
            values[step.node] = self._runs[step](values, len(images))
            for node in step.frees:
                del values[node]
                self._held.pop(node, None)
        self._held.clear()
        self._size = tuple(images.shape[1:])
        result: Tensor = self._tensor(values, len(images), self._pieces.program.output)
        return result

    def _prepared(self, step: Step, values: _Values) -> _Run:
        if step.source is None:
            call = self._pieces.calls[step]
            return lambda values, images: call(partial(self._tensor, values, images))
        if step.conv:
            return self._convolution(step, values)
        return partial(self._scaled, step)

    def _convolution(self, step: Step, values: _Values) -> _Run:
        pieces, load_source = self._pieces, self._loader(step.source, values)
        load_added = None if step.added is None else self._loader(step.added, values)
        source = self._held[step.source].value  # type: ignore[index]
        added = None if step.added is None else self._held[step.added].value
        made = Convolution(
            self._library, pieces.geometry[step], *self._folded[step], (source.height, source.width), step.relu
        )
        pieces.scratch.hold(made.scratch_bytes)
        buffer = pieces.buffer(self._arena, step.node, made.shape, self._groups)
        require_shape(None if added is None else (added.channels, added.height, added.width), buffer.shape)
        self._held[step.node] = buffer
        to = buffer.value
        convolve = made.bound(source, to, added)

        def run(values: _Values, images: int) -> Value:
            load_source(values)
            if load_added is not None:
                load_added(values)
            convolve(pieces.groups(images), pieces.scratch)
            return to

        return run

    def _loader(self, node: fx.Node | None, values: _Values) -> Callable[[_Values], None]:
        """What brings a value of torch's where the kernels find it, now and in every later chunk."""
        assert node is not None
        if isinstance(values[node], Value) or node in self._held:
            return lambda _: None
        _, channels, height, width = as_images(values[node]).shape
        self._held[node] = self._pieces.buffer(self._arena, node, (channels, height, width), self._groups)
        to = self._held[node].value

        def run(values: _Values) -> None:
            load(self._library, as_images(values[node]), to)
            values[node] = to

        return run

    def _scaled(self, step: Step, values: _Values, images: int) -> Tensor:
        """A BatchNorm that does not follow a convolution."""
        assert step.source is not None
        scaled = self._scales[step](self._tensor(values, images, step.source))
        return finished(step, scaled, None if step.added is None else self._tensor(values, images, step.added))

    def _tensor(self, values: _Values, images: int, node: fx.Node) -> Any:
        """For torch: (N, C, H, W)."""
        value = values[node]
        return store(self._library, value, images) if isinstance(value, Value) else value
