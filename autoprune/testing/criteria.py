"""What every criterion must do, as tests to subclass:

class TestMine(CriterionContract):
    def make(self, seed):
        return MyCriterion()
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from autoprune.protocols import Criterion, Statistic
from autoprune.pruning.groups import discover
from autoprune.pruning.ranking import Scores, scores
from autoprune.pruning.statistics import Examples, Statistics, collect
from autoprune.types import ChannelGroup

__all__ = ["CriterionContract", "criterion_net", "permuted"]

_IMAGE = (3, 8, 8)
_CLASSES = 3


class _Net(nn.Module):
    """A residual stream, a grouped convolution, pooling and flattening; everything behind BatchNorm and ReLU."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 6, 3, padding=1), nn.BatchNorm2d(6), nn.ReLU())
        self.conv1 = nn.Sequential(nn.Conv2d(6, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8), nn.ReLU())
        self.conv2 = nn.Sequential(nn.Conv2d(8, 6, 3, padding=1, groups=2, bias=False), nn.BatchNorm2d(6))
        self.conv3 = nn.Sequential(nn.Conv2d(6, 5, 1), nn.BatchNorm2d(5), nn.ReLU(), nn.MaxPool2d(4))
        self.head = nn.Linear(20, _CLASSES)

    def forward(self, images: Tensor) -> Tensor:
        stream = self.stem(images)
        stream = torch.relu(stream + self.conv2(self.conv1(stream)))
        logits: Tensor = self.head(self.conv3(stream).flatten(1))
        return logits


def criterion_net(seed: int = 0) -> tuple[nn.Module, tuple[ChannelGroup, ...]]:
    """A small classifier of images (rows, 3, 8, 8) in float64 with random weights and BatchNorm statistics."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = _Net().double()
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                assert module.running_mean is not None
                assert module.running_var is not None
                for tensor in (module.weight, module.running_var):
                    nn.init.uniform_(tensor, 0.5, 1.5)
                for tensor in (module.bias, module.running_mean):
                    nn.init.normal_(tensor, std=0.3)
    return model, discover(model, torch.zeros(1, *_IMAGE, dtype=torch.float64)).groups


def permuted(model: nn.Module, group: ChannelGroup, order: np.ndarray) -> nn.Module:
    """The same function, with what was unit ``order[k]`` of the group in the place of unit k."""
    copied = copy.deepcopy(model)
    tensors = copied.state_dict()
    for member in group.members:
        tensor = tensors[member.parameter]
        old = tensor.index_select(member.dim, torch.from_numpy(member.index[order].ravel()))
        tensor.index_copy_(member.dim, torch.from_numpy(member.index.ravel()), old)
    return copied


class CriterionContract:
    """Subclass it and define :meth:`make`; pytest then runs every check."""

    equivariant = True
    """Whether scores depend on the channels alone, not on their places."""

    def make(self, seed: int) -> Criterion:
        raise NotImplementedError

    def _examples(self, *sizes: int) -> list[Examples]:
        """Always the same examples, in batches of these sizes."""
        generator = torch.Generator().manual_seed(1)
        images = torch.randn(12, *_IMAGE, generator=generator, dtype=torch.float64)
        labels = torch.arange(12) % _CLASSES
        return list(zip(images.split(sizes or [12]), labels.split(sizes or [12]), strict=True))

    def _scores(
        self, model: nn.Module, groups: Sequence[ChannelGroup], examples: Iterable[Examples] | None = None
    ) -> Scores:
        """Of the groups for which the criterion is defined."""
        criterion = self.make(7)
        batches = self._examples() if examples is None else examples
        statistics = collect(model, groups, criterion.needs, batches, seed=7)
        found = scores(model, groups, criterion, statistics, fallback=_Nothing())
        return replace(found, values={name: each for name, each in found.values.items() if name not in found.replaced})

    def test_scores_have_the_promised_form(self) -> None:
        model, groups = criterion_net()
        found = self._scores(model, groups).values
        assert found, "the criterion says nothing about any group of an ordinary network"
        assert any(len(np.unique(each)) > 1 for each in found.values())
        for group in groups:
            if group.name in found:
                assert found[group.name].shape == (group.units,)
                assert np.isfinite(found[group.name]).all()

    def test_equal_seeds_give_equal_scores(self) -> None:
        model, groups = criterion_net()
        first, second = (self._scores(model, groups).values for _ in range(2))
        for name in first:
            np.testing.assert_array_equal(first[name], second[name])

    def test_needs_are_honest(self) -> None:
        """Every statistic that it names is read, and none besides; without needs, none is asked for."""
        model, groups = criterion_net()
        criterion = self.make(7)
        spy = _Spy(collect(model, groups, criterion.needs, self._examples(), seed=7))
        for group in groups:
            criterion.score(group, model.state_dict(), spy if criterion.needs else None)
        assert spy.read == criterion.needs

    def test_scores_move_with_the_channels(self) -> None:
        if not self.equivariant:
            return
        model, groups = criterion_net()
        before = self._scores(model, groups).values
        for number, group in enumerate(groups):
            order = np.random.default_rng(number).permutation(group.units)
            after = self._scores(permuted(model, group, order), groups).values
            for name, expected in before.items():
                wanted = expected[order] if name == group.name else expected
                np.testing.assert_allclose(after[name], wanted, rtol=1e-7, atol=1e-12)

    def test_batches_make_no_difference(self) -> None:
        model, groups = criterion_net()
        whole = self._scores(model, groups).values
        for sizes in ((5, 7), (1, 4, 4, 3)):
            for name, each in self._scores(model, groups, self._examples(*sizes)).values.items():
                np.testing.assert_allclose(each, whole[name], rtol=1e-7, atol=1e-12)

    def test_dead_channels_have_finite_scores(self) -> None:
        """One unit of each group is silent; then all of them are, and what reads them is zero."""
        model, groups = criterion_net()
        for group in groups:
            _silence(model, group, slice(0, 1))
        for each in self._scores(model, groups).values.values():
            assert np.isfinite(each).all()
        for group in groups:
            _silence(model, group, slice(None))
        for each in self._scores(model, groups).values.values():
            assert np.isfinite(each).all()

    def test_a_single_channel_has_a_finite_score(self) -> None:
        model, groups = criterion_net()
        alone = [replace(group, channels=group.unit, members=_first_unit(group)) for group in groups]
        for each in self._scores(model, alone).values.values():
            assert each.shape == (1,)
            assert np.isfinite(each).all()

    def test_the_model_stays_as_it_was(self) -> None:
        model, groups = criterion_net()
        model.train()
        stem: Any = model.stem
        stem[1].eval()
        stem[0].weight.requires_grad_(False)
        stem[0].bias.grad = torch.ones(6, dtype=torch.float64)
        before, state = list(_condition(model)), copy.deepcopy(model.state_dict())
        drawn = torch.random.get_rng_state()
        self._scores(model, groups)
        assert list(_condition(model)) == before
        assert torch.equal(torch.random.get_rng_state(), drawn)
        for name, tensor in model.state_dict().items():
            assert torch.equal(tensor, state[name]), name


class _Nothing:
    """Stands in where a criterion is undefined."""

    name = "nothing"
    needs: frozenset[Statistic] = frozenset()

    def score(self, group: ChannelGroup, tensors: object, statistics: object = None) -> np.ndarray:
        return np.zeros(group.units)


class _Spy(Statistics):
    def __init__(self, statistics: Statistics) -> None:
        super().__init__(statistics._found)
        self.read: set[Statistic] = set()

    def of(self, statistic: Statistic, group: ChannelGroup) -> Any:
        self.read.add(statistic)
        return super().of(statistic, group)


def _silence(model: nn.Module, group: ChannelGroup, units: slice) -> None:
    """Everything that makes, passes or reads these units is zero."""
    tensors = model.state_dict()
    for member in group.members:
        if not member.parameter.endswith("running_var"):
            tensors[member.parameter].index_fill_(member.dim, torch.from_numpy(member.index[units].ravel()), 0.0)


def _first_unit(group: ChannelGroup) -> tuple[Any, ...]:
    return tuple(replace(member, index=member.index[:1]) for member in group.members)


def _condition(model: nn.Module) -> Iterator[object]:
    """Modes, hooks and what parameters have beside their values."""
    for name, module in model.named_modules():
        hooks = (module._forward_hooks, module._forward_pre_hooks, module._backward_hooks, module._backward_pre_hooks)
        yield name, module.training, [len(each) for each in hooks]
    for name, parameter in model.named_parameters():
        gradient = None if parameter.grad is None else parameter.grad.tolist()
        yield name, parameter.requires_grad, id(parameter), gradient
