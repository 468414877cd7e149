"""Bounds on a metric that no quadratic form describes, and that does not always grow with the widths."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from autoprune.cost.composite import extra_names
from autoprune.errors import NothingFeasible
from autoprune.space.decoding import Decoder
from autoprune.space.space import SearchSpace
from autoprune.testing.toy import toy_space
from autoprune.types import Candidate, Constraint, Objective

FLOORS = np.array([4, 4, 8, 8, 16, 16])


class Steps:
    """0.1 ms a group and 0.01 ms a channel; widths that are no multiple of 8 take half as long again."""

    names = ("latency_ms",)

    def metrics(self, widths: np.ndarray) -> dict[str, np.ndarray]:
        widths = np.asarray(widths, dtype=float)
        return {"latency_ms": ((0.1 + 0.01 * widths) * np.where(widths % 8, 1.5, 1.0)).sum(axis=1)}

    def ceilings(self, widths: np.ndarray) -> dict[str, np.ndarray]:
        below = np.asarray(widths, dtype=float)
        odd = np.where(below % 8, below, below - 4)  # the widest width up to this one that is slow
        slow = np.where(odd >= FLOORS, (0.1 + 0.01 * odd) * 1.5, 0.0)
        return {"latency_ms": np.maximum(0.1 + 0.01 * below, slow).sum(axis=1)}


def space_with_steps() -> SearchSpace:
    space = toy_space()
    return replace(space, cost=replace(space.cost, extras=(Steps(),)))


def random_candidates(space: SearchSpace, count: int) -> list[Candidate]:
    rng = np.random.default_rng(0)
    return [Candidate({item.name: int(rng.choice(item.allowed)) for item in space.dimensions}) for _ in range(count)]


def test_latency_joins_the_metrics() -> None:
    space = space_with_steps()
    assert extra_names(space.cost.extras) == ("latency_ms",)
    assert space.cost.baseline["latency_ms"] == pytest.approx(6 * 0.1 + 0.01 * 224)


@pytest.mark.parametrize("share", [0.5, 0.7, 0.9])
@pytest.mark.parametrize("objectives", [(), (Objective("top1", "max"), Objective("latency_ms", "min"))])
def test_bound_is_met_and_decoding_is_idempotent(share: float, objectives: tuple[Objective, ...]) -> None:
    space = space_with_steps()
    bound = share * space.cost.baseline["latency_ms"]
    decoder = Decoder(space, [Constraint("latency_ms", "<=", share, relative=True)], objectives=objectives)
    for candidate in random_candidates(space, 40):
        decoded = decoder.decode(candidate)
        space.validate(decoded)
        assert space.cost.measure(decoded)["latency_ms"] <= bound
        assert decoder.decode(decoded) == decoded


def test_together_with_bounds_on_macs_and_params() -> None:
    space = space_with_steps()
    bounds = [
        Constraint("latency_ms", "<=", 0.6, relative=True),
        Constraint("macs", "<=", 0.4, relative=True),
        Constraint("params", ">=", 0.1, relative=True),
    ]
    decoder = Decoder(space, bounds)
    for candidate in random_candidates(space, 40):
        measured = space.cost.measure(decoder.decode(candidate))
        assert all(item.miss(measured, space.cost.baseline) == 0 for item in bounds)


def test_proposals_fill_the_latency_budget() -> None:
    """Nothing cheaper than needed: no single width can grow without breaking the ceiling's bound."""
    space = space_with_steps()
    decoder = Decoder(space, [Constraint("latency_ms", "<=", 2.0)], objectives=[Objective("top1", "max")])
    assert decoder.fills
    for candidate in random_candidates(space, 20):
        decoded = decoder.decode(candidate)
        ceiling = Steps().ceilings(space.vector(decoded)[None])["latency_ms"][0]
        grown = []
        for at, item in enumerate(space.dimensions):
            wider = space.vector(decoded)
            place = item.allowed.index(int(wider[at]))
            if place + 1 < len(item.allowed):
                wider[at] = item.allowed[place + 1]
                grown.append(Steps().ceilings(wider[None])["latency_ms"][0])
        assert ceiling >= 2.0 * 0.98 or min(grown) > 2.0


def test_out_of_reach_is_said_with_the_smallest() -> None:
    with pytest.raises(NothingFeasible, match=r"latency_ms <= 0\.5 cannot be met: the smallest reachable is 1\.\d+"):
        Decoder(space_with_steps(), [Constraint("latency_ms", "<=", 0.5)])


def test_a_lower_bound_is_left_to_the_session() -> None:
    decoder = Decoder(space_with_steps(), [Constraint("latency_ms", ">=", 100.0)])
    assert decoder.constraints == ()


def test_without_a_bound_nothing_is_asked_of_the_extra() -> None:
    assert Decoder(space_with_steps(), [Constraint("macs", "<=", 0.5, relative=True)]).lattice.extras == ()
