"""The calibration pass: what it refuses, and what happens to groups that a criterion says nothing about."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from autoprune.errors import ConfigError, UndefinedScore
from autoprune.pruning import criteria
from autoprune.pruning.groups import discover
from autoprune.pruning.ranking import rank, scores
from autoprune.pruning.statistics import Activations, GateGradients, Hutchinson, Statistics, collect, cross_entropy
from autoprune.pruning.taps import find_taps, gated

IMAGES, LABELS = torch.randn(4, 3, 6, 6), torch.tensor([0, 1, 0, 1])
GRADIENTS = GateGradients()


class Attending(nn.Module):
    """A convolution that attention reads, and one that a convolution reads."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 5, 3), nn.Conv2d(5, 8, 3)
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)
        self.head = nn.Linear(8, 2)

    def forward(self, images: Tensor) -> Tensor:
        rows = torch.relu(self.second(torch.relu(self.first(images)))).flatten(2).transpose(1, 2)
        logits: Tensor = self.head(self.attention(rows, rows, rows)[0].mean(1))
        return logits


def plain() -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 2, 4), nn.Flatten()).eval()


def test_one_pass_serves_all_criteria() -> None:
    model = plain()
    groups = discover(model, IMAGES[:1]).groups
    wanted = [criteria.get(name) for name in ("apoz", "taylor", "fisher", "mutual_information", "gauss_newton")]
    calls: list[int] = []
    model[0].register_forward_hook(lambda *_: calls.append(1))
    seen: list[int] = []
    known = collect(
        model, groups, set().union(*(each.needs for each in wanted)), [(IMAGES, LABELS)], on_batch=seen.append
    )
    assert seen == [4]
    once = len(calls)
    for each in wanted:
        assert rank(model, groups, each, known)["0"].shape == (4,)
    collect(model, groups, wanted[0].needs, [(IMAGES, LABELS)])
    assert len(calls) - once == once - 1  # what is tried first on one example; gradients try one more
    with pytest.raises(ValueError, match="taylor needs statistics that were not collected: gradients"):
        rank(model, groups, wanted[1], collect(model, groups, wanted[0].needs, [(IMAGES, None)]))


def test_examples_and_labels_must_be_there() -> None:
    model = plain()
    groups = discover(model, IMAGES[:1]).groups
    with pytest.raises(ConfigError, match=r"no labels, but statistics that need them are wanted: gradients"):
        collect(model, groups, [GRADIENTS, Activations()], [(IMAGES, None)])
    with pytest.raises(ConfigError, match=r"no examples to collect statistics from: activations, gradients"):
        collect(model, groups, [GRADIENTS, Activations()], [])
    assert collect(model, groups, [], iter(())).missing([GRADIENTS]) == ["gradients"]
    with pytest.raises(ConfigError, match=r"labels go from 0 to 2 for 4 examples; the model gives 2 classes"):
        collect(model, groups, [GRADIENTS], [(IMAGES, torch.tensor([0, 2, 0, 1]))])
    maps = nn.Sequential(*model[:3])
    with pytest.raises(ConfigError, match=r"needs logits \(examples, classes\), the model returns \(4, 2, 1, 1\)"):
        collect(maps, groups, [GRADIENTS], [(IMAGES, LABELS)])


@pytest.mark.parametrize("name", ["apoz", "taylor", "hutchinson"])
def test_the_layer_that_gives_nan_is_named(name: str) -> None:
    model = plain()
    groups = discover(model, IMAGES[:1]).groups
    broken = plain()
    broken[2].weight.data[0, 0, 0, 0] = float("nan")
    with pytest.raises(ConfigError, match=r"layer '2' \(Conv2d\) gives NaN or infinite numbers"):
        collect(broken, groups, criteria.get(name).needs, [(IMAGES, LABELS)])
    images = IMAGES.clone()
    images[3] = float("inf")
    with pytest.raises(ConfigError, match="an example holds NaN or infinite numbers"):
        collect(model, groups, criteria.get(name).needs, [(images, LABELS)])


def test_callers_without_gradients_are_served() -> None:
    model = plain()
    groups = discover(model, IMAGES[:1]).groups
    expected = collect(model, groups, [GRADIENTS], [(IMAGES, LABELS)]).of(GRADIENTS, groups[0]).mean_abs
    with torch.inference_mode():
        images = IMAGES + 0
        found = collect(model, groups, [GRADIENTS], [(images, LABELS)]).of(GRADIENTS, groups[0]).mean_abs
    np.testing.assert_array_equal(found, expected)


def test_groups_without_a_score_go_to_the_fallback() -> None:
    model = Attending().eval()
    groups = discover(model, IMAGES[:1]).groups
    taylor = criteria.get("taylor")
    known = collect(model, groups, taylor.needs, [(IMAGES, LABELS)])
    unseen = next(group for group in groups if group.name == "second")
    with pytest.raises(UndefinedScore, match="reads it inside a MultiheadAttention, whose input cannot be seen"):
        known.of(GRADIENTS, unseen)
    with pytest.raises(ConfigError, match=r"criterion 'taylor' is undefined for group 'second'.*Give it a fallback"):
        scores(model, groups, taylor, known)
    fallback = criteria.get("l1")
    found = scores(model, groups, taylor, known, fallback=fallback)
    assert "first" not in found.replaced
    assert found.replaced["second"].startswith("taylor is undefined ('attention.in_proj_weight' reads it")
    assert found.replaced["second"].endswith("l1 ranks it")
    np.testing.assert_array_equal(found.values["second"], scores(model, [unseen], fallback).values["second"])


def test_a_model_that_runs_otherwise_for_another_batch_is_refused() -> None:
    class Fickle(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second = nn.Conv2d(3, 4, 3), nn.Conv2d(4, 2, 2)

        def forward(self, images: Tensor) -> Tensor:
            if len(images) > 3:
                images = torch.relu(images)
            logits: Tensor = self.second(torch.max_pool2d(torch.relu(self.first(images)), 2)).flatten(1)
            return logits

    model = Fickle().eval()
    groups = discover(model, IMAGES[:1]).groups
    with pytest.raises(ConfigError, match="does not run the same operations for every batch"):
        collect(model, groups, [Activations()], [(IMAGES, None)])


def test_a_model_may_overwrite_what_it_has_read() -> None:
    """The derivatives are those of the gates on what was read, before it changed."""

    class Overwriting(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem, self.inner, self.head = nn.Conv2d(3, 6, 3), nn.Conv2d(6, 6, 3, padding=1), nn.Linear(6, 2)

        def forward(self, images: Tensor) -> Tensor:
            stream = torch.relu(self.stem(images))
            stream += torch.relu(self.inner(stream))
            logits: Tensor = self.head(stream.mean((2, 3)))
            return logits

    model, images = Overwriting().double(), IMAGES.double()
    groups = discover(model, images[:1]).groups
    taps = find_taps(model, groups, images)
    gates = torch.ones(4, taps.units, dtype=torch.float64, requires_grad=True)
    with gated(model, taps, gates, copies=True):
        (expected,) = torch.autograd.grad(cross_entropy(model(images), LABELS).sum(), gates)
    known = collect(model, groups, [GRADIENTS, Hutchinson()], [(images, LABELS)])
    for group in groups:
        wanted = expected[:, taps.spans[group.name]].abs().mean(0)
        np.testing.assert_allclose(known.of(GRADIENTS, group).mean_abs, wanted, rtol=1e-10)
        assert np.isfinite(known.of(Hutchinson(), group)).all()


def test_hooks_are_gone_when_the_pass_fails() -> None:
    model = plain()
    groups = discover(model, IMAGES[:1]).groups

    def batches() -> Iterator[tuple[Tensor, Tensor]]:
        yield IMAGES, LABELS
        raise OSError("the disk is gone")

    with pytest.raises(OSError, match="the disk is gone"):
        collect(model.train(), groups, [GRADIENTS, Activations()], batches())
    assert model.training
    assert all(not module._forward_pre_hooks and not module._forward_hooks for module in model.modules())
    assert all(parameter.requires_grad for parameter in model.parameters())


def test_statistics_say_what_is_missing() -> None:
    known = Statistics({GRADIENTS: {"a": 1.0, "b": "nobody reads it"}})
    assert known.missing([GRADIENTS, Activations()]) == ["activations"]
    with pytest.raises(KeyError):
        known.only([Activations()])
