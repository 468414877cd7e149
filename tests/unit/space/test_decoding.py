"""The decoder: properties over random spaces, budgets and proposals, and the cases worked out by hand."""

from __future__ import annotations

import itertools
import time

import numpy as np
import pytest

from autoprune.config.schema import RuleConfig
from autoprune.cost.table import CostTable, Cut, Term
from autoprune.errors import ConfigError, NothingFeasible
from autoprune.space import Decoder, SearchSpace
from autoprune.testing import toy_space
from autoprune.types import Candidate, ChannelGroup, Constraint, Objective

TOP1, MACS = Objective("top1", "max"), Objective("macs", "min")
METRICS = ("macs", "flops", "params", "keep_ratio")


def some_space(rng: np.random.Generator) -> SearchSpace:
    """Up to ten groups, some grouped by two or three, convolutions between random pairs of them, random rules."""
    count = int(rng.integers(1, 11))
    unit = rng.choice([1, 1, 1, 2, 3], count)
    units = rng.integers(1, 40, count)
    groups = tuple(ChannelGroup(f"g{at}", int(units[at] * unit[at]), (), int(unit[at])) for at in range(count))
    terms = []
    for at in range(count):
        for to in rng.choice(count, rng.integers(1, 3)):
            cuts = (
                (Cut(0, at, int(unit[at])),)
                if to == at
                else (Cut(0, at, int(unit[at])), Cut(1, int(to), int(unit[to])))
            )
            shape = (groups[at].channels, groups[to].channels, 3, 3)
            terms.append(Term(f"w{at}-{to}", shape, int(rng.choice([0, 1, 49, 1024])), cuts))
    channels = np.array([group.channels for group in groups])
    cost = CostTable(tuple(group.name for group in groups), channels, unit, tuple(terms))
    rule = RuleConfig(multiple=int(rng.choice([1, 2, 4, 8])), floor=float(rng.choice([0.1, 0.25, 0.6, 3])))
    return SearchSpace.build(groups, cost, (rule,))


def some_candidate(space: SearchSpace, rng: np.random.Generator) -> Candidate:
    return Candidate({item.name: int(rng.choice(item.allowed)) for item in space.dimensions})


def met(space: SearchSpace, constraints: list[Constraint], candidate: Candidate) -> bool:
    """By the constraints' own arithmetic, as the session and the queries check them."""
    metrics = space.cost.measure(candidate)
    return all(item.miss(metrics, space.cost.baseline) == 0 for item in constraints)


@pytest.mark.parametrize("seed", range(60))
def test_decoding_meets_every_budget(seed: int) -> None:
    """Feasible, allowed, idempotent, deterministic; budgets are drawn around a random candidate, so one exists."""
    rng = np.random.default_rng(seed)
    space = some_space(rng)
    point = space.cost.measure(some_candidate(space, rng))
    constraints = []
    for metric in rng.choice(METRICS, rng.integers(1, 4), replace=False):
        relative = bool(rng.integers(2))
        value = point[metric] / (space.cost.baseline[metric] if relative and space.cost.baseline[metric] else 1.0)
        relative = relative and bool(space.cost.baseline[metric])
        if rng.integers(4):
            constraints.append(Constraint(str(metric), "<=", value * float(rng.choice([1 + 1e-9, 1.1])), relative))
        if not rng.integers(3):
            constraints.append(Constraint(str(metric), ">=", value * 0.9, relative))
    objectives = [TOP1, MACS] if seed % 2 else [TOP1]
    decoder = Decoder(space, constraints, objectives=objectives)
    for proposal in [space.full(), space.minimum(), *(some_candidate(space, rng) for _ in range(15))]:
        decoded = decoder.decode(proposal)
        space.validate(decoded)
        assert met(space, constraints, decoded)
        assert decoder.feasible(space.vector(decoded)[None])[0]
        assert decoder.decode(decoded) == decoded
        assert decoder.decode(Candidate(dict(reversed(proposal.widths.items())))) == decoded
        if met(space, constraints, proposal) and not decoder.fills:
            assert decoded == proposal
        metric = str(rng.choice(METRICS))
        low, high = decoder.cost_range(metric)
        assert low <= high
        placed = decoder.decode_to(proposal, metric, float(rng.uniform(low, high)))
        space.validate(placed)
        assert met(space, constraints, placed)


@pytest.mark.parametrize("seed", range(40))
def test_agrees_with_enumeration_on_what_is_reachable(seed: int) -> None:
    """In small spaces: raises exactly when no candidate meets the bounds; ranges do not leave the true ones."""
    rng = np.random.default_rng(1000 + seed)
    space = toy_space(tuple(int(w) for w in rng.integers(2, 12, 4)), multiple=2, floor=0.2)
    candidates = [
        Candidate(dict(zip(space.names, widths, strict=True)))
        for widths in itertools.product(*(item.allowed for item in space.dimensions))
    ]
    macs, params = rng.uniform(0.05, 1.0, 2)
    constraints = [
        Constraint("macs", "<=", macs, True),
        Constraint("macs", ">=", macs * 0.97, True),
        Constraint("params", "<=" if seed % 2 else ">=", params, True),
    ]
    feasible = [item for item in candidates if met(space, constraints, item)]
    if not feasible:
        with pytest.raises(NothingFeasible):
            Decoder(space, constraints, objectives=[TOP1, MACS])
        return
    decoder = Decoder(space, constraints, objectives=[TOP1, MACS])
    decoded = [decoder.decode(item) for item in candidates]
    assert all(met(space, constraints, item) for item in decoded)
    true = [space.cost.measure(item)["macs"] for item in feasible]
    low, high = decoder.cost_range("macs")
    assert min(true) <= low <= high <= max(true)


@pytest.mark.parametrize("op", ["<=", ">="])
def test_bound_exactly_at_the_end_leaves_that_one_candidate(op: str) -> None:
    space = toy_space()
    end = space.minimum() if op == "<=" else space.full()
    for metric in METRICS:
        exact = space.cost.measure(end)[metric]
        decoder = Decoder(space, [Constraint(metric, op, exact)], objectives=[TOP1, MACS])
        assert decoder.decode(space.uniform(0.6)) == end
        assert decoder.cost_range(metric)[0 if op == "<=" else 1] == exact
        beyond = exact * (1 - 1e-12) if op == "<=" else exact * (1 + 1e-12)
        with pytest.raises(NothingFeasible):
            Decoder(space, [Constraint(metric, op, beyond)], objectives=[TOP1, MACS])


def test_baseline_as_the_bound_changes_nothing() -> None:
    space = toy_space()
    decoder = Decoder(space, [Constraint("macs", "<=", 1.0, True)], objectives=[TOP1, MACS])
    for candidate in (space.full(), space.minimum(), space.uniform(0.5)):
        assert decoder.decode(candidate) is candidate


@pytest.mark.parametrize("ratio", [k / 10 for k in range(3, 11)] + [1 / 3, 2 / 3])
def test_keep_ratio_compares_as_floats_do(ratio: float) -> None:
    space = toy_space((10, 20, 30), multiple=1, floor=0.1)
    bound = Constraint("keep_ratio", "<=", ratio)
    decoded = Decoder(space, [bound], objectives=[TOP1]).decode(space.full())
    kept = int(space.vector(decoded).sum())
    assert kept / 60 <= ratio < (kept + 1) / 60  # not one channel is given away


@pytest.mark.parametrize("metric", METRICS)
def test_fills_the_budget_when_only_accuracy_counts(metric: str) -> None:
    space = toy_space((64, 64, 128, 128), multiple=2, floor=0.1)
    constraint = Constraint(metric, "<=", 0.4, True)
    rng = np.random.default_rng(0)
    decoder = Decoder(space, [constraint], objectives=[TOP1], tolerance=0.02)
    bound = constraint.bound(space.cost.baseline)
    for proposal in [space.full(), space.minimum(), *(some_candidate(space, rng) for _ in range(20))]:
        assert 0.98 * bound <= space.cost.measure(decoder.decode(proposal))[metric] <= bound


def test_does_not_fill_when_a_cost_is_minimised() -> None:
    space = toy_space()
    half = [Constraint("macs", "<=", 0.5, True)]
    for cost in ("macs", "flops", "params", "latency_ms", "size_bytes"):
        decoder = Decoder(space, half, objectives=[TOP1, Objective(cost, "min")])
        assert decoder.decode(space.minimum()) == space.minimum()
    assert Decoder(space, half, objectives=[TOP1, Objective("loss", "min")]).fills


def test_a_band_that_rounding_leaves_empty_gives_the_most_below_it() -> None:
    """One group of widths 4 and 8: nothing lies within 2 % of 70 %, so all decode to the 4; no step up fits."""
    space = toy_space((8,), multiple=4, floor=0.5)
    decoder = Decoder(space, [Constraint("macs", "<=", 0.7, True)], objectives=[TOP1])
    assert decoder.decode(space.full()).widths == {"conv0": 4}
    assert decoder.decode(space.minimum()).widths == {"conv0": 4}


def test_several_bounds_at_once() -> None:
    space = toy_space((64, 64, 128, 128), multiple=2, floor=0.1)
    constraints = [
        Constraint("macs", "<=", 0.5, True),
        Constraint("macs", ">=", 0.45, True),
        Constraint("params", ">=", 0.5, True),
        Constraint("keep_ratio", "<=", 0.8),
    ]
    decoder = Decoder(space, constraints, objectives=[TOP1, MACS])
    rng = np.random.default_rng(0)
    decoded = {decoder.decode(some_candidate(space, rng)).digest for _ in range(30)}
    assert len(decoded) > 5, "different proposals should not all fall on one point"


def test_bounds_on_measured_metrics_are_left_to_the_session() -> None:
    space = toy_space()
    decoder = Decoder(space, [Constraint("top1", ">=", 0.9), Constraint("latency_ms", "<=", 2.0)], objectives=[TOP1])
    assert decoder.decode(space.minimum()) == space.minimum()
    assert decoder.constraints == ()
    assert not decoder.fills


def test_unreachable_upper_bound_says_the_smallest() -> None:
    space = toy_space()
    with pytest.raises(NothingFeasible) as caught:
        Decoder(space, [Constraint("macs", "<=", 0.01, True), Constraint("params", "<=", 10)], objectives=[TOP1])
    smallest = space.cost.measure(space.minimum())
    text = str(caught.value)
    assert f"macs <= 0.01 * baseline ({space.cost.baseline['macs'] * 1e-5:.4g}k) cannot be met" in text
    assert (
        f"smallest reachable is {smallest['macs'] / 1e3:.4g}k (every group at its floor, 0.25 of the channels" in text
    )
    assert "params <= 10 cannot be met" in text
    assert "Lower the floor" in text
    assert caught.value.exit_code == 5


def test_unreachable_lower_bound_says_the_largest() -> None:
    space = toy_space()
    with pytest.raises(
        NothingFeasible, match=r"params >= 1G cannot be met: the largest reachable is .*full model.*Lower"
    ):
        Decoder(space, [Constraint("params", ">=", 1e9)], objectives=[TOP1])


def test_bounds_that_contradict_each_other_are_named_together() -> None:
    space = toy_space()
    constraints = [Constraint("macs", "<=", 0.2, True), Constraint("macs", ">=", 0.3, True)]
    with pytest.raises(NothingFeasible, match=r"no candidate was found that meets macs <= .* and macs >= .* together"):
        Decoder(space, constraints, objectives=[TOP1])


@pytest.mark.parametrize("value", [float("inf"), -1.0, 0.0])
def test_odd_bounds(value: float) -> None:
    space = toy_space()
    for metric in METRICS:
        if value > 0:
            decoder = Decoder(space, [Constraint(metric, "<=", value)], objectives=[TOP1, MACS])
            assert decoder.decode(space.full()) == space.full()
        else:
            with pytest.raises(NothingFeasible):
                Decoder(space, [Constraint(metric, "<=", value)], objectives=[TOP1, MACS])
            Decoder(space, [Constraint(metric, ">=", value)], objectives=[TOP1, MACS])


def test_decode_to_reaches_its_target_from_below() -> None:
    space = toy_space((64, 64, 128, 128), multiple=2, floor=0.1)
    decoder = Decoder(space, [Constraint("macs", "<=", 0.8, True)], objectives=[TOP1, MACS])
    low, high = decoder.cost_range("macs")
    assert low == space.cost.measure(space.minimum())["macs"]
    assert 0.78 * space.cost.baseline["macs"] <= high <= 0.8 * space.cost.baseline["macs"]
    rng = np.random.default_rng(0)
    for target in np.linspace(low, high, 30):
        macs = space.cost.measure(decoder.decode_to(some_candidate(space, rng), "macs", float(target)))["macs"]
        assert 0.95 * target <= macs <= target
    assert decoder.decode_to(space.full(), "macs", 0.0) == space.minimum()
    assert space.cost.measure(decoder.decode_to(space.minimum(), "flops", 1e99))["macs"] <= high * 1.03
    with pytest.raises(ConfigError, match=r"'mac'.*Did you mean 'macs'"):
        decoder.decode_to(space.full(), "mac", 1.0)
    with pytest.raises(ConfigError, match="top1"):
        decoder.cost_range("top1")


def test_widths_that_are_not_allowed_are_refused() -> None:
    space = toy_space()
    decoder = Decoder(space, [], objectives=[TOP1])
    with pytest.raises(ConfigError, match="width 3 is not allowed"):
        decoder.decode(Candidate(dict(space.full().widths) | {"conv0": 3}))
    with pytest.raises(ConfigError, match="no group 'conv9'"):
        decoder.decode(Candidate(dict(space.full().widths) | {"conv9": 3}))


def test_where_random_sampling_never_gets() -> None:
    """A MobileNetV1-like chain at 7.2 % of its MACs: of 20,000 random candidates none fits, decoding always does."""
    space = toy_space((32, 64, 128, 128, 256, 256, *(512,) * 6, 1024), multiple=8, floor=0.2, pixels=112)
    bound = Constraint("macs", "<=", 0.072, True)
    rng = np.random.default_rng(0)
    draws = np.stack([rng.choice(item.allowed, 20_000) for item in space.dimensions], axis=1)
    assert not (space.cost.macs(draws) <= bound.bound(space.cost.baseline)).any()
    started = time.perf_counter()
    decoder = Decoder(space, [bound], objectives=[TOP1, MACS])
    for row in draws[:50]:
        assert met(space, [bound], decoder.decode(space.candidate(row)))
    assert time.perf_counter() - started < 10  # 20 ms here: this only catches a loop that does not end
