"""Models off the beaten track: each works, or the error names the module and the reason."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import parametrizations

import autoprune
from autoprune.errors import ConfigError
from autoprune.models.torchvision_shim import torchvision
from autoprune.pruning.equivalence import max_error
from autoprune.pruning.groups import discover
from autoprune.space.space import SearchSpace

IMAGE = (1, 3, 16, 16)


def small(norm: Callable[[int], nn.Module] = nn.BatchNorm2d, first: int = 16, second: int = 24) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, first, 3, padding=1),
        norm(first),
        nn.ReLU(),
        nn.Conv2d(first, second, 3, padding=1),
        norm(second),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(second, 5),
    )


class TwoInputs(nn.Module):
    """Colour and depth, each with its own stem."""

    def __init__(self) -> None:
        super().__init__()
        self.colour, self.depth = nn.Conv2d(3, 16, 3, padding=1), nn.Conv2d(1, 16, 3, padding=1)
        self.both, self.head = nn.Conv2d(16, 8, 3), nn.Linear(8, 4)

    def forward(self, image: Tensor, depth: Tensor) -> Tensor:
        joined = F.relu(self.colour(image) + self.depth(depth))
        return self.head(F.relu(self.both(joined)).mean((2, 3)))


class CalledTwice(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem, self.body = nn.Conv2d(3, 16, 3, padding=1), nn.Conv2d(16, 16, 3, padding=1)
        self.neck, self.head = nn.Conv2d(16, 8, 1), nn.Linear(8, 4)

    def forward(self, image: Tensor) -> Tensor:
        values = F.relu(self.stem(image))
        for _ in range(2):
            values = F.relu(self.body(values))
        return self.head(F.relu(self.neck(values)).mean((2, 3)))


class SharedWeight(CalledTwice):
    """Two layers over one parameter."""

    def __init__(self) -> None:
        super().__init__()
        self.again = nn.Conv2d(16, 16, 3, padding=1)
        self.again.weight = self.body.weight

    def forward(self, image: Tensor) -> Tensor:
        values = F.relu(self.body(F.relu(self.stem(image))))
        return self.head(F.relu(self.neck(F.relu(self.again(values)))).mean((2, 3)))


class DependsOnValues(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.net = small()

    def forward(self, image: Tensor) -> Tensor:
        if image.sum() > 0:
            image = -image
        for _ in range(int(image.abs().max()) + 1):
            image = image * 0.5
        return self.net(image)


class Pyramid(nn.Module):
    """A mapping of outputs, one of them from the middle."""

    def __init__(self) -> None:
        super().__init__()
        self.net = small()

    def forward(self, image: Tensor) -> dict[str, Any]:
        return {"deep": self.net(image), "shallow": [self.net[0](image).mean((2, 3))]}


def no_norm(channels: int) -> nn.Module:
    return nn.Identity()


def frozen_statistics() -> nn.Module:
    model = small().eval()
    for layer in model.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.requires_grad_(False)
    return model


WORKS: dict[str, tuple[Callable[[], nn.Module], list[str]]] = {
    "no BatchNorm": (lambda: small(no_norm), ["0", "3"]),
    "frozen parameters": (frozen_statistics, ["0", "3"]),
    "frozen BatchNorm": (lambda: small(torchvision.ops.FrozenBatchNorm2d), ["0", "3"]),
    "a parameter of two layers": (SharedWeight, ["stem", "neck"]),
    "odd widths": (lambda: small(first=13, second=7), ["0", "3"]),
    "float16": (lambda: small().half(), ["0", "3"]),
    "bfloat16": (lambda: small().bfloat16(), ["0", "3"]),
    "float64": (lambda: small().double(), ["0", "3"]),
    "a layer called twice": (CalledTwice, ["stem", "neck"]),
    "control flow on values": (DependsOnValues, ["net.0", "net.3"]),
    "a mapping of outputs": (Pyramid, ["net.3"]),
    "channels last": (lambda: small().to(memory_format=torch.channels_last), ["0", "3"]),
}


@pytest.mark.parametrize(("make", "names"), WORKS.values(), ids=WORKS)
def test_it_is_pruned_and_computes_the_same(make: Callable[[], nn.Module], names: list[str]) -> None:
    model = make().eval()
    example = torch.zeros(IMAGE).to(next(model.parameters()).dtype)
    space = SearchSpace.from_module(model, example)
    assert [group.name for group in space.groups] == names
    keep = {group.name: np.arange(0, group.units, 2) for group in space.groups}
    assert max_error(model, space.groups, example, keep) < 1e-9
    sliced = autoprune.slice_model(model, space.groups, keep)
    assert {parameter.dtype for parameter in sliced.parameters()} == {example.dtype}
    assert (
        sum(p.numel() for p in sliced.parameters())
        == space.cost.measure(
            space.candidate(np.array([len(keep[group.name]) * group.unit for group in space.groups]))
        )["params"]
    )


def test_a_parameter_that_two_layers_share_is_left_alone() -> None:
    space = SearchSpace.from_module(SharedWeight().eval(), torch.zeros(IMAGE))
    assert "neck" in space.names
    assert set(space.left_out) <= {"stem", "body", "again"}
    keep = {group.name: np.arange(group.units - 2) for group in space.groups}
    sliced = autoprune.slice_model(SharedWeight().eval(), space.groups, keep)
    assert sliced.get_parameter("body.weight") is sliced.get_parameter("again.weight")


def left_out(model: nn.Module) -> Mapping[str, str]:
    return discover(model, torch.zeros(IMAGE)).left_out


@pytest.mark.parametrize("parametrise", [parametrizations.weight_norm, parametrizations.spectral_norm])
def test_a_parametrised_layer_is_left_out_by_name_and_the_others_are_pruned(
    parametrise: Callable[[nn.Module], nn.Module],
) -> None:
    model = small()
    parametrise(model[3])
    assert "is computed from other tensors" in left_out(model.eval())["0"]
    longer = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 3, 3), *model)
    space = SearchSpace.from_module(longer.eval(), torch.zeros(1, 3, 20, 20))
    assert "0" in space.names
    assert any("is computed from other tensors" in reason for reason in space.left_out.values())


@pytest.mark.parametrize("parametrise", [parametrizations.weight_norm, parametrizations.spectral_norm])
def test_a_model_of_parametrised_layers_alone_is_refused_by_their_names(
    parametrise: Callable[[nn.Module], nn.Module],
) -> None:
    model = small(no_norm)
    for layer in model:
        if isinstance(layer, nn.Conv2d | nn.Linear):
            parametrise(layer)
    with pytest.raises(
        ConfigError, match=r"no group is left to search \(0: the weight of ParametrizedConv2d"
    ) as caught:
        SearchSpace.from_module(model.eval(), torch.zeros(IMAGE))
    assert "; 3: the weight of Parametrized" in str(caught.value)
    assert "remove_parametrizations" in str(caught.value)


def quantised() -> nn.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch announces where quantisation is moving to
        return torch.ao.quantization.quantize_dynamic(small().eval(), {nn.Linear})


def hooked() -> nn.Module:
    model = small(no_norm)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # deprecated, and still in many checkpoints
        torch.nn.utils.weight_norm(model[3])
    return model


def scripted() -> nn.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return torch.jit.trace(small().eval(), torch.zeros(IMAGE))


REFUSED: dict[str, tuple[Callable[[], nn.Module], str]] = {
    "quantised": (quantised, r"module '8' \(Linear\) is quantised.* Prune the floating point model"),
    "TorchScript": (scripted, "TopLevelTracedModule is TorchScript"),
    "old weight_norm": (hooked, r"module '3' \(Conv2d\) has torch\.nn\.utils\.weight_norm.*remove_weight_norm"),
    "compiled": (lambda: torch.compile(small(), backend="eager"), r"is wrapped by torch\.compile.*_orig_mod"),
    "recurrent": (
        lambda: nn.Sequential(nn.Conv2d(3, 8, (16, 1)), nn.Flatten(2), Rows(), nn.LSTM(8, 4), First()),
        "LSTM '3' is not supported",
    ),
    "nothing to cut": (lambda: nn.Sequential(nn.Conv2d(3, 8, 3)), "the model has no groups"),
}


class Rows(nn.Module):
    def forward(self, values: Tensor) -> Tensor:
        return values.transpose(1, 2)


class First(nn.Module):
    def forward(self, values: tuple[Tensor, Any]) -> Tensor:
        return values[0]


@pytest.mark.parametrize(("make", "message"), REFUSED.values(), ids=REFUSED)
def test_what_cannot_be_pruned_is_named_with_the_reason(make: Callable[[], nn.Module], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        SearchSpace.from_module(make().eval(), torch.zeros(IMAGE))


def test_two_inputs_are_given_as_a_tuple() -> None:
    model = TwoInputs().eval()
    example = (torch.zeros(IMAGE), torch.zeros(1, 1, 16, 16))
    space = SearchSpace.from_module(model, example)
    assert space.names == ("colour", "both")  # the two stems are added, so they are one group
    by_hand = 16 * 16 * 16 * 9 * (3 + 1) + 14 * 14 * 8 * 16 * 9 + 8 * 4
    assert space.cost.baseline["macs"] == by_hand
    assert space.cost.baseline["params"] == sum(p.numel() for p in model.parameters())
    keep = {"colour": np.arange(10), "both": np.arange(1, 7)}
    sliced = autoprune.slice_model(model, space.groups, keep)
    assert (sliced.depth.out_channels, sliced.both.in_channels, sliced.both.out_channels) == (10, 10, 6)
    inputs = (torch.randn(2, *IMAGE[1:]), torch.randn(2, 1, 16, 16))
    with torch.no_grad():
        for name, dropped in (("colour", np.arange(10, 16)), ("both", np.array([0, 7]))):
            consumer = {"colour": model.both, "both": model.head}[name]
            consumer.weight[:, dropped] = 0  # what nobody reads may as well be absent
        torch.testing.assert_close(sliced(*inputs), model(*inputs), rtol=1e-4, atol=1e-5)


def test_a_user_searches_a_model_of_two_inputs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("AUTOPRUNE_STORE", raising=False)
    batches = [(torch.randn(4, 3, 16, 16), torch.randn(4, 1, 16, 16)) for _ in range(2)]

    def metric(model: nn.Module) -> float:
        with torch.no_grad():
            return float(model(*batches[0]).abs().mean())

    result = autoprune.search_module(
        TwoInputs(),
        (torch.zeros(IMAGE), torch.zeros(1, 1, 16, 16)),
        metric=metric,
        name="two",
        trials=4,
        controller={"kind": "random"},
        calibration=batches,
    )
    assert result.trials == 4
    small = result.build(result.front.trials[0])
    assert metric(small) == pytest.approx(result.front.trials[0].metrics["metric"])
