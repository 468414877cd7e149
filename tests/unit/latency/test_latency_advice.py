"""Suggested multiples, from staircases whose steps are known."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from latency_fixtures import make_space, make_table

from autoprune.latency.advice import advice_by_group, overall_advice
from autoprune.latency.staircase import Staircase
from autoprune.latency.sweeps import sweep_widths

Time = Callable[[int], float]


def steps(time: Time, layer: str = "layer1", side: str = "out", full: int = 64) -> Staircase:
    widths = sweep_widths(full)
    return Staircase("conv 3x3", layer, side, tuple(widths), tuple(time(width) for width in widths))


def stairs(vector: int) -> Time:
    """Whole vectors are paid for."""
    return lambda width: 0.1 + 0.01 * (-(-width // vector) * vector)


def peaks(vector: int, lost: float = 0.4) -> Time:
    """Widths off the multiple run a slow path, as kernels do that fill their last vector one by one."""
    return lambda width: 1.0 + 0.01 * width + (lost if width % vector else 0.0)


@pytest.mark.parametrize("vector", [1, 4, 8, 16])
@pytest.mark.parametrize("shape", [stairs, peaks])
def test_a_layer_suggests_the_width_of_its_steps(shape: Callable[[int], Time], vector: int) -> None:
    found = steps(shape(vector), full=32 if vector == 4 else 64)
    assert found.multiple == vector
    assert found.waste(vector) == pytest.approx(0.0, abs=1e-12)
    assert vector == 1 or found.waste(1) > 0.02


def test_noise_suggests_nothing() -> None:
    """Nor does the bend that a fixed cost makes at small widths: the multiple 32 used to win by having few widths."""
    rng = np.random.default_rng(0)
    for _ in range(20):
        noisy = steps(lambda width: (0.5 + 0.01 * width) * rng.normal(1.0, 0.01))
        assert noisy.multiple == 1
    assert steps(lambda width: width**0.8, full=16).multiple == 1


def test_a_multiple_leaves_four_widths() -> None:
    assert max(steps(stairs(8), full=64).wastes) == 16
    assert max(steps(stairs(8), full=16).wastes) == 4
    assert steps(stairs(8), full=16).multiple == 4


def test_layers_weigh_by_their_time() -> None:
    table = make_table()
    quick, slow = 0.001, 1.0
    at = {segment.name: number for number, segment in enumerate(table.segments)}
    for times, expected in (((slow, quick), 8), ((quick, slow), 1)):
        measured = table.times_ms.copy()
        measured[0, [at["layer1"], at["layer2"]]] = times
        swept = (steps(stairs(8), "layer1", full=32), steps(stairs(1), "layer2"))
        changed = replace(table, times_ms=measured, staircases=swept)
        assert overall_advice(changed).multiple == expected


def test_a_group_is_advised_by_the_layers_that_make_and_read_it() -> None:
    space = make_space()
    first, second, third = space.names
    table = replace(
        make_table(space), staircases=(steps(stairs(8), "layer1", full=32), steps(stairs(16), "layer2", "in", full=32))
    )
    advice = advice_by_group(table)
    assert list(advice) == [first, second, third]
    assert advice[first].text == "not measured"
    assert advice[third].text == "not measured"
    assert advice[second].measured
    assert advice[second].multiple in (8, 16)
    assert 0 < advice[second].share < 1
    alone = replace(table, staircases=(steps(peaks(4), "layer1", full=32),))
    assert advice_by_group(alone)[second].text == "4"
    flat = replace(table, staircases=(steps(peaks(1), "layer1", full=32),))
    assert advice_by_group(flat)[second].text == "none"


def test_layers_of_one_kind_share_their_staircase() -> None:
    """layer2 is given the signature and the sizes of layer1."""
    table = make_table()
    layer1 = next(segment for segment in table.segments if segment.name == "layer1")
    twin = tuple(
        replace(segment, signature=layer1.signature, first=layer1.first, second=replace(layer1.second))
        if segment.name == "layer2"
        else segment
        for segment in table.segments
    )
    swept = (steps(stairs(8), "layer1", full=32),)
    one, two = (
        overall_advice(replace(table, segments=segments, staircases=swept)) for segments in (table.segments, twin)
    )
    assert one.multiple == two.multiple == 8
    assert two.share > one.share


def test_without_staircases_nothing_is_suggested() -> None:
    advice = overall_advice(replace(make_table(), staircases=()))
    assert (advice.text, advice.multiple, advice.waste) == ("not measured", 1, {})


def test_a_machine_that_was_too_busy_suggests_nothing() -> None:
    rng = np.random.default_rng(0)
    busy = steps(lambda width: 0.01 if width in (49, 64) else rng.uniform(1.0, 2.0), "layer1", full=64)
    advice = overall_advice(replace(make_table(), staircases=(busy,)))
    assert (advice.text, advice.multiple) == ("too noisy", 1)
