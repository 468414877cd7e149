"""Fused, chunked networks against the same networks run plainly."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from autoprune.config.schema import BuiltinModel
from autoprune.evaluators import networks
from autoprune.evaluators.fast import FastNetwork, chunk_size
from autoprune.evaluators.networks import Networks, PlainNetwork
from autoprune.models import registry
from autoprune.pruning.fusion import find_program


class PreActivation(nn.Module):
    """BatchNorm before the convolution, a concatenation, and a sum whose operands are both convolutions."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 3, padding="same", bias=True)
        self.norm1 = nn.BatchNorm2d(4, affine=False)
        self.conv1 = nn.Conv2d(4, 4, 3, padding=1, groups=2)
        self.norm2 = nn.BatchNorm2d(8, eps=0.1)
        self.left, self.right = nn.Conv2d(8, 6, 1), nn.Conv2d(8, 6, 1, bias=False)
        self.norm3, self.norm4 = nn.BatchNorm2d(6), nn.BatchNorm1d(6)
        self.relu = nn.ReLU(inplace=True)
        self.head = nn.Linear(6, 5)

    def forward(self, images: Tensor) -> Tensor:
        hidden = self.stem(images)
        hidden = torch.cat([hidden, self.conv1(self.relu(self.norm1(hidden)))], 1)
        hidden = self.norm2(hidden).relu()
        hidden = self.norm3(self.left(hidden)) + self.right(hidden)
        pooled = functional.adaptive_avg_pool2d(torch.relu(hidden), 1)
        return self.head(self.norm4(pooled.view(pooled.size(0), -1)))


def builtin(name: str, **args: object) -> Callable[[], nn.Module]:
    return lambda: registry.build(BuiltinModel(name=name, args=args), num_classes=5, in_channels=3)


MODELS = {
    "resnet8": builtin("resnet8"),
    "option A": builtin("resnet8", shortcut="A"),
    "mobilenet_v2": builtin("mobilenet_v2"),
    "vgg16_bn": builtin("vgg16_bn"),
    "pre-activation": PreActivation,
}


def scrambled(make: Callable[[], nn.Module]) -> nn.Module:
    """With BatchNorms that do something."""
    torch.manual_seed(0)
    model = make().eval().requires_grad_(False)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            for tensor in (module.weight, module.bias, module.running_mean, module.running_var):
                if tensor is not None:
                    tensor.copy_(torch.rand(len(tensor)) + 0.5)
    return model


@pytest.mark.parametrize("name", MODELS)
def test_statistics_and_logits_are_the_plain_networks(name: str) -> None:
    plain_model = scrambled(MODELS[name])
    fast_model = copy.deepcopy(plain_model)
    program = find_program(fast_model)
    assert program is not None
    batches = [torch.randn(14, 3, 32, 32) * scale + scale for scale in (1, 2, 3)]
    plain, fast = PlainNetwork(plain_model), FastNetwork(program, fast_model, chunk=4)
    for network in (plain, fast):
        network.calibrate(batches)
        network.fold()
    for (key, expected), got in zip(plain_model.state_dict().items(), fast_model.state_dict().values(), strict=True):
        tolerance = 1e-5 * max(1.0, float(expected.abs().max()))
        torch.testing.assert_close(got, expected, rtol=1e-5, atol=tolerance, msg=lambda text, key=key: f"{key}: {text}")
    expected = plain(batches[0])
    torch.testing.assert_close(fast(batches[0]), expected, rtol=1e-4, atol=1e-4 * float(expected.abs().max()))


def test_without_batches_the_inherited_statistics_are_folded() -> None:
    model = scrambled(MODELS["resnet8"])
    before = copy.deepcopy(model.state_dict())
    network = FastNetwork(find_program(model), model, chunk=3)  # type: ignore[arg-type]
    network.calibrate([])
    network.fold()
    images = torch.randn(5, 3, 32, 32)
    torch.testing.assert_close(network(images), model(images), rtol=1e-4, atol=1e-4)
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())


def test_one_value_per_channel_has_no_variance() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 8), nn.BatchNorm2d(4)).eval()
    network = FastNetwork(find_program(model), model, chunk=3)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="more than one value"):
        network.calibrate([torch.randn(1, 3, 8, 8)])


class RemembersItsWidth(nn.Module):
    """Right whatever its width, but a trace of it knows one width only."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, width, 3, bias=False)
        self.norm = nn.BatchNorm2d(width)
        self.head = nn.Linear(width, 2)

    def forward(self, images: Tensor) -> Tensor:
        hidden = self.norm(self.conv(images))
        return self.head(hidden.view(hidden.size(0), self.conv.out_channels, -1).mean(2))


class ScalesByItsWidth(RemembersItsWidth):
    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.norm(self.conv(images)).mean((2, 3)) / self.conv.out_channels)


@pytest.mark.parametrize("kind", [RemembersItsWidth, ScalesByItsWidth])
def test_a_program_that_differs_on_a_slice_is_not_used(kind: type[RemembersItsWidth]) -> None:
    torch.manual_seed(0)
    images, labels = torch.randn(6, 3, 8, 8), torch.zeros(6, dtype=torch.int64)
    assert find_program(kind(8)) is not None
    chosen = Networks(kind(8).eval(), lambda: _seeded(kind), images, labels, batch=6)
    assert chosen.program is None
    assert isinstance(chosen.network(kind(4).eval()), PlainNetwork)


def _seeded(kind: type[RemembersItsWidth]) -> nn.Module:
    torch.manual_seed(1)
    return kind(4).eval()


def test_a_program_that_agrees_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AUTOPRUNE_NATIVE", "0")
    images, labels = torch.randn(6, 3, 32, 32), torch.zeros(6, dtype=torch.int64)
    model = scrambled(MODELS["resnet8"])
    chosen = Networks(model, lambda: copy.deepcopy(model), images, labels, batch=6)
    assert isinstance(chosen.network(model), FastNetwork)


def test_chunks_divide_the_batch_and_fit_the_cache() -> None:
    model = scrambled(MODELS["resnet8"])
    program = find_program(model)
    assert program is not None
    # The largest convolution reads and writes 2 * 16 * 32 * 32 floats, 128 KiB: 64 images fill 8 MiB.
    image = torch.zeros(1, 3, 32, 32)
    assert [chunk_size(program, model, image, batch) for batch in (256, 250, 9, 5, 251)] == [64, 50, 9, 5, 64]
    assert chunk_size(program, model, torch.zeros(1, 3, 8, 8), 256) == 256
    assert chunk_size(program, model, torch.zeros(1, 3, 256, 256), 256) == 8


def test_bfloat16_is_close_and_leaves_calibration_alone() -> None:
    model = scrambled(MODELS["resnet8"])
    program = find_program(model)
    assert program is not None
    images = torch.randn(8, 3, 32, 32)
    fast = [FastNetwork(program, copy.deepcopy(model), 4, dtype) for dtype in (None, torch.bfloat16)]
    for network in fast:
        network.calibrate([images])
        network.fold()
    exact, rounded = (network(images).float() for network in fast)
    assert 0 < float((exact - rounded).abs().max()) < 0.05 * float(exact.abs().max())


class NearTie(nn.Module):
    """Two answers that bfloat16 cannot tell apart: logits h and 1.001 h of a positive h."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 2, 1, bias=False)
        self.conv.weight.data = torch.tensor([1.0, 1.001]).view(2, 1, 1, 1)

    def forward(self, images: Tensor) -> Tensor:
        return self.conv(images).flatten(1)


@pytest.mark.parametrize(("tolerance", "expected"), [(0.005, None), (1.0, torch.bfloat16)])
def test_bfloat16_is_turned_off_where_the_base_model_scores_otherwise(
    monkeypatch: pytest.MonkeyPatch, tolerance: float, expected: torch.dtype | None
) -> None:
    monkeypatch.setenv("AUTOPRUNE_NATIVE", "0")
    monkeypatch.setattr(networks, "autocast_dtype", lambda *_: torch.bfloat16)
    monkeypatch.setattr(networks, "_TOP1_TOLERANCE", tolerance)
    images, labels = torch.ones(6, 1, 1, 1), torch.ones(6, dtype=torch.int64)
    assert Networks(NearTie().eval(), NearTie, images, labels, batch=6).dtype is expected


def test_bfloat16_is_used_where_it_is_native_and_agrees(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AUTOPRUNE_NATIVE", "0")
    monkeypatch.setattr(networks, "autocast_dtype", lambda *_: torch.bfloat16)
    model = scrambled(MODELS["resnet8"])
    with torch.no_grad():
        images = torch.randn(40, 3, 32, 32)
        logits = model(images)
        sure = logits.topk(2).values.diff().abs().flatten().topk(6).indices
    chosen = Networks(model, lambda: copy.deepcopy(model), images[sure], logits[sure].argmax(1), batch=6)
    assert chosen.dtype is torch.bfloat16
