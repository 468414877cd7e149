"""A sliced network run by fused steps, a few images at a time, so that a layer's values stay in the processor's cache.

The numbers are those of the plain network up to rounding: calibration gives the statistics of
``pruning.calibration.calibrate``, and evaluation folds each BatchNorm into the convolution before it.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.fx.node import map_arg
from torch.nn import functional
from torch.nn.modules.batchnorm import _BatchNorm

from autoprune.pruning.fusion import Program, Step

__all__ = [
    "AffineMap",
    "FastNetwork",
    "as_call",
    "channels_last",
    "chunk_size",
    "finished",
    "folded",
    "scale_and_shift",
    "track",
    "track_chunks",
]

_CACHE_BYTES = 8 << 20
_LEAST_CHUNK = 8
"""What a layer of the full network reads and writes of one chunk, and the fewest images in one. With 512 KiB of L2 a
core and a shared L3 of 32 MiB, ResNet-20 and VGG-16 at half to three quarters of their widths were fastest near it:
below, calls and the reading of weights count; above, values come from memory."""
_WIDE_STATISTICS = 32
_WIDE_SCALING = 256
_Lookup = Callable[[fx.Node], Any]


class FastNetwork:
    """Calibrates and runs one model. Its BatchNorm buffers are written to; nothing else of it changes.

    ``chunk`` is the number of images that go through a layer at once. ``dtype`` is that of the multiplications in
    calls (None: the model's own); calibration keeps the model's.
    """

    def __init__(self, program: Program, model: nn.Module, chunk: int, dtype: torch.dtype | None = None) -> None:
        self._program = program
        self._chunk = chunk
        self._dtype = dtype
        modules = dict(model.eval().named_modules())
        self._convs: dict[Step, Any] = {step: modules[step.conv] for step in program.steps if step.conv}
        self._norms: dict[Step, Any] = {step: modules[step.norm] for step in program.steps if step.norm}
        self._calls = {step: as_call(step.node, model, modules) for step in program.steps if step.source is None}
        self._folded: dict[Step, tuple[Tensor, Tensor | None]] = {}
        self._scales: dict[Step, AffineMap] = {}

    @torch.no_grad()
    def calibrate(self, batches: Iterable[Tensor]) -> None:
        """Cumulative BatchNorm statistics over ``batches`` (N, C, H, W), as ``pruning.calibration.calibrate`` gives."""
        if self._norms:
            for number, batch in enumerate(batches, 1):
                self._calibrate_on(batch, number)

    def fold(self) -> None:
        """Take the statistics into copies of the convolutions' weights, for calls. The model keeps its own."""
        with torch.no_grad():
            for step, conv in self._convs.items():
                weight, bias = folded(conv, self._norms.get(step))
                self._folded[step] = (weight.to(self._dtype), None if bias is None else bias.to(self._dtype))
            for step, norm in self._norms.items():
                scale, shift = scale_and_shift(norm, norm.running_mean, norm.running_var)
                self._scales[step] = AffineMap(scale.to(self._dtype), shift.to(self._dtype))

    @torch.no_grad()
    def __call__(self, images: Tensor) -> Tensor:
        """(N, C, H, W) -> what the model gives for them, joined along the first dimension. Needs ``fold`` before."""
        with torch.autocast(images.device.type, self._dtype, enabled=self._dtype is not None):
            chunks = channels_last(images).split(self._chunk)
            return torch.cat([self._forward(chunk.to(self._dtype)) for chunk in chunks])

    def _forward(self, images: Tensor) -> Any:
        values: dict[fx.Node, Any] = {self._program.images: images}
        for step in self._program.steps:
            if step.source is None:
                values[step.node] = self._calls[step](values.__getitem__)
            else:
                values[step.node] = self._chain(step, values)
            for node in step.frees:
                del values[node]
        return values[self._program.output]

    def _chain(self, step: Step, values: Mapping[fx.Node, Any]) -> Tensor:
        hidden = values[step.source]  # type: ignore[index]
        if step in self._folded:
            hidden = _convolve(self._convs[step], hidden, *self._folded[step])
        else:
            hidden = self._scales[step](hidden)
        return finished(step, hidden, None if step.added is None else values[step.added])

    def _calibrate_on(self, batch: Tensor, number: int) -> None:
        """Layer by layer: a layer's statistics are those of the whole batch, gathered chunk by chunk."""
        chunks = channels_last(batch).split(self._chunk)
        values = {self._program.images: _Chunks(list(chunks))}
        for step in self._program.steps:
            if step.source is None:
                parts = [self._calls[step](partial(_part, values, i)) for i in range(len(chunks))]
                values[step.node] = _Chunks(parts)
            else:
                values[step.node] = self._calibrated(step, values, number)
            for node in step.frees:
                del values[node]

    def _calibrated(self, step: Step, values: Mapping[fx.Node, _Chunks], number: int) -> _Chunks:
        source, conv, norm = values[step.source], self._convs.get(step), self._norms.get(step)  # type: ignore[index]
        added = None if step.added is None else values[step.added]
        chunks = [source[i] for i in range(len(source))] if conv is None else _convolved(conv, source)
        scale = None if norm is None else AffineMap(*scale_and_shift(norm, *track_chunks(norm, chunks, number)))

        def rest(i: int, hidden: Tensor) -> Tensor:
            if scale is not None:
                hidden = scale(hidden, in_place=conv is not None)  # what a convolution gave is nobody else's
            return finished(step, hidden, None if added is None else added[i])

        return _Chunks(chunks, rest)


class _Chunks:
    """A value of the network for each chunk. The rest of its computation waits until the chunk is read: it is then
    brought into the cache once, for both."""

    def __init__(self, values: list[Any], rest: Callable[[int, Any], Any] | None = None) -> None:
        self._values = values
        self._rest = dict.fromkeys(range(len(values)), rest) if rest else {}

    def __len__(self) -> int:
        return len(self._values)

    def __getitem__(self, i: int) -> Any:
        rest = self._rest.pop(i, None)
        if rest is not None:
            self._values[i] = rest(i, self._values[i])
        return self._values[i]


def _part(values: Mapping[fx.Node, _Chunks], i: int, node: fx.Node) -> Any:
    return values[node][i]


def channels_last(images: Tensor) -> Tensor:
    """(N, C, H, W) in the memory order in which torch convolves few channels fastest; anything else as it is."""
    return images.contiguous(memory_format=torch.channels_last) if images.ndim == 4 else images


def chunk_size(program: Program, model: nn.Module, image: Tensor, batch: int) -> int:
    """Images to put through a layer at once, for batches of ``batch`` and images like ``image`` (1, C, H, W).

    A function of shapes alone, so that every worker, on any machine, computes in the same order. A divisor of the
    batch where one is near: each size that occurs costs the library a preparation of every layer.
    """
    largest = _largest_step(program, model, image)
    wanted = min(max(_CACHE_BYTES // max(largest, 1), _LEAST_CHUNK), batch)
    divisors = [size for size in range(1, batch + 1) if batch % size == 0]
    nearest = min(divisors, key=lambda size: abs(math.log(size / wanted)))
    return nearest if 0.5 <= nearest / wanted <= 2 else wanted


@torch.no_grad()
def _largest_step(program: Program, model: nn.Module, image: Tensor) -> int:
    """Bytes that the largest convolution reads and writes of one image."""
    sizes = [0]
    convs = [model.get_submodule(step.conv) for step in program.steps if step.conv]
    hooks = [
        conv.register_forward_hook(
            lambda _, inputs, output: sizes.append((inputs[0].numel() + output.numel()) * output.element_size())
        )
        for conv in convs
    ]
    try:
        model(image)
    finally:
        for hook in hooks:
            hook.remove()
    return max(sizes)


def as_call(node: fx.Node, model: nn.Module, modules: Mapping[str, nn.Module]) -> Callable[[_Lookup], Any]:
    """The operation, as a function of what finds the values that it reads."""
    target: Any = node.target
    if node.op == "get_attr":
        value = operator.attrgetter(target)(model)
        return lambda _: value
    if node.op == "call_module":
        run: Any = modules[target]
    elif node.op == "call_method":
        run = _method(target)
    else:
        run = target

    def call(lookup: _Lookup) -> Any:
        return run(*map_arg(node.args, lookup), **map_arg(node.kwargs, lookup))

    return call


def _method(name: str) -> Callable[..., Any]:
    return lambda owner, *args, **kwargs: getattr(owner, name)(*args, **kwargs)


def _convolve(conv: nn.Conv2d, images: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    padding: Any = conv.padding
    return functional.conv2d(images, weight, bias, conv.stride, padding, conv.dilation, conv.groups)


def _convolved(conv: nn.Conv2d, source: _Chunks) -> list[Tensor]:
    return [_convolve(conv, source[i], conv.weight, conv.bias) for i in range(len(source))]


def finished(step: Step, hidden: Tensor, added: Tensor | None) -> Tensor:
    """The end of a chain, in the memory of a value that only the chain knows."""
    if added is not None:
        hidden = hidden.add_(added)
    return hidden.relu_() if step.relu else hidden


def folded(conv: nn.Conv2d, norm: _BatchNorm | None) -> tuple[Tensor, Tensor | None]:
    """Weight and bias of the one convolution that does what ``conv`` and then ``norm`` do in eval mode."""
    if norm is None:
        return conv.weight, conv.bias
    scale, shift = scale_and_shift(norm, norm.running_mean, norm.running_var)
    bias = shift if conv.bias is None else shift + scale * conv.bias
    return conv.weight * scale[:, None, None, None], bias


def scale_and_shift(norm: _BatchNorm, mean: Tensor | None, variance: Tensor | None) -> tuple[Tensor, Tensor]:
    """Of each channel, so that ``x * scale + shift`` is normalised by these statistics."""
    assert mean is not None
    assert variance is not None
    scale = (variance.double() + norm.eps).rsqrt()
    if norm.weight is not None:
        scale = scale * norm.weight
    shift = -mean * scale
    if norm.bias is not None:
        shift = shift + norm.bias
    dtype = norm.running_mean.dtype  # type: ignore[union-attr]
    return scale.to(dtype), shift.to(dtype)


def track_chunks(norm: _BatchNorm, chunks: Sequence[Tensor], number: int) -> tuple[Tensor, Tensor]:
    """``track`` for a batch in parts; gives the batch's mean and (biased) variance of each channel, float64."""
    mean, variance, count = _moments(chunks)
    track(norm, mean, variance, count, number)
    return mean, variance


def track(norm: _BatchNorm, mean: Tensor, variance: Tensor, count: int, number: int) -> None:
    """Take mean and (biased) variance of ``count`` values of each channel into the averages of ``number`` batches."""
    if count < 2:
        raise ValueError("BatchNorm needs more than one value per channel for its statistics")
    tracked_mean, tracked_variance = norm.running_mean, norm.running_var
    assert tracked_mean is not None
    assert tracked_variance is not None
    for tracked, value in ((tracked_mean, mean), (tracked_variance, variance * (count / (count - 1)))):
        kept = tracked.double() * (1 - 1 / number) if number > 1 else torch.zeros_like(value)
        tracked.copy_(kept + value / number)
    if norm.num_batches_tracked is not None:
        norm.num_batches_tracked.fill_(number)


def _moments(chunks: Sequence[Tensor]) -> tuple[Tensor, Tensor, int]:
    """Mean and variance of a batch from those of its parts (Chan, Golub and LeVeque 1983), float64, and the count."""
    channels = chunks[0].shape[1]
    means, variances, sizes = [], [], []
    for chunk in chunks:
        wide = _widened(chunk, _WIDE_STATISTICS)
        mean, variance = torch.batch_norm_update_stats(wide, None, None, 0.0)
        means.append(mean.view(-1, channels))
        variances.append(variance.view(-1, channels))
        sizes += [wide.numel() // wide.shape[1]] * len(means[-1])
    weights = torch.tensor(sizes, dtype=torch.float64, device=chunks[0].device)[:, None] / sum(sizes)
    centres = torch.cat(means).double()
    mean = (weights * centres).sum(0)
    return mean, (weights * (torch.cat(variances).double() + (centres - mean).square())).sum(0), sum(sizes)


def _widened(hidden: Tensor, least: int) -> Tensor:
    """A view of a channels-last value with the channels of several pixels side by side, as if they were more channels:
    at least ``least``, and a multiple of 8, where the number of pixels allows.

    The processor's vectors hold 8 floats: the same work on 24 channels is several times faster than on 12.
    """
    if hidden.ndim != 4 or not hidden.is_contiguous(memory_format=torch.channels_last):
        return hidden
    channels = hidden.shape[1]
    pixels = hidden.numel() // channels
    side_by_side = 1
    while (side_by_side * channels % 8 or side_by_side * channels < least) and pixels % (2 * side_by_side) == 0:
        side_by_side *= 2
    return hidden.permute(0, 2, 3, 1).view(1, -1, 1, side_by_side * channels).permute(0, 3, 1, 2)


class AffineMap:
    """``x * scale + shift``, channel by channel."""

    def __init__(self, scale: Tensor, shift: Tensor) -> None:
        self._repeated = {len(scale): (scale, shift)}
        self._channels = len(scale)

    def __call__(self, hidden: Tensor, *, in_place: bool = False) -> Tensor:
        wide = _widened(hidden, _WIDE_SCALING)
        scale, shift = self._for(wide)
        result = torch.addcmul(shift, wide, scale, out=wide) if in_place else torch.addcmul(shift, wide, scale)
        if in_place:
            return hidden
        if result.shape == hidden.shape:
            return result
        count, channels, height, width = hidden.shape
        return result.permute(0, 2, 3, 1).reshape(count, height, width, channels).permute(0, 3, 1, 2)

    def _for(self, wide: Tensor) -> tuple[Tensor, Tensor]:
        size = wide.shape[1]
        if size not in self._repeated:
            scale, shift = self._repeated[self._channels]
            self._repeated[size] = (scale.repeat(size // len(scale)), shift.repeat(size // len(shift)))
        shape = (1, -1) + (1,) * (wide.ndim - 2)
        scale, shift = self._repeated[size]
        return scale.view(shape), shift.view(shape)
