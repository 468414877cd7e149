"""What calibration and evaluation share: the parts of one model, and their values in memory."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, fx, nn

from autoprune.evaluators.fast import as_call
from autoprune.evaluators.native.build import Library
from autoprune.evaluators.native.layers import Arena, Buffer, Geometry, Scratch
from autoprune.pruning.fusion import Program, Step

__all__ = ["Pieces", "as_images", "require_shape", "supports"]


def supports(program: Program, model: nn.Module) -> bool:
    """Whether the kernels know every convolution of the program; there must be one."""
    convs = [model.get_submodule(step.conv) for step in program.steps if step.conv]
    return bool(convs) and all(Geometry.of(conv) is not None for conv in convs)


class Pieces:
    """A model's modules by step. Raises ValueError for a convolution that the kernels do not know."""

    def __init__(self, program: Program, model: nn.Module, library: Library) -> None:
        self.program = program
        self.library = library
        self.lanes = int(library.lanes())
        self.scratch = Scratch()
        modules = dict(model.eval().named_modules())
        self.convs: dict[Step, Any] = {step: modules[step.conv] for step in program.steps if step.conv}
        self.norms: dict[Step, Any] = {step: modules[step.norm] for step in program.steps if step.norm}
        self.calls = {step: as_call(step.node, model, modules) for step in program.steps if step.source is None}
        self.geometry: dict[Step, Geometry] = {}
        self._readers: dict[fx.Node, list[Geometry]] = {}
        for step, conv in self.convs.items():
            geometry = Geometry.of(conv)
            if geometry is None or step.source is None:
                raise ValueError(f"the native kernels do not know {conv}")
            self.geometry[step] = geometry
            self._readers.setdefault(step.source, []).append(geometry)

    def groups(self, images: int) -> int:
        """Of lanes, the last one perhaps not full."""
        return -(-images // self.lanes)

    def buffer(self, arena: Arena, node: fx.Node, shape: tuple[int, int, int], groups: int) -> Buffer:
        """For the value (channels, height, width) of ``node``, with the margin that its readers want."""
        margins = [geometry.margin(*shape[1:]) for geometry in self._readers.get(node, ())]
        top, left, bottom, right = (max(sizes) for sizes in zip((0, 0, 0, 0), *margins, strict=True))
        return Buffer.make(self.library, arena, shape, (top, left, bottom, right), groups)


def as_images(value: Any) -> Tensor:
    """What a torch operation gave, for the kernels. Raises ValueError when it is not a batch of images."""
    if not isinstance(value, Tensor) or value.ndim != 4 or value.device.type != "cpu":
        raise ValueError("the native kernels read images (N, C, H, W) on the CPU")
    return value.to(torch.float32)


def require_shape(added: tuple[int, int, int] | None, shape: tuple[int, int, int]) -> None:
    """Raises ValueError where a sum would broadcast, which the kernels do not."""
    if added not in (None, shape):
        raise ValueError(f"a sum of values of {shape} and {added}")
