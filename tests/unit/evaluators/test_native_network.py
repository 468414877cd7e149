"""Whole networks by the native kernels against the same networks run plainly."""

from __future__ import annotations

import copy
import threading
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from autoprune.config.schema import BuiltinModel, DigitsData, EvaluatorConfig
from autoprune.data import sources
from autoprune.evaluators import networks
from autoprune.evaluators.assets import Assets
from autoprune.evaluators.evaluator import make_evaluator
from autoprune.evaluators.fast import FastNetwork
from autoprune.evaluators.native.build import load_library, why_unavailable
from autoprune.evaluators.native.layers import Arena
from autoprune.evaluators.native.network import NativeNetwork
from autoprune.evaluators.native.pieces import supports
from autoprune.evaluators.native.plan import chunk_groups
from autoprune.evaluators.networks import Networks, PlainNetwork
from autoprune.models import registry
from autoprune.pruning import criteria
from autoprune.pruning.fusion import find_program
from autoprune.pruning.groups import discover
from autoprune.pruning.ranking import rank
from autoprune.types import Candidate

pytestmark = pytest.mark.skipif(load_library() is None, reason=f"no native kernels: {why_unavailable()}")


class Mixed(nn.Module):
    """Torch's operations between ours: a BatchNorm before the convolution, pooling, concatenation, sums."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 3, padding="same", bias=True)
        self.norm1 = nn.BatchNorm2d(4, affine=False)
        self.conv1 = nn.Conv2d(4, 4, 5, padding=2)
        self.norm2 = nn.BatchNorm2d(8, eps=0.1)
        self.left, self.right = nn.Conv2d(8, 6, 1), nn.Conv2d(8, 6, 1, bias=False)
        self.norm3, self.norm4 = nn.BatchNorm2d(6), nn.BatchNorm1d(6)
        self.last, self.norm5 = nn.Conv2d(6, 6, 3, padding=1), nn.BatchNorm2d(6)
        self.head = nn.Linear(6, 5)

    def forward(self, images: Tensor) -> Tensor:
        hidden = self.stem(images)
        hidden = torch.cat([hidden, self.conv1(torch.relu(self.norm1(hidden)))], 1)
        hidden = self.norm2(functional.max_pool2d(hidden, 2)).relu()
        hidden = self.norm3(self.left(hidden)) + self.right(hidden)
        hidden = (self.norm5(self.last(hidden)) + torch.tanh(hidden)).relu()
        pooled = functional.adaptive_avg_pool2d(hidden, 1)
        return self.head(self.norm4(pooled.view(pooled.size(0), -1)))


def builtin(name: str, **args: object) -> Callable[[], nn.Module]:
    return lambda: registry.build(BuiltinModel(name=name, args=args), num_classes=5, in_channels=3)


MODELS = {
    "resnet20": builtin("resnet20"),
    "option A": builtin("resnet20", shortcut="A"),
    "odd width": builtin("resnet8", width=7),
    "vgg16_bn": builtin("vgg16_bn"),
    "mixed": Mixed,
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


def native(model: nn.Module, groups: int = 1) -> NativeNetwork:
    program, library = find_program(model), load_library()
    assert program is not None
    assert library is not None
    return NativeNetwork(program, model, library, groups, Arena())


@pytest.mark.parametrize("name", MODELS)
def test_statistics_and_logits_are_the_plain_networks(name: str) -> None:
    plain_model = scrambled(MODELS[name])
    native_model = copy.deepcopy(plain_model)
    size = 35 if name == "odd width" else 32
    batches = [torch.randn(14, 3, size, size) * scale + scale for scale in (1, 2, 3)]
    plain, ours = PlainNetwork(plain_model), native(native_model)
    for network in (plain, ours):
        network.calibrate(batches)
        network.fold()
    for (key, expected), got in zip(plain_model.state_dict().items(), native_model.state_dict().values(), strict=True):
        scale = float(expected.double().abs().max())
        torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-5 * scale, msg=key)
    for images in (batches[0], batches[1][:1], torch.randn(19, 3, size + 8, size)):
        expected, got = plain(images), ours(images)
        assert got.shape == expected.shape
        assert float((got - expected).abs().max()) <= 1e-4 * float(expected.abs().max())


def test_without_calibration_the_models_own_statistics_count() -> None:
    model = scrambled(MODELS["resnet20"])
    network, images = native(copy.deepcopy(model), groups=2), torch.randn(20, 3, 32, 32)
    network.fold()
    torch.testing.assert_close(network(images), model(images), rtol=1e-4, atol=1e-4)


def test_results_do_not_depend_on_chunks() -> None:
    model, images = scrambled(MODELS["resnet20"]), torch.randn(37, 3, 32, 32)
    results = []
    for groups in (1, 2, 5):
        network = native(copy.deepcopy(model), groups)
        network.calibrate([images])
        network.fold()
        results.append(network(images))
    assert torch.equal(results[0], results[1])
    assert torch.equal(results[0], results[2])


def test_evaluators_in_threads_do_not_meet() -> None:
    model, images = scrambled(MODELS["resnet20"]), torch.randn(24, 3, 32, 32)
    results: dict[int, Tensor] = {}

    made = [native(copy.deepcopy(model)) for _ in range(3)]

    def work(number: int) -> None:
        network = made[number]
        for _ in range(5):
            network.calibrate([images])
            network.fold()
            results[number] = network(images)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert torch.equal(results[0], results[1])
    assert torch.equal(results[0], results[2])


def chosen(model: nn.Module, images: Tensor) -> Networks:
    return Networks(model, lambda: copy.deepcopy(model), images, torch.zeros(len(images)), len(images))


def test_it_is_chosen_where_it_agrees(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(networks, "autocast_dtype", lambda *_: None)
    model, images = scrambled(MODELS["resnet20"]), torch.randn(9, 3, 32, 32)
    found = chosen(model, images)
    assert isinstance(found.network(model), NativeNetwork)
    assert found.chunk == 16
    monkeypatch.setenv("AUTOPRUNE_NATIVE", "0")
    assert isinstance(chosen(model, images).network(model), FastNetwork)


def test_it_is_not_chosen_where_it_does_not_agree(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(networks, "autocast_dtype", lambda *_: None)
    monkeypatch.setattr(NativeNetwork, "__call__", lambda *_: torch.zeros(9, 5))
    model = scrambled(MODELS["resnet20"])
    assert isinstance(chosen(model, torch.randn(9, 3, 32, 32)).network(model), FastNetwork)


@pytest.mark.parametrize(("name", "kind"), [("resnet20", NativeNetwork), ("vgg16_bn", FastNetwork)])
def test_beside_native_bfloat16_only_narrow_networks_get_it(
    name: str, kind: type, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(networks, "autocast_dtype", lambda *_: torch.bfloat16)
    model = scrambled(MODELS[name])
    assert isinstance(chosen(model, torch.randn(9, 3, 32, 32)).network(model), kind)


def test_grouped_convolutions_are_left_to_torch() -> None:
    model = scrambled(builtin("mobilenet_v2"))
    program = find_program(model)
    assert program is not None
    assert not supports(program, model)
    with pytest.raises(ValueError, match="do not know"):
        native(model)


def test_a_sum_that_broadcasts_is_refused() -> None:
    class Broadcast(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.gate = nn.Conv2d(3, 4, 1), nn.Conv2d(3, 4, 1)

        def forward(self, images: Tensor) -> Tensor:
            gate: Tensor = self.gate(functional.adaptive_avg_pool2d(images, 1))
            return gate + self.conv(images)

    network = native(Broadcast())
    network.fold()
    with pytest.raises(ValueError, match="sum"):
        network(torch.zeros(2, 3, 4, 4))


def test_chunks_follow_from_shapes() -> None:
    model = scrambled(MODELS["resnet20"])
    program = find_program(model)
    assert program is not None
    sizes = [chunk_groups(program, model, torch.zeros(1, 3, 32, 32), batch, 8) for batch in (250, 24, 9, 1)]
    assert sizes == [3, 3, 2, 1]


def test_top1_of_candidates_is_that_of_float32() -> None:
    """An untrained network on real digits: its logits lie close together, so that rounding shows where it matters."""
    torch.manual_seed(0)
    description = BuiltinModel(name="resnet8")
    module = registry.build(description, num_classes=10, in_channels=1).eval()
    groups = discover(module, torch.zeros(1, 1, 8, 8)).groups
    dataset = sources.load(DigitsData(search_val=0.4))
    assets = Assets(
        model=description,
        num_classes=10,
        in_channels=1,
        state={name: tensor.numpy() for name, tensor in module.state_dict().items()},
        groups=groups,
        ranking=rank(module, groups, criteria.get("l1")),
        calibration_images=dataset.train.images[:600],
        images=dataset.search_val.images,
        labels=dataset.search_val.labels,
        mean=dataset.mean,
        std=dataset.std,
        config=EvaluatorConfig(),
    )
    ours, plain = make_evaluator(assets), make_evaluator(assets)
    plain.networks.program = None
    generator = np.random.default_rng(0)
    differences = []
    for _ in range(12):
        widths = {group.name: group.unit * int(generator.integers(1, group.units + 1)) for group in groups}
        results = [[*evaluator.evaluate(Candidate(widths))][-1].metrics for evaluator in (ours, plain)]
        differences.append(abs(results[0]["top1"] - results[1]["top1"]))
        assert results[0]["loss"] == pytest.approx(results[1]["loss"], rel=1e-4)
    assert max(differences) <= 0.005
    assert np.mean(differences) <= 0.001
