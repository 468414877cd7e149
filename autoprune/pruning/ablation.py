"""What the loss does when all consumers of one unit ignore it: each unit of a group tried, image by image.

Molchanov et al. 2017 (ICLR), section 2.1, call this the oracle. A unit is ignored as in the check of slicing
(``equivalence``): the consumers' inputs are multiplied by zero where they read it, which gives what zeroing their
weights gives, and lets the images of one pass have units of their own. What runs before a group's first consumer does
not depend on its units: it is computed once for all of them. Convolutions are folded with their BatchNorm. Networks
whose trace cannot be relied on run as they are, from the start.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, fx, nn
from torch.fx.node import map_aggregate
from torch.nn.utils import fuse_conv_bn_eval

from autoprune.pruning.cloning import clone
from autoprune.pruning.fusion import Program, find_program
from autoprune.pruning.statistics.base import ExampleLoss
from autoprune.pruning.statistics.collecting import cross_entropy
from autoprune.pruning.taps import Taps, find_taps, gated
from autoprune.pruning.tracing import FORWARD_ERRORS
from autoprune.types import ChannelGroup

__all__ = ["Ablator"]

_TOLERANCE = 1e-3
"""Of the largest logit: rounding stays far below it, a wrong trace does not."""

Run = Callable[[int], Tensor]
"""Logits of so many repeats of a part of the images, one repeat after the other."""


class Ablator:
    """Tries the units of a network on labelled images, in eval mode; the model is copied and not touched.

    ``images`` (N, C, H, W), normalised, of the model's dtype; ``labels`` (N,) int64; ``loss``: of each image, by
    default cross-entropy in nats. ``samples``: how many images go through the network at once, of one unit or of
    several. ResNet-20 was fastest with 64 of them: with more, a layer's values leave the processor's cache.

    ``untapped``: groups that cannot be tried, and why.
    """

    def __init__(
        self,
        model: nn.Module,
        groups: Sequence[ChannelGroup],
        images: Tensor,
        labels: Tensor,
        *,
        loss: ExampleLoss = cross_entropy,
        samples: int = 64,
    ) -> None:
        parts = -(-len(images) // samples)
        self._chunks = [_channels_last(chunk) for chunk in images.tensor_split(parts)]
        self._labels = labels.tensor_split(parts)
        self._loss, self._samples = loss, samples
        self._plain = clone(model).eval().requires_grad_(False)
        program = find_program(self._plain)
        self._traced = None if program is None else _Traced(program, self._plain)
        with torch.no_grad():
            self._taps = {group.name: find_taps(self._plain, [group], images[:1]) for group in groups}
        self.untapped = {name: why for taps in self._taps.values() for name, why in taps.untapped.items()}

    def steps(self, group: ChannelGroup) -> int:
        """How often ``changes`` reports: each unit on each part of the images."""
        return group.units * len(self._chunks)

    @torch.no_grad()
    def changes(self, group: ChannelGroup, on_steps: Callable[[int], None] | None = None) -> np.ndarray:
        """The loss without each unit less that with all of them: (units, N) float64."""
        taps, found = self._taps[group.name], []
        for chunk, labels in zip(self._chunks, self._labels, strict=True):
            network, run = self._from_first_reader(taps, chunk)
            # by the same operations as with gates, so that a dead unit changes nothing at all
            whole = self._loss(run(1).double(), labels)
            together = max(1, self._samples // len(labels))
            losses = []
            for units in torch.arange(group.units).split(together):
                gates = torch.ones(len(units), group.units)
                gates[torch.arange(len(units)), units] = 0.0
                with gated(network, taps, gates.repeat_interleave(len(labels), dim=0)):
                    logits = run(len(units))
                losses.append(self._loss(logits.double(), labels.repeat(len(units))).view(len(units), -1))
                if on_steps:
                    on_steps(len(units))
            found.append((torch.cat(losses) - whole).numpy())
        return np.concatenate(found, axis=1)

    def _from_first_reader(self, taps: Taps, chunk: Tensor) -> tuple[nn.Module, Run]:
        """The network, and a function that goes on from the group's first reader with so many repeats of the images;
        from the start where that is not seen to give the network's own logits."""

        def plain(repeats: int) -> Tensor:
            logits: Tensor = self._plain(torch.cat([chunk] * repeats))
            return logits

        if self._traced is None:
            return self._plain, plain
        try:
            run = self._traced.from_place(self._traced.first_reader(taps), chunk)
            expected, got = plain(1), run(2)
        except FORWARD_ERRORS:
            return self._plain, plain
        scale = float(expected.abs().max())
        agrees = len(got) == 2 * len(expected) and all(
            torch.allclose(expected, part, rtol=_TOLERANCE, atol=_TOLERANCE * scale) for part in got.chunk(2)
        )
        return (self._traced.model, run) if agrees else (self._plain, plain)


class _Traced:
    """The network as the operations of its trace, so that it can be run from any of them on."""

    def __init__(self, program: Program, model: nn.Module) -> None:
        self.model = _folded(program, model)
        self._nodes = list(program.images.graph.nodes)
        self._images, self._output = program.images, program.output
        self._interpreter = fx.Interpreter(self.model, graph=program.images.graph)
        places = {node: place for place, node in enumerate(self._nodes)}
        self._last_use = {node: max(map(places.__getitem__, node.users), default=0) for node in self._nodes}
        self._last_use[self._output] = len(self._nodes)

    def first_reader(self, taps: Taps) -> int:
        """The place of the first layer that reads what the taps are for; 0 where that cannot be told."""
        layers = [str(node.target) if node.op == "call_module" else None for node in self._nodes]
        return min((layers.index(tap.module) if tap.module in layers else 0 for tap in taps.taps), default=0)

    def from_place(self, start: int, images: Tensor) -> Run:
        """Computes what comes before ``start``, and gives what goes on from there."""
        values = self._run(range(start), {self._images: images})
        before = {node: value for node, value in values.items() if self._last_use[node] >= start}

        def repeated(value: Any, repeats: int) -> Any:  # always a copy, since the rest may write into it
            batched = isinstance(value, Tensor) and value.ndim > 0 and len(value) == len(images)
            return torch.cat([value] * repeats) if batched else value

        def run(repeats: int) -> Tensor:
            copies = {
                node: map_aggregate(value, lambda each: repeated(each, repeats)) for node, value in before.items()
            }
            logits: Tensor = self._run(range(start, len(self._nodes) - 1), copies)[self._output]
            return logits

        return run

    def _run(self, places: Iterable[int], values: dict[fx.Node, Any]) -> dict[fx.Node, Any]:
        self._interpreter.env = values
        for place in places:
            node = self._nodes[place]
            if node is not self._images:
                values[node] = self._interpreter.run_node(node)
            for used in node.all_input_nodes:
                if self._last_use[used] == place:
                    del values[used]
        return values


def _folded(program: Program, model: nn.Module) -> nn.Module:
    """A copy whose convolutions do what their BatchNorm did, in channels-last memory."""
    folded: nn.Module = clone(model)
    for step in program.steps:
        if step.conv and step.norm:
            conv: Any = folded.get_submodule(step.conv)
            norm: Any = folded.get_submodule(step.norm)
            folded.set_submodule(step.conv, fuse_conv_bn_eval(conv, norm))
            folded.set_submodule(step.norm, nn.Identity())
    return folded.to(memory_format=torch.channels_last)  # type: ignore[call-overload]


def _channels_last(images: Tensor) -> Tensor:
    return images.contiguous(memory_format=torch.channels_last) if images.ndim == 4 else images
