"""Reconstruction of whole networks: exact cases by hand, errors that never grow, and what stays untouched."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from autoprune.errors import ConfigError
from autoprune.pruning.calibration import calibrate
from autoprune.pruning.groups import discover
from autoprune.pruning.reconstruction import OnceReconstructor, Reconstructor, SequentialReconstructor, gather_moments
from autoprune.pruning.slicing import slice_model
from autoprune.types import ChannelGroup

LEVELS = ("bias", "channel", "full")
MODES = ("once", "sequential")
ALL = 10_000


def images(count: int = 40, size: int = 6) -> Tensor:
    return torch.randn(count, 3, size, size, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


def settled(model: nn.Module, batch: Tensor) -> nn.Module:
    """In float64 and eval mode, BatchNorm with scales and statistics that mean something."""
    model = model.double()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias)
    calibrate(model, [batch])
    return model.eval()


def chain(norm: bool, groups: int = 1) -> nn.Module:
    torch.manual_seed(0)

    def after(channels: int) -> nn.Module:
        return nn.BatchNorm2d(channels) if norm else nn.Identity()

    return nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1, bias=not norm),
        after(8),
        nn.ReLU(),
        nn.Conv2d(8, 8, 3, stride=2, padding=1, groups=groups, bias=not norm),
        after(8),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(8 * 9, 5),
    )


class Residual(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.stem = nn.Conv2d(3, 8, 3, padding=1)
        self.inner = nn.Conv2d(8, 8, 3, padding=1)
        self.branch = nn.Conv2d(8, 8, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(8)
        self.head = nn.Linear(8, 4)

    def forward(self, pixels: Tensor) -> Tensor:
        shortcut = self.stem(pixels).relu()
        total = self.norm(self.branch(self.inner(shortcut).relu())) + shortcut
        return self.head(total.relu().mean((2, 3)))


def make(
    model: nn.Module,
    groups: tuple[ChannelGroup, ...],
    batch: Tensor,
    mode: str,
    level: str,
    ridge: float = 1e-6,
    recalibrated: bool = False,
) -> Reconstructor:
    if mode == "once":
        moments = gather_moments(model, groups, [batch], ALL)
        return OnceReconstructor(model, groups, moments, level=level, ridge=ridge, recalibrated=recalibrated)
    return SequentialReconstructor(
        model, groups, batch, level=level, ridge=ridge, positions=ALL, recalibrated=recalibrated
    )


def first_units(groups: tuple[ChannelGroup, ...], share: float = 0.5) -> dict[str, np.ndarray]:
    return {group.name: np.arange(max(1, int(share * group.units))) for group in groups}


def outputs_of(model: nn.Module, layer: str, batch: Tensor) -> Tensor:
    seen: list[Tensor] = []
    handle = model.get_submodule(layer).register_forward_hook(lambda _, __, output: seen.append(output))
    with torch.no_grad():
        model(batch)
    handle.remove()
    return seen[0]


def state(model: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


@pytest.mark.parametrize("mode", MODES)
def test_two_linear_layers_by_hand(mode: str) -> None:
    """The second layer becomes numpy's least squares, with an intercept, from what stays of the first."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 3)).double().eval()
    batch = torch.randn(50, 4, dtype=torch.float64)
    groups = discover(model, batch[:1]).groups
    keep = {groups[0].name: np.array([0, 2, 5])}
    sliced = slice_model(model, groups, keep)
    make(model, groups, batch, mode, "full", ridge=1e-12)(sliced, keep)
    with torch.no_grad():
        hidden, wanted = model[:2](batch).numpy(), model(batch).numpy()
    rows = np.concatenate([hidden[:, [0, 2, 5]], np.ones((50, 1))], 1)
    solution = np.linalg.lstsq(rows, wanted, rcond=None)[0]
    np.testing.assert_allclose(sliced[2].weight.detach().numpy(), solution[:3].T, atol=1e-8)
    np.testing.assert_allclose(sliced[2].bias.detach().numpy(), solution[3], atol=1e-8)


@pytest.mark.parametrize("norm", [False, True])
@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize("mode", MODES)
def test_the_layer_behind_a_cut_errs_less_with_every_level(norm: bool, groups: int, mode: str) -> None:
    """On the images of the fit; the first reader sees the base model's own inputs in both modes."""
    batch = images()
    model = settled(chain(norm, groups), batch)
    found = discover(model, batch[:1]).groups
    keep = {found[0].name: np.arange(found[0].units // 2)}
    wanted = outputs_of(model, "4", batch)
    errors = []
    for level in ("none", *LEVELS):
        sliced = slice_model(model, found, keep)
        if level != "none":
            make(model, found, batch, mode, level)(sliced, keep)
        errors.append(float((outputs_of(sliced, "4", batch) - wanted).square().mean()))
    assert errors[0] > errors[1] > errors[2] > errors[3]


@pytest.mark.parametrize("level", LEVELS)
def test_both_modes_agree_on_the_first_reader(level: str) -> None:
    batch = images()
    model = settled(chain(norm=False), batch)
    groups = discover(model, batch[:1]).groups
    keep = {groups[0].name: np.array([1, 2, 6])}
    fitted = []
    for mode in MODES:
        sliced = slice_model(model, groups, keep)
        make(model, groups, batch, mode, level)(sliced, keep)
        fitted.append(sliced)
    torch.testing.assert_close(fitted[0][3].weight, fitted[1][3].weight)
    torch.testing.assert_close(fitted[0][3].bias, fitted[1][3].bias)


def test_later_layers_make_up_for_earlier_ones_only_in_sequence() -> None:
    batch = images(80)
    model = settled(chain(norm=False), batch)
    groups = discover(model, batch[:1]).groups
    keep = first_units(groups)
    wanted = outputs_of(model, "7", batch)
    errors = {}
    for mode in MODES:
        sliced = slice_model(model, groups, keep)
        make(model, groups, batch, mode, "full")(sliced, keep)
        errors[mode] = float((outputs_of(sliced, "7", batch) - wanted).square().mean())
    assert errors["sequential"] < errors["once"]


@pytest.mark.parametrize("mode", MODES)
def test_a_constant_channel_goes_into_the_bias_exactly(mode: str) -> None:
    """A BatchNorm scale of zero leaves its shift; without padding its reader sees it everywhere."""
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6), nn.ReLU(), nn.Conv2d(6, 5, 2), nn.Flatten(), nn.Linear(45, 2)
    )
    batch = images()
    model = settled(model, batch)
    model[1].weight.data[4:], model[1].bias.data[4:] = 0.0, 0.7
    groups = discover(model, batch[:1]).groups
    keep = {groups[0].name: np.arange(4)}
    sliced = slice_model(model, groups, keep)
    make(model, groups, batch, mode, "bias")(sliced, keep)
    torch.testing.assert_close(sliced(batch), model(batch))


def test_a_branch_makes_up_for_its_shortcut() -> None:
    """Its target is what it gave plus what the shortcut has lost, in front of its BatchNorm."""
    batch = images()
    model = settled(Residual(), batch)
    groups = discover(model, batch[:1]).groups
    damaged = settled(Residual(), batch)
    damaged.load_state_dict(model.state_dict())
    damaged.stem.weight.data.mul_(0.5)
    keep = {"inner": np.arange(7)}
    wanted = outputs_of(model, "norm", batch) + outputs_of(model, "stem", batch).relu()

    def error(make_it: Callable[[nn.Module], None]) -> float:
        sliced = slice_model(damaged, groups, keep)
        make_it(sliced)
        total = outputs_of(sliced, "norm", batch) + outputs_of(sliced, "stem", batch).relu()
        return float((total - wanted).square().mean())

    with_target = make(model, groups, batch, "sequential", "full")
    assert isinstance(with_target, SequentialReconstructor)
    alone = make(model, groups, batch, "sequential", "full")
    alone._graph = None  # type: ignore[attr-defined]  # as for a model that cannot be traced
    for goal in alone._goals:  # type: ignore[attr-defined]
        object.__setattr__(goal, "shortcut", None)
    errors = [error(lambda sliced, fit=fit: fit(sliced, keep)) for fit in (with_target, alone)]
    assert errors[0] < errors[1]


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("recalibrated", [False, True])
def test_nothing_cut_changes_no_weight_and_the_base_never_changes(mode: str, recalibrated: bool) -> None:
    batch = images()
    model = settled(Residual(), batch)
    before = state(model)
    groups = discover(model, batch[:1]).groups
    fit = make(model, groups, batch, mode, "full", recalibrated=recalibrated)
    sliced = slice_model(model, groups, {}).train()
    fit(sliced, {})
    assert all(module.training for module in sliced.modules())
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in sliced.modules())
    batch_statistics = recalibrated and mode == "sequential"  # biased in the pass, unbiased where they are kept
    tolerance = 1e-2 if batch_statistics else 1e-9
    for name, tensor in sliced.state_dict().items():
        torch.testing.assert_close(tensor, before[name], msg=name, rtol=tolerance, atol=tolerance)
    half = slice_model(model, groups, first_units(groups))
    fit(half, first_units(groups))
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


def test_a_sequential_pass_leaves_calibrated_statistics() -> None:
    batch = images()
    model = settled(chain(norm=True), batch)
    groups = discover(model, batch[:1]).groups
    keep = first_units(groups)
    sliced = slice_model(model, groups, keep)
    make(model, groups, batch, "sequential", "full", recalibrated=True)(sliced, keep)
    left = state(sliced)
    calibrate(sliced, [batch])
    for name, tensor in sliced.state_dict().items():
        torch.testing.assert_close(tensor, left[name], msg=name)


@pytest.mark.parametrize("mode", MODES)
def test_without_calibration_the_norms_mean_takes_the_constant(mode: str) -> None:
    """The outputs behind BatchNorm keep the base model's mean, though its statistics are inherited."""
    batch = images()
    model = settled(chain(norm=True), batch)
    groups = discover(model, batch[:1]).groups
    keep = {groups[0].name: np.arange(4)}
    for level in LEVELS:
        sliced = slice_model(model, groups, keep)
        make(model, groups, batch, mode, level)(sliced, keep)
        got, wanted = (outputs_of(item, "4", batch).mean((0, 2, 3)) for item in (sliced, model))
        torch.testing.assert_close(got, wanted, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("mode", MODES)
def test_activations_that_are_not_finite_are_named(mode: str) -> None:
    model = settled(chain(norm=False), images())
    groups = discover(model, images(1)).groups
    model[0].weight.data[0, 0, 0, 0] = torch.nan
    with pytest.raises(ConfigError, match="layer '3' of the unpruned model"):
        make(model, groups, images(), mode, "full")


def test_a_layer_that_runs_twice_keeps_its_weights() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.again, self.head = nn.Linear(4, 6), nn.Linear(6, 6), nn.Linear(6, 2)

        def forward(self, rows: Tensor) -> Tensor:
            return self.head(self.again(self.again(self.first(rows).relu()).relu()).relu())

    torch.manual_seed(0)
    model = Twice().double().eval()
    batch = torch.randn(30, 4, dtype=torch.float64)
    groups = discover(model, batch[:1]).groups
    assert set(gather_moments(model, groups, [batch], ALL)) == {"head"}
    keep = first_units(groups)
    inherited = slice_model(model, groups, keep)
    for mode in MODES:
        sliced = slice_model(model, groups, keep)
        make(model, groups, batch, mode, "full")(sliced, keep)
        assert torch.equal(sliced.again.weight, inherited.again.weight)
        assert not torch.equal(sliced.head.weight, inherited.head.weight)


def test_moments_do_not_depend_on_how_images_are_split() -> None:
    batch = images()
    model = settled(chain(norm=True), batch)
    groups = discover(model, batch[:1]).groups
    whole = gather_moments(model, groups, [batch], 5)
    parts = gather_moments(model, groups, batch.split(7), 5)
    assert whole.keys() == parts.keys() == {"3", "7"}
    for name, item in whole.items():
        np.testing.assert_allclose(parts[name].covariance, item.covariance, atol=1e-12)
        np.testing.assert_allclose(parts[name].mean, item.mean, atol=1e-12)
        assert parts[name].norm == item.norm
    assert whole["3"].norm == "4"


def test_a_model_with_several_inputs_in_batches() -> None:
    class Sum(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.head = nn.Linear(4, 6), nn.Linear(6, 2)

        def forward(self, left: Tensor, right: Tensor) -> Tensor:
            return self.head(self.first(left + right).relu())

    torch.manual_seed(0)
    model = Sum().double().eval()
    single = nn.Sequential(model.first, nn.ReLU(), model.head)
    found = discover(single, torch.zeros(1, 4, dtype=torch.float64)).groups
    names = {"0.weight": "first.weight", "0.bias": "first.bias", "2.weight": "head.weight"}
    groups = tuple(
        ChannelGroup(
            group.name,
            group.channels,
            tuple(type(part)(names[part.parameter], part.dim, part.index, part.role) for part in group.members),
        )
        for group in found
    )
    batch = (torch.randn(20, 4, dtype=torch.float64), torch.randn(20, 4, dtype=torch.float64))
    keep = first_units(groups)
    sliced = slice_model(model, groups, keep)
    SequentialReconstructor(model, groups, batch, level="full", ridge=0.01, positions=1, recalibrated=True)(
        sliced, keep
    )
    moments = gather_moments(model, groups, [batch], 1)
    once = slice_model(model, groups, keep)
    OnceReconstructor(model, groups, moments, level="full", ridge=0.01, recalibrated=True)(once, keep)
    torch.testing.assert_close(sliced.head.weight, once.head.weight)
