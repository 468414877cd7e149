"""Each native kernel against torch's convolution in float64."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from autoprune.evaluators.native.build import Library, load_library, why_unavailable
from autoprune.evaluators.native.layers import Arena, Buffer, Convolution, Geometry, Rest, Scratch, load, store

pytestmark = pytest.mark.skipif(load_library() is None, reason=f"no native kernels: {why_unavailable()}")
SHAPES = list(
    itertools.chain(
        # inputs, outputs, kernel, stride, padding, dilation, height, width, images
        itertools.product((1, 3, 16), (1, 5, 12), ((3, 3),), ((1, 1), (2, 2)), (1,), (1,), (8,), (8, 7), (1, 9)),
        itertools.product((13, 40), (4, 33), ((3, 3),), ((1, 1), (2, 1)), (0, 1, 2), (1,), (5,), (18,), (8,)),
        itertools.product(
            (2, 9), (6, 7), ((1, 1), (5, 5), (1, 3), (2, 2)), ((1, 1), (2, 2)), (0, 1), (1, 2), (9,), (10,), (3,)
        ),
        [(24, 24, (3, 3), (1, 1), 1, 1, 32, 32, 11), (32, 16, (3, 3), (1, 1), 1, 1, 2, 2, 40)],
        [(3, 64, (3, 3), (1, 1), 1, 1, 13, 17, 5), (17, 9, (3, 3), (1, 1), (2, 0), 1, 6, 31, 17)],
    )
)


class Case:
    """A convolution of random numbers, both ways."""

    def __init__(self, shape: tuple, *, bias: bool = True, add: bool = False, relu: bool = False) -> None:
        inputs, outputs, kernel, stride, padding, dilation, height, width, count = shape
        torch.manual_seed(hash(shape) % 1000)
        library = load_library()
        assert library is not None
        self.library: Library = library
        self.conv = nn.Conv2d(inputs, outputs, kernel, stride, padding, dilation, bias=bias).requires_grad_(False)
        geometry = Geometry.of(self.conv)
        assert geometry is not None
        self.relu, self.count = relu, count
        self.groups = -(-count // library.lanes())
        self.arena, self.scratch = Arena(), Scratch()
        self.images = torch.randn(count, inputs, height, width) + 0.5
        self.made = Convolution(library, geometry, self.conv.weight, self.conv.bias, (height, width), relu)
        self.scratch.hold(self.made.scratch_bytes)
        self.added = torch.randn(count, *self.made.shape) if add else None
        self.source = self.buffer(self.images, geometry.margin(height, width))
        self.to = Buffer.make(library, self.arena, self.made.shape, (1, 2, 3, 1), self.groups)

    def buffer(self, images: Tensor, margin: tuple[int, int, int, int] = (0, 0, 0, 0)) -> Buffer:
        _, channels, height, width = images.shape
        buffer = Buffer.make(self.library, self.arena, (channels, height, width), margin, self.groups)
        load(self.library, images, buffer.value)
        return buffer

    def run(self) -> Tensor:
        added = None if self.added is None else self.buffer(self.added, (2, 0, 1, 3)).value
        self.made.run(self.source.value, self.to.value, added, self.groups, self.scratch)
        return store(self.library, self.to.value, self.count)

    def expected(self, images: Tensor | None = None) -> Tensor:
        conv, images = self.conv, self.images if images is None else images
        bias = None if conv.bias is None else conv.bias.double()
        args = (conv.stride, conv.padding, conv.dilation)
        result = functional.conv2d(images.double(), conv.weight.double(), bias, *args)
        result = result if self.added is None else result + self.added
        return result.relu() if self.relu else result


def assert_close(got: Tensor, expected: Tensor) -> None:
    assert got.shape == expected.shape
    scale = float(expected.abs().max()) or 1.0
    assert float((got - expected).abs().max()) <= 2e-5 * scale


def possible(shape: tuple) -> bool:
    _, _, kernel, _, padding, dilation, height, width, _ = shape
    pad = padding if isinstance(padding, tuple) else (padding, padding)
    sizes = zip((height, width), kernel, pad, strict=True)
    return all(size + 2 * p > dilation * (k - 1) for size, k, p in sizes)


@pytest.mark.parametrize("shape", [shape for shape in SHAPES if possible(shape)], ids=str)
def test_a_convolution_is_torchs(shape: tuple) -> None:
    case = Case(shape)
    assert_close(case.run(), case.expected())


@pytest.mark.parametrize("channels", range(1, 41))
@pytest.mark.parametrize(("kernel", "stride"), [(3, 1), (3, 2), (1, 1)])
def test_every_number_of_channels(channels: int, kernel: int, stride: int) -> None:
    case = Case((channels, 41 - channels, (kernel,) * 2, (stride,) * 2, kernel // 2, 1, 8, 8, 10), add=True, relu=True)
    assert_close(case.run(), case.expected())


@pytest.mark.parametrize(("bias", "add", "relu"), [*itertools.product((False, True), repeat=3)])
@pytest.mark.parametrize("stride", [1, 2])
def test_bias_sum_and_relu(stride: int, bias: bool, add: bool, relu: bool) -> None:
    case = Case((12, 10, (3, 3), (stride,) * 2, 1, 1, 10, 13, 9), bias=bias, add=add, relu=relu)
    assert_close(case.run(), case.expected())


def test_both_methods_are_covered() -> None:
    geometries = [Geometry((3, 3), (stride, stride), (1, 1), (1, 1)) for stride in (1, 2)]
    assert [bool(geometry.tiles(16, 16, 32, 32)) for geometry in geometries] == [True, False]
    assert not geometries[0].tiles(3, 2, 32, 32)


def test_zeros_around_the_result_are_written_each_time() -> None:
    """The memory that a value gets held something else before."""
    case = Case((8, 8, (3, 3), (1, 1), 1, 1, 6, 6, 8))
    memory = case.to.block._memory
    memory.fill_(torch.nan)
    case.run()
    value = case.to.value
    planes = memory[(value.data - memory.data_ptr()) // 4 :][: value.channels * value.rows * value.columns * 8]
    planes = planes.view(value.rows, value.channels, value.columns, 8).transpose(0, 1).clone()
    planes[:, value.top : value.top + value.height, value.left : value.left + value.width] = 0
    assert torch.equal(planes, torch.zeros_like(planes))


@pytest.mark.parametrize("shape", [(12, 10, (3, 3), (1, 1), 1, 1, 10, 13, 19), (3, 5, (3, 3), (2, 2), 1, 1, 9, 9, 1)])
def test_moments_of_each_channel(shape: tuple) -> None:
    """Also where the mean is a thousand times the spread; and the value before is finished as it is read."""
    case = Case(shape)
    case.conv.bias.copy_(torch.linspace(-1000, 1000, len(case.conv.bias)))  # type: ignore[union-attr]
    inputs = case.source.shape[0]
    added = torch.randn(case.images.shape)
    scale, shift = torch.rand(inputs), torch.randn(inputs)
    case.source.rest = Rest(scale, shift, case.buffer(added), relu=True)
    mean, variance = case.made.measure(case.source, case.to, case.count, case.scratch)
    finished = (case.images * scale[:, None, None] + shift[:, None, None] + added).relu()
    assert_close(store(case.library, case.source.value, case.count), finished)
    expected = case.expected(finished)
    torch.testing.assert_close(mean, expected.mean((0, 2, 3)), rtol=1e-6, atol=1e-5)
    torch.testing.assert_close(variance, expected.var((0, 2, 3), correction=0), rtol=2e-3, atol=0)
    plain = Case(shape)
    plain_mean, plain_variance = plain.made.measure(plain.source, plain.to, plain.count, plain.scratch)
    torch.testing.assert_close(plain_mean, plain.expected().mean((0, 2, 3)), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(plain_variance, plain.expected().var((0, 2, 3), correction=0), rtol=1e-5, atol=1e-6)


def test_nan_and_infinity_reach_the_result() -> None:
    for value in (torch.nan, torch.inf):
        case = Case((4, 4, (3, 3), (1, 1), 1, 1, 8, 8, 8), relu=True)
        case.images[2, 1, 4, 4] = value
        load(case.library, case.images, case.source.value)
        result = case.run()
        assert not torch.isfinite(result[2]).all()
        assert torch.isfinite(result[[0, 1, 3, 4, 5, 6, 7]]).all()


def test_images_in_any_strides() -> None:
    case = Case((3, 4, (3, 3), (1, 1), 1, 1, 8, 6, 10))
    for images in (
        case.images.contiguous(memory_format=torch.channels_last),
        case.images.transpose(2, 3).contiguous().transpose(2, 3),
        torch.cat([case.images] * 2, 1)[:, :3],
    ):
        load(case.library, images, case.source.value)
        assert torch.equal(store(case.library, case.source.value, case.count), case.images)
        assert_close(case.run(), case.expected())


@pytest.mark.parametrize(
    "conv",
    [
        nn.Conv2d(4, 4, 3, groups=2),
        nn.Conv2d(4, 4, 3, padding=1, padding_mode="reflect"),
        nn.Conv2d(4, 4, 2, padding="same"),
        nn.Conv2d(4, 4, 3).double(),
        nn.Conv1d(4, 4, 3),
        nn.Conv2d(4, 4, 3, device="meta"),
    ],
    ids=str,
)
def test_what_the_kernels_do_not_know_is_said(conv: nn.Module) -> None:
    assert Geometry.of(conv) is None


def test_memory_is_given_out_again() -> None:
    arena = Arena()
    block = arena.take(1000)
    address = block.address
    assert address % 64 == 0
    other = arena.take(1000)
    assert other.address != address
    del block
    assert arena.take(900).address == address


def test_much_memory_is_not_kept() -> None:
    arena = Arena()
    for count, kept in ((1 << 20, 1), (1 << 27, 0)):
        arena.take(count)
        arena.shrink()
        assert len(arena.free) == kept
