"""Each criterion against what is known of it: identities that hold exactly, and values worked out by hand."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.fusion import fuse_conv_bn_eval

from autoprune.errors import UndefinedScore
from autoprune.pruning import criteria
from autoprune.pruning.criteria.information import entropies, quantised
from autoprune.pruning.groups import discover
from autoprune.pruning.ranking import rank, scores
from autoprune.pruning.statistics import GateGradients, GaussNewton, Hutchinson, Statistics, collect
from autoprune.pruning.statistics import curvature as curvature_module
from autoprune.pruning.taps import find_taps, gated
from autoprune.types import ChannelGroup, Slice

GRADIENTS = GateGradients()
Loss = Callable[[Tensor, Tensor], Tensor]


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def net(*layers: nn.Module, seed: int = 0) -> nn.Sequential:
    """In float64 and evaluation mode, with BatchNorm away from its start."""
    model = nn.Sequential(*layers).double().eval()
    for number, tensor in enumerate((*model.parameters(), *model.buffers())):
        if tensor.is_floating_point():
            tensor.data.copy_(0.5 * draw(*tensor.shape, seed=seed + number))
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_var.fill_(1.3)  # type: ignore[union-attr]
    return model


def conv_net() -> nn.Sequential:
    tail = (nn.MaxPool2d(2), nn.Conv2d(4, 5, 3), nn.ReLU(), nn.Flatten(), nn.Linear(20, 3))
    return net(nn.Conv2d(2, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), *tail)


IMAGES, LABELS = draw(6, 2, 8, 8, seed=9), torch.tensor([0, 1, 2, 0, 1, 2])


def known(model: nn.Module, *statistics: Any, loss: Loss | None = None) -> tuple[tuple[ChannelGroup, ...], Statistics]:
    groups = discover(model, IMAGES[:1], check=False).groups
    more = {} if loss is None else {"loss": loss}
    return groups, collect(model, groups, statistics, [(IMAGES, LABELS)], **more)  # type: ignore[arg-type]


def score(model: nn.Module, name: str, images: Tensor = IMAGES, labels: Tensor = LABELS, **options: Any) -> list[Any]:
    groups, criterion = discover(model, images[:1], check=False).groups, criteria.get(name, **options)
    found = scores(model, groups, criterion, collect(model, groups, criterion.needs, [(images, labels)]))
    return list(found.values.values())


# --- Taylor --------------------------------------------------------------------------------------------------------


def test_taylor_is_the_gradient_of_batchnorms_scale_and_shift() -> None:
    """gamma dC/dgamma + beta dC/dbeta, summed over the examples; ReLU and max-pooling keep z dC/dz."""
    model = conv_net()
    groups, statistics = known(model, GRADIENTS)
    norm = model[1]
    loss = F.cross_entropy(model(IMAGES), LABELS)
    slopes = torch.autograd.grad(loss, (norm.weight, norm.bias))
    expected = norm.weight * slopes[0] + norm.bias * slopes[1]
    np.testing.assert_allclose(statistics.of(GRADIENTS, groups[0]).mean, expected.detach(), rtol=1e-10)


def test_taylor_is_the_same_before_and_behind_the_relu() -> None:
    model = conv_net()
    kept: list[Tensor] = []
    for layer in (model[1], model[2]):
        layer.register_forward_hook(lambda _, __, output: kept.append(output))
    loss = F.cross_entropy(model(IMAGES), LABELS, reduction="none")
    before, behind = ((z * g).sum((2, 3)) for z, g in zip(kept, torch.autograd.grad(loss.sum(), kept), strict=True))
    torch.testing.assert_close(before, behind)
    groups, statistics = known(conv_net(), GRADIENTS)
    np.testing.assert_allclose(statistics.of(GRADIENTS, groups[0]).mean_abs, behind.abs().mean(0).detach(), rtol=1e-10)


def test_taylor_of_a_convolution_is_that_of_its_weights() -> None:
    """Without BatchNorm: sum of w dC/dw + b dC/db over the filter."""
    model = net(nn.Conv2d(2, 4, 3), nn.ReLU(), nn.Conv2d(4, 3, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    groups, statistics = known(model, GRADIENTS)
    conv = model[0]
    weight, bias = torch.autograd.grad(F.cross_entropy(model(IMAGES), LABELS), (conv.weight, conv.bias))
    expected = (conv.weight * weight).sum((1, 2, 3)) + conv.bias * bias
    np.testing.assert_allclose(statistics.of(GRADIENTS, groups[0]).mean, expected.detach(), rtol=1e-10)


def test_taylor_equals_the_oracle_where_all_that_follows_is_linear() -> None:
    def linear(outputs: Tensor, labels: Tensor) -> Tensor:
        return outputs[torch.arange(len(outputs)), labels]

    model = net(nn.Conv2d(2, 4, 3), nn.ReLU(), nn.Conv2d(4, 3, 6), nn.Flatten())
    groups, statistics = known(model, GRADIENTS, loss=linear)
    taps = find_taps(model, groups, IMAGES)
    with torch.no_grad():
        full = linear(model(IMAGES), LABELS)
        for unit in range(4):
            gates = torch.ones(4, dtype=torch.float64)
            gates[unit] = 0
            with gated(model, taps, gates):
                change = (full - linear(model(IMAGES), LABELS)).abs().mean()
            assert statistics.of(GRADIENTS, groups[0]).mean_abs[unit] == pytest.approx(float(change), rel=1e-10)


def test_channels_add_up_to_the_output_where_it_is_homogeneous() -> None:
    """Without biases, f(s z) = s f(z): Euler's theorem for the tail of convolutions and ReLUs."""
    tail = (nn.Conv2d(4, 5, 3, bias=False), nn.ReLU(), nn.Conv2d(5, 1, 4, bias=False), nn.Flatten())
    model = net(nn.Conv2d(2, 4, 3), nn.ReLU(), *tail)
    groups, statistics = known(model, GRADIENTS, loss=lambda outputs, labels: outputs[:, 0])
    output = float(model(IMAGES).detach().mean())
    for group in groups:
        assert statistics.of(GRADIENTS, group).mean.sum() == pytest.approx(output, rel=1e-10)


def test_jacobgils_formula() -> None:
    """The mean over batch and positions of z dC/dz at the convolution, then |.| and the layer's l2 norm."""
    model = net(
        nn.Conv2d(2, 4, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(4, 5, 3), nn.ReLU(), nn.Flatten(), nn.Linear(5, 3)
    )
    maps: list[Tensor] = []
    for layer in (model[0], model[3]):
        layer.register_forward_hook(lambda _, __, output: maps.append(output))
    gradients = torch.autograd.grad(F.cross_entropy(model(IMAGES), LABELS), maps)
    expected = [(z * g).mean((0, 2, 3)).abs().detach() for z, g in zip(maps, gradients, strict=True)]
    ours = score(model, "taylor", reduce="abs_of_sum")
    for theirs, found in zip(expected, ours, strict=True):
        np.testing.assert_allclose(found / np.linalg.norm(found), theirs / theirs.norm(), rtol=1e-10)
        np.testing.assert_allclose(found, len(IMAGES) * theirs, rtol=1e-10)  # C there is the mean over the batch


# --- second order --------------------------------------------------------------------------------------------------


def quadratic() -> tuple[nn.Sequential, Loss, Tensor, Tensor]:
    """E = 1/2 sum h_k (u_k - u*_k)^2 at its minimum, u_k a unit's value."""
    h, u = torch.tensor([0.5, 2.0, 3.0]).double(), torch.tensor([2.0, -1.0, 0.1]).double()
    model = nn.Sequential(nn.Linear(1, 3, bias=False), nn.Linear(3, 3, bias=False)).double()
    model[0].weight.data.copy_(u[:, None])
    model[1].weight.data.copy_(torch.eye(3))
    return model, lambda outputs, labels: 0.5 * (h * (outputs - u) ** 2).sum(1), h, u


def test_brain_damage_is_exact_on_a_quadratic() -> None:
    model, loss, h, u = quadratic()
    ones = torch.ones(4, 1).double()
    groups = discover(model, ones[:1], check=False).groups
    criterion = criteria.get("hutchinson")
    statistics = collect(model, groups, criterion.needs, [(ones, torch.zeros(4).long())], loss=loss)
    np.testing.assert_allclose(criterion.score(groups[0], {}, statistics), (h * u**2 / 2).numpy(), rtol=1e-12)
    taps = find_taps(model, groups, ones)
    for unit in range(3):
        gates = torch.ones(3).double()
        gates[unit] = 0
        with torch.no_grad(), gated(model, taps, gates):
            assert float(loss(model(ones), ones).mean()) == pytest.approx(float(h[unit] * u[unit] ** 2 / 2))


def test_least_squares_ranks_by_weight_times_rms() -> None:
    """One layer, inputs that never meet: h_kk = E[x_k^2] for the weight, so deleting it costs w^2 E[x^2] / 2."""
    model = net(nn.Linear(3, 3, bias=False), nn.Linear(3, 1, bias=False))
    model[0].weight.data.copy_(torch.eye(3))
    x = torch.diag_embed(draw(5, 3)).flatten(0, 1)
    groups = discover(model, x[:1], check=False).groups
    criterion = criteria.get("hutchinson")
    statistics = collect(
        model,
        groups,
        criterion.needs,
        [(x, torch.zeros(15).long())],
        loss=lambda outputs, labels: (outputs[:, 0] - 1) ** 2 / 2,
    )
    expected = (model[1].weight[0] ** 2 * (x**2).mean(0) / 2).detach().numpy()
    np.testing.assert_allclose(criterion.score(groups[0], {}, statistics), expected, rtol=1e-12)


def test_all_signs_give_the_hessians_diagonal(monkeypatch: pytest.MonkeyPatch) -> None:
    class AllSigns:
        def choice(self, values: object, shape: tuple[int, int]) -> np.ndarray:
            return np.array([[1.0, 1.0], [1.0, -1.0], [-1.0, 1.0], [-1.0, -1.0]])

    monkeypatch.setattr(curvature_module._Diagonal, "random", lambda self, batch: [AllSigns()] * batch.rows)
    model = net(nn.Linear(3, 2), nn.Tanh(), nn.Linear(2, 3))
    x, y = draw(5, 3), torch.tensor([0, 1, 2, 0, 1])
    groups = discover(model, x[:1], check=False).groups
    statistics = collect(model, groups, [Hutchinson(4)], [(x, y)])
    hidden = torch.tanh(model[0](x)).detach()

    def cost(gates: Tensor) -> Tensor:
        return F.cross_entropy(model[2](hidden * gates), y)

    hessian: Any = torch.autograd.functional.hessian(cost, torch.ones(2).double())
    np.testing.assert_allclose(statistics.of(Hutchinson(4), groups[0]), hessian.diagonal(), rtol=1e-10)


def test_negative_curvature_is_clipped_or_kept() -> None:
    model, loss, h, u = quadratic()
    ones = torch.ones(2, 1).double()
    groups = discover(model, ones[:1], check=False).groups
    statistics = collect(
        model, groups, [Hutchinson()], [(ones, ones[:, 0].long())], loss=lambda outputs, labels: -loss(outputs, labels)
    )
    assert criteria.get("hutchinson").score(groups[0], {}, statistics).tolist() == [0, 0, 0]
    kept = criteria.get("hutchinson", negative="keep").score(groups[0], {}, statistics)
    np.testing.assert_allclose(kept, (-h * u**2 / 2).numpy(), rtol=1e-12)


def test_fisher_squares_example_by_example() -> None:
    model = conv_net()
    groups, statistics = known(model, GRADIENTS)
    norm, squares = model[1], []
    for image, label in zip(IMAGES.split(1), LABELS.split(1), strict=True):
        slopes = torch.autograd.grad(F.cross_entropy(model(image), label), (norm.weight, norm.bias))
        squares.append((norm.weight * slopes[0] + norm.bias * slopes[1]) ** 2)
    expected = torch.stack(squares).mean(0).detach().numpy() / 2
    found = criteria.get("fisher").score(groups[0], {}, statistics)
    np.testing.assert_allclose(found, expected, rtol=1e-10)
    assert not np.allclose(found, statistics.of(GRADIENTS, groups[0]).mean ** 2 / 2, rtol=0.1)


def test_gauss_newton_is_jhj_and_drawn_labels_estimate_it() -> None:
    model = net(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 3))
    x = draw(8, 3)
    groups = discover(model, x[:1], check=False).groups
    statistics = collect(model, groups, [GaussNewton(0), GaussNewton(400)], [(x, None)])
    hidden = torch.tanh(model[0](x)).detach()
    p = model(x).softmax(1).detach()
    curvature = torch.diag_embed(p) - p[:, :, None] * p[:, None]
    jacobian = model[2].weight[None] * hidden[:, None]  # (examples, classes, units)
    expected = torch.einsum("nck,ncd,ndk->nk", jacobian, curvature, jacobian).mean(0).detach().numpy()
    np.testing.assert_allclose(statistics.of(GaussNewton(0), groups[0]), expected, rtol=1e-10)
    np.testing.assert_allclose(statistics.of(GaussNewton(400), groups[0]), expected, rtol=0.15)


# --- activations ---------------------------------------------------------------------------------------------------


def test_apoz_behind_batchnorm_is_the_normal_distribution() -> None:
    shift, scale = torch.tensor([0.0, 0.8, -1.5, -40.0, 40.0]), torch.tensor([1.0, 2.0, 0.7, 1.0, 1.0])
    model = nn.Sequential(nn.Conv2d(5, 5, 1, bias=False), nn.BatchNorm2d(5, eps=0), nn.ReLU(), nn.Conv2d(5, 2, 1))
    model.double().eval()
    model[0].weight.data.copy_(torch.eye(5)[:, :, None, None])
    model[1].bias.data.copy_(shift)
    model[1].weight.data.copy_(scale)
    (found,) = score(nn.Sequential(*model, nn.Flatten()).eval(), "apoz", draw(40, 5, 40, 40))
    expected = [0.5 * math.erfc(-float(b / g) / math.sqrt(2)) for b, g in zip(shift, scale, strict=True)]
    np.testing.assert_allclose(found, expected, atol=0.006)
    assert found[3] == 0.0
    assert found[4] == 1.0


def test_activations_are_those_of_the_relu_and_not_of_the_pooling() -> None:
    from autoprune.config.schema import BuiltinModel
    from autoprune.models import registry

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = registry.build(BuiltinModel(name="vgg16_bn"), num_classes=10, in_channels=3).eval()
    images, labels = draw(2, 3, 32, 32).float(), torch.zeros(2).long()
    means, spreads, active = (
        score(model, name, images, labels) for name in ("activation_mean", "activation_std", "apoz")
    )
    maps: list[Tensor] = []
    for module in model.modules():
        if isinstance(module, nn.ReLU):
            module.register_forward_hook(lambda _, __, output: maps.append(output))
    with torch.no_grad():
        model(images)
    assert len(maps) == len(means) == 13
    for number, each in enumerate(maps):
        rows = each.double().transpose(0, 1).flatten(1)
        np.testing.assert_allclose(means[number], rows.mean(1), rtol=1e-5, atol=1e-7)
        np.testing.assert_allclose(spreads[number], rows.std(1, correction=0), rtol=1e-5, atol=1e-7)
        np.testing.assert_allclose(active[number], (rows > 0).double().mean(1), rtol=1e-9)


def test_activations_need_an_activation_function() -> None:
    smooth = net(nn.Conv2d(2, 4, 3), nn.SiLU(), nn.Conv2d(4, 3, 6), nn.Flatten())
    linear = net(nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4), nn.Conv2d(4, 3, 6), nn.Flatten())
    assert score(smooth, "activation_mean")[0].shape == score(linear, "activation_std")[0].shape == (4,)
    for model, name, lacking in (
        (smooth, "apoz", "a ReLU"),
        (linear, "apoz", "an activation function"),
        (linear, "activation_mean", "an activation function"),
    ):
        groups = discover(model, IMAGES[:1], check=False).groups
        criterion = criteria.get(name)
        statistics = collect(model, groups, criterion.needs, [(IMAGES, None)])
        with pytest.raises(UndefinedScore, match=rf"'2' reads its channels without {lacking} in between"):
            criterion.score(groups[0], {}, statistics)


def test_information_of_a_variable_about_itself_is_its_entropy() -> None:
    y = np.arange(3000) % 5
    codes = quantised(y[:, None].astype(float), 5)
    joint = entropies(codes * 5 + y[:, None], 25)
    assert entropies(codes, 5) + entropies(y[:, None], 5) - joint == pytest.approx([math.log(5)])


def test_mutual_information_finds_the_channel_that_tells_the_class() -> None:
    """The first channel is the class; the others are noise, whose information is the estimate's bias."""
    count, classes = 4000, 4
    labels = torch.arange(count) % classes
    images = torch.cat([labels[:, None].double() * 2 - 3, draw(count, 2)], 1)[:, :, None, None].expand(-1, -1, 2, 2)
    model = nn.Sequential(nn.Conv2d(3, 3, 1, bias=False), nn.Conv2d(3, classes, 2), nn.Flatten()).double()
    model[0].weight.data.copy_(torch.eye(3)[:, :, None, None])
    (found,) = score(model, "mutual_information", images, labels)
    assert found[0] == pytest.approx(math.log(classes))
    assert found[1:] == pytest.approx(15 * (classes - 1) / (2 * count), rel=0.5)
    (spread,) = score(model, "entropy", images, labels)
    assert spread[0] == pytest.approx(math.log(classes))
    assert (spread[1:] > 2).all()


# --- weights -------------------------------------------------------------------------------------------------------


def producer(rows: np.ndarray) -> tuple[ChannelGroup, dict[str, Tensor]]:
    index = np.arange(len(rows))[:, None]
    return ChannelGroup("g", len(rows), (Slice("w", 0, index, "producer"),)), {"w": torch.tensor(rows)}


def distances(rows: np.ndarray, **options: Any) -> np.ndarray:
    return criteria.get("fpgm", **options).score(*producer(rows))


def test_the_filter_in_the_middle_goes_first() -> None:
    found = distances(np.array([[0.0], [1.0], [2.0], [3.0], [100.0]]))
    assert found.tolist() == [106, 103, 102, 103, 394]


def test_distances_ignore_translation_and_rotation_and_equal_filters_tie() -> None:
    rows = draw(6, 4).numpy()
    rows[4] = rows[1]
    plain = distances(rows)
    assert plain[4] == plain[1]
    np.testing.assert_allclose(distances(rows + 7.5), plain)
    rotation = np.linalg.qr(draw(4, 4, seed=1).numpy())[0]
    np.testing.assert_allclose(distances(rows @ rotation), plain)
    group, tensors = producer(rows + 7.5)
    assert not np.allclose(
        criteria.get("l2").score(group, tensors), criteria.get("l2").score(*producer(rows)), rtol=0.5
    )


def test_mixed_mode_drops_by_norm_first() -> None:
    """Half of five are three, halves up: 0, 1 and 2 by their norms, in this order; then distances among 3 and 100."""
    found = distances(np.array([[0.0], [1.0], [2.0], [3.0], [100.0]]), norm_share=0.5)
    assert (found[:3] < 0).all()
    assert found[:3].tolist() == sorted(found[:3])
    assert found[3:].tolist() == [97, 97]


def test_batchnorms_scale() -> None:
    model = conv_net()
    groups = discover(model, IMAGES[:1], check=False).groups
    np.testing.assert_allclose(
        criteria.get("bn_scale").score(groups[0], model.state_dict()), model[1].weight.abs().detach()
    )
    with pytest.raises(UndefinedScore, match="no BatchNorm with a scale"):
        criteria.get("bn_scale").score(groups[1], model.state_dict())


def test_the_folded_norm_is_that_of_the_folded_filter() -> None:
    model = conv_net()
    groups = discover(model, IMAGES[:1], check=False).groups
    folded = fuse_conv_bn_eval(model[0], model[1])
    np.testing.assert_allclose(
        criteria.get("gamma_weight").score(groups[0], model.state_dict()), folded.weight.abs().sum((1, 2, 3)).detach()
    )


def test_means_stand_in_where_norms_and_producers_do_not_pair() -> None:
    """Two producers of sums (3, 7) and (1, 5), one BatchNorm of |gamma| / sigma = (2, 0.5)."""
    index = np.arange(2)[:, None]
    parts = [
        Slice("a.weight", 0, index, "producer"),
        Slice("b.weight", 0, index, "producer"),
        Slice("n.weight", 0, index),
    ]
    tensors = {
        "a.weight": torch.tensor([[1.0, -2.0], [3.0, 4.0]]),
        "b.weight": torch.tensor([[1.0, 0.0], [0.0, -5.0]]),
        "n.weight": torch.tensor([-4.0, 1.0]),
        "n.running_var": torch.tensor([4.0, 4.0], dtype=torch.float64) - 1e-5,
    }
    found = criteria.get("gamma_weight").score(ChannelGroup("g", 2, tuple(parts)), tensors)
    np.testing.assert_allclose(found, [2 * 2.0, 6 * 0.5])


def test_a_zero_filter_goes_first_whatever_reads_the_weights() -> None:
    model = conv_net()
    for tensor in (model[0].weight, model[0].bias, model[1].weight, model[1].bias):
        tensor.data[2] = 0
    groups = discover(model, IMAGES[:1], check=False).groups
    for name in (
        "l1",
        "l2",
        "bn_scale",
        "gamma_weight",
        "activation_mean",
        "activation_std",
        "apoz",
        "taylor",
        "fisher",
    ):
        criterion = criteria.get(name)
        statistics = collect(model, groups[:1], criterion.needs, [(IMAGES, LABELS)])
        assert rank(model, groups[:1], criterion, statistics)["0"][-1] == 2, name
