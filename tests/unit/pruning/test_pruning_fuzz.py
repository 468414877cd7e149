"""Random networks, random candidates: what is sliced equals what is masked, whatever the graph."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from random_nets import KINDS, SIZE, Plan, build, plans
from torch import nn

from autoprune.cost.trace import trace
from autoprune.pruning.equivalence import max_error
from autoprune.pruning.groups import discover
from autoprune.pruning.slicing import slice_model
from autoprune.types import ChannelGroup

EXAMPLE = torch.randn(1, 2, SIZE, SIZE, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
PLAIN = ("conv", "depthwise", "residual", "projected", "concat", "dense", "gate", "attention")
"""Blocks all of whose groups can be cut."""
SOUND = tuple(kind for kind in KINDS if kind != "cut")
"""Blocks that are understood without the check; a number in ``forward`` shows only when the sliced network runs."""
_QUIET = {"deadline": None, "suppress_health_check": [HealthCheck.too_slow]}
SEEDS = st.integers(0, 1000)


def random_keep(groups: tuple[ChannelGroup, ...], seed: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    return {
        group.name: np.sort(rng.permutation(group.units)[: rng.integers(1, group.units, endpoint=True)])
        for group in groups
    }


def check_candidate(model: nn.Module, groups: tuple[ChannelGroup, ...], seed: int) -> None:
    """Sliced equals masked, the base stays as it was, costs are those of the sliced network, full is the identity."""
    keep = random_keep(groups, seed)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    assert max_error(model, groups, EXAMPLE, keep) < 1e-9
    sliced = slice_model(model, groups, keep)
    table = trace(model, EXAMPLE, groups)
    widths = np.array([[len(keep[group.name]) * group.unit for group in groups]])
    assert table.params(widths)[0] == sum(parameter.numel() for parameter in sliced.parameters())
    assert table.macs(widths)[0] == trace(sliced, EXAMPLE, ()).baseline["macs"]
    whole = slice_model(model, groups, {group.name: np.arange(group.units) for group in groups})
    with torch.no_grad():
        assert torch.equal(whole(EXAMPLE), model(EXAMPLE))
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


def check_plan(plan: Plan, seed: int) -> None:
    model = build(plan)
    found = discover(model, EXAMPLE)
    if found.groups:
        check_candidate(model, found.groups, seed)
    assert all(reason for reason in found.left_out.values())


@settings(max_examples=50, derandomize=True, **_QUIET)
@given(plans(), SEEDS)
def test_any_network_keeps_its_outputs(plan: Plan, seed: int) -> None:
    check_plan(plan, seed)


@settings(max_examples=40, derandomize=True, **_QUIET)
@given(plans(SOUND), SEEDS)
def test_groups_are_right_without_the_check(plan: Plan, seed: int) -> None:
    model = build(plan)
    groups = discover(model, EXAMPLE, check=False).groups
    if groups:
        check_candidate(model, groups, seed)


@settings(max_examples=40, derandomize=True, **_QUIET)
@given(plans(PLAIN), SEEDS)
def test_plain_blocks_need_no_check_and_leave_nothing_out(plan: Plan, seed: int) -> None:
    model = build(plan)
    found = discover(model, EXAMPLE, check=False)
    assert found.left_out == {}
    assert found.groups
    check_candidate(model, found.groups, seed)


@pytest.mark.slow
@settings(max_examples=600, **_QUIET)
@given(plans(most=6), SEEDS)
def test_many_networks_keep_their_outputs(plan: Plan, seed: int) -> None:
    check_plan(plan, seed)
