"""What the kernels work on: values of a network in memory, and convolutions made ready for them."""

from __future__ import annotations

import ctypes
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from autoprune.evaluators.native.build import Library

__all__ = ["Arena", "Buffer", "Convolution", "Geometry", "Rest", "Scratch", "Value", "load", "store", "tiles_of"]

_ALIGNMENT = 64
_BLOCK_BYTES = 384 << 10
"""Of a block of tiles in all stages of Winograd's method: what stays in a level-2 cache of 512 KiB."""
_KEPT_BYTES = 256 << 20
_FEWEST_TILES, _MOST_TILES, _WIDE = 3, 12, 3
_TILE, _OVERLAP = 4, 2


class Value(ctypes.Structure):
    _fields_ = [("data", ctypes.c_void_p)] + [
        (name, ctypes.c_int64) for name in ("channels", "height", "width", "top", "left", "rows", "columns")
    ]


class _Conv(ctypes.Structure):
    _sizes = ("inputs", "outputs", "kernel_height", "kernel_width", "stride_height", "stride_width", "top", "left")
    _fields_ = [
        *((name, ctypes.c_int64) for name in (*_sizes, "dilation_height", "dilation_width", "tiles")),
        ("weights", ctypes.c_void_p),
        ("bias", ctypes.c_void_p),
        ("relu", ctypes.c_int64),
    ]


class _Rest(ctypes.Structure):
    _fields_ = [
        ("scale", ctypes.c_void_p),
        ("shift", ctypes.c_void_p),
        ("added", ctypes.POINTER(Value)),
        ("relu", ctypes.c_int64),
    ]


class _Moments(ctypes.Structure):
    _fields_ = [(name, ctypes.c_void_p) for name in ("centres", "sums", "squares")]


@dataclass(frozen=True)
class Geometry:
    """How a convolution moves over an image; each pair is (vertical, horizontal)."""

    kernel: tuple[int, int]
    stride: tuple[int, int]
    padding: tuple[int, int]
    dilation: tuple[int, int]

    @staticmethod
    def of(conv: nn.Module) -> Geometry | None:
        """None for a convolution that the kernels do not know: grouped, padded unevenly, or not of float32 on a CPU."""
        if type(conv) is not nn.Conv2d or conv.groups != 1 or conv.padding_mode != "zeros":
            return None
        if conv.weight.dtype != torch.float32 or conv.weight.device.type != "cpu":
            return None
        padding: Any = conv.padding
        if padding == "valid":
            padding = (0, 0)
        elif padding == "same":
            total = [d * (k - 1) for d, k in zip(conv.dilation, conv.kernel_size, strict=True)]
            if any(size % 2 for size in total):
                return None
            padding = tuple(size // 2 for size in total)
        kernel, stride, dilation = (_pair(value) for value in (conv.kernel_size, conv.stride, conv.dilation))
        return Geometry(kernel, stride, _pair(padding), dilation)

    @property
    def by_tiles(self) -> bool:
        """Whether Winograd's method applies."""
        return (self.kernel, self.stride, self.dilation) == ((3, 3), (1, 1), (1, 1))

    def output(self, height: int, width: int) -> tuple[int, int]:
        """Rows and columns of the result. Raises ValueError where there are none."""
        sizes = [
            (size + 2 * p - d * (k - 1) - 1) // s + 1
            for size, k, s, p, d in zip(
                (height, width), self.kernel, self.stride, self.padding, self.dilation, strict=True
            )
        ]
        if min(sizes) < 1:
            raise ValueError(f"a convolution of {self.kernel} has no output on an image of {height}x{width}")
        return sizes[0], sizes[1]

    def margin(self, height: int, width: int) -> tuple[int, int, int, int]:
        """Rows or columns that are read beyond the image: top, left, bottom, right."""
        after = []
        for axis, (size, out) in enumerate(zip((height, width), self.output(height, width), strict=True)):
            last = (out - 1) * self.stride[axis] + self.dilation[axis] * (self.kernel[axis] - 1) + 1
            if self.by_tiles:
                last = max(last, _in_tiles(out) * _TILE + _OVERLAP)
            after.append(max(0, last - self.padding[axis] - size))
        return (*self.padding, after[0], after[1])

    def tiles(self, inputs: int, outputs: int, height: int, width: int) -> int:
        """Tiles to transform at once for a result of this size; 0 where computing it directly is faster.

        Of shapes alone. The costs are cycles of a tile, as fitted to measurements from 1 to 64 channels.
        """
        if not self.by_tiles:
            return 0
        by_tiles = tiles_of(height, width) * (110 * (inputs + outputs) + 26 * inputs * outputs)
        if by_tiles >= 88 / _TILE**2 * height * width * inputs * outputs:
            return 0
        return _block(_BLOCK_BYTES // (4 * 8 * 6 * (7 * inputs + 5 * outputs)), _in_tiles(width))


def _block(fitting: int, across: int) -> int:
    """Tiles in a block: whole rows of them where nearly so many fit, else a multiple of three or an even part of a row.

    Four would be three and one for the kernels, which is slow.
    """
    nearest = min(max(fitting // _WIDE * _WIDE, _FEWEST_TILES), _MOST_TILES)
    if across <= _WIDE:
        return nearest
    if across > _MOST_TILES or across > 3 * fitting:
        return -(-across // -(-across // nearest))
    return across * max(nearest // across, 2 if across == _WIDE + 1 else 1)


def _pair(value: Iterable[int]) -> tuple[int, int]:
    first, second = value
    return first, second


def tiles_of(height: int, width: int) -> int:
    """Tiles of Winograd's method that cover a result of this size."""
    return _in_tiles(height) * _in_tiles(width)


def _in_tiles(size: int) -> int:
    return -(-size // _TILE)


class Arena:
    """Memory for values. A block comes back when nobody holds it, and is then given out again, without new pages."""

    def __init__(self) -> None:
        self.free: list[Tensor] = []

    def take(self, count: int) -> Block:
        """Room for ``count`` floats, with anything in it."""
        fitting = [tensor for tensor in self.free if tensor.numel() >= count + _ALIGNMENT]
        if not fitting:
            return Block(self, torch.empty(1 << (count + _ALIGNMENT - 1).bit_length()))
        chosen = min(fitting, key=Tensor.numel)
        self.free = [tensor for tensor in self.free if tensor is not chosen]
        return Block(self, chosen)

    def shrink(self) -> None:
        """Give the system back what is more than worth keeping."""
        if sum(tensor.numel() for tensor in self.free) * 4 > _KEPT_BYTES:
            self.free = []


class Block:
    def __init__(self, arena: Arena, memory: Tensor) -> None:
        self._arena = arena
        self._memory = memory
        self.address = _aligned(memory)

    def __del__(self) -> None:
        self._arena.free.append(self._memory)


class Scratch:
    """Working memory of the convolutions of one thread."""

    def __init__(self) -> None:
        self._memory = torch.empty(0)
        self.address = 0

    def hold(self, size: int) -> None:
        """At least ``size`` bytes from now on; the address may change."""
        if self._memory.numel() * 4 < size + _ALIGNMENT:
            self._memory = torch.empty(size // 4 + _ALIGNMENT)
            self.address = _aligned(self._memory)


def _aligned(memory: Tensor) -> int:
    return -(-memory.data_ptr() // _ALIGNMENT) * _ALIGNMENT


@dataclass(eq=False)
class Rest:
    """What is still to be done to a value when it is first read."""

    scale: Tensor
    shift: Tensor
    added: Buffer | None
    relu: bool

    def struct(self) -> _Rest:
        added = None if self.added is None else ctypes.pointer(self.added.value)
        return _Rest(self.scale.data_ptr(), self.shift.data_ptr(), added, self.relu)


@dataclass(eq=False)
class Buffer:
    """A value of the network for some groups of images. Whoever keeps only ``value`` does not keep the memory."""

    value: Value
    block: Block
    rest: Rest | None = field(default=None)

    @staticmethod
    def make(
        library: Library, arena: Arena, shape: tuple[int, int, int], margin: tuple[int, int, int, int], groups: int
    ) -> Buffer:
        """For (channels, height, width) of each image. Nothing is written, zeros around the image neither."""
        channels, height, width = shape
        top, left, bottom, right = margin
        rows, columns = top + height + bottom, left + width + right
        block = arena.take(groups * library.lanes() * channels * rows * columns)
        return Buffer(Value(block.address, channels, height, width, top, left, rows, columns), block)

    @property
    def shape(self) -> tuple[int, int, int]:
        return self.value.channels, self.value.height, self.value.width

    def finish(self, library: Library, groups: int) -> None:
        """Do the rest now."""
        if self.rest is not None:
            if self.rest.added is not None:
                self.rest.added.finish(library, groups)
            library.finish(ctypes.byref(self.value), ctypes.byref(self.rest.struct()), ctypes.c_int64(groups))
            self.rest = None


def load(library: Library, images: Tensor, value: Value) -> None:
    """(N, C, H, W) float32, in any strides -> the lanes of ``value``; lanes without an image get zeros."""
    strides = (ctypes.c_int64 * 4)(*images.stride())
    count = len(images)
    groups = -(-count // library.lanes())
    data = ctypes.c_void_p(images.data_ptr())
    library.load(data, strides, ctypes.c_int64(count), ctypes.byref(value), ctypes.c_int64(groups))


def store(library: Library, value: Value, count: int) -> Tensor:
    """The first ``count`` images of a value, (N, C, H, W)."""
    images = torch.empty(count, value.channels, value.height, value.width)
    library.store(ctypes.byref(value), ctypes.c_void_p(images.data_ptr()), ctypes.c_int64(count))
    return images


class Convolution:
    """One convolution of images of one size: its weights as the kernels read them."""

    def __init__(
        self,
        library: Library,
        geometry: Geometry,
        weight: Tensor,
        bias: Tensor | None,
        size: tuple[int, int],
        relu: bool,
    ) -> None:
        self._library = library
        outputs, inputs = weight.shape[:2]
        self.shape = (outputs, *geometry.output(*size))
        tiles = geometry.tiles(inputs, *self.shape)
        points = (_TILE + _OVERLAP) ** 2 if tiles else math.prod(geometry.kernel)
        self._bias = None if bias is None else bias.contiguous()
        self._weights = torch.empty(outputs * inputs * points)
        pairs = (*geometry.kernel, *geometry.stride, *geometry.padding, *geometry.dilation)
        bias_address = None if self._bias is None else self._bias.data_ptr()
        self._struct = _Conv(inputs, outputs, *pairs, tiles, self._weights.data_ptr(), bias_address, relu)
        self._reference = ctypes.byref(self._struct)
        weight = weight.contiguous()
        library.pack(self._reference, ctypes.c_void_p(weight.data_ptr()), ctypes.c_void_p(self._weights.data_ptr()))
        self.scratch_bytes = library.memory_bytes(self._reference)

    def run(self, source: Value, to: Value, added: Value | None, groups: int, scratch: Scratch) -> None:
        """``to`` = the convolution of ``source``, plus ``added``, through the ReLU. ``scratch`` holds enough."""
        self.bound(source, to, added)(groups, scratch)

    def bound(self, source: Value, to: Value, added: Value | None) -> Callable[[int, Scratch], None]:
        """``run`` for these values, over and over."""
        values = [None if value is None else ctypes.byref(value) for value in (source, to, added)]

        def run(groups: int, scratch: Scratch) -> None:
            # through self, which keeps the weights' memory
            self._library.convolve(self._reference, *values, ctypes.c_int64(groups), ctypes.c_void_p(scratch.address))

        return run

    def measure(self, source: Buffer, to: Buffer, images: int, scratch: Scratch) -> tuple[Tensor, Tensor]:
        """As ``run`` after the rest of ``source``; mean and (biased) variance of each output channel, float64."""
        channels = self.shape[0]
        centres = torch.zeros(channels)
        moments = torch.zeros(2, channels, dtype=torch.float64)
        rest = source.rest
        if rest is not None and rest.added is not None:
            rest.added.finish(self._library, -(-images // self._library.lanes()))
        self._library.convolve_measured(
            self._reference,
            ctypes.byref(source.value),
            None if rest is None else ctypes.byref(rest.struct()),
            ctypes.byref(to.value),
            ctypes.c_int64(images),
            ctypes.byref(_Moments(*(part.data_ptr() for part in (centres, *moments)))),
            ctypes.c_void_p(scratch.address),
        )
        source.rest = None
        shift, squares = moments / (images * self.shape[1] * self.shape[2])
        return centres.double() + shift, squares - shift.square()
