"""Objectives and constraints as people type them, and what they mistype."""

from __future__ import annotations

import math

import numpy as np
import pytest

from autoprune.config.expressions import parse_constraint, parse_objective
from autoprune.errors import ConfigError
from autoprune.types import Constraint, Objective


@pytest.mark.parametrize("text", ["top1 max", "  top1   max ", "top1\tmax"])
def test_objective(text: str) -> None:
    assert parse_objective(text) == Objective("top1", "max")


@pytest.mark.parametrize(
    "text",
    ["", "top1", "max", "max top1", "top1 maximize", "top1 MAX", "top1 max macs", "1top max", "top-1 max", "top1,max"],
)
def test_wrong_objective(text: str) -> None:
    with pytest.raises(ConfigError, match="top1 max"):
        parse_objective(text)


@pytest.mark.parametrize(
    ("text", "value", "relative"),
    [
        ("macs <= 0.5 * baseline", 0.5, True),
        ("macs<=0.5*baseline", 0.5, True),
        ("macs <= baseline * 0.5", 0.5, True),
        ("macs <= baseline/2", 0.5, True),
        ("macs <= baseline / 2", 0.5, True),
        ("macs <= 50% of baseline", 0.5, True),
        ("macs <= 50 % of baseline", 0.5, True),
        ("macs <= 50% * baseline", 0.5, True),
        ("macs <= .5 * baseline", 0.5, True),
        ("macs <= 5e-1 * baseline", 0.5, True),
        ("macs < 0.5 * baseline", 0.5, True),
        ("0.5 * baseline >= macs", 0.5, True),
        ("baseline / 2 > macs", 0.5, True),
        ("macs <= baseline", 1.0, True),
        ("macs <= 40e6", 40e6, False),
        ("macs <= 40M", 40e6, False),
        ("macs <= 40 M", 40e6, False),
        ("macs <= 40000k", 40e6, False),
        ("macs <= 40000K", 40e6, False),
        ("macs <= 0.04G", 40e6, False),
        ("macs <= +40M", 40e6, False),
        ("macs <= 40.", 40.0, False),
    ],
)
def test_upper_bound(text: str, value: float, relative: bool) -> None:
    (bound,) = parse_constraint(text)
    assert (bound.metric, bound.op, bound.relative) == ("macs", "<=", relative)
    assert bound.value == pytest.approx(value, rel=1e-12)


@pytest.mark.parametrize(
    ("text", "ops"),
    [
        ("20M <= macs <= 30M", [(">=", 20e6), ("<=", 30e6)]),
        ("20M < macs < 30M", [(">=", 20e6), ("<=", 30e6)]),
        ("30M >= macs >= 20M", [("<=", 30e6), (">=", 20e6)]),
        ("20M <= macs <= 20M", [(">=", 20e6), ("<=", 20e6)]),
    ],
)
def test_range(text: str, ops: list[tuple[str, float]]) -> None:
    assert [(bound.op, bound.value) for bound in parse_constraint(text)] == ops


def test_range_of_mixed_kinds_is_decided_later() -> None:
    low, high = parse_constraint("20M <= macs <= 0.5 * baseline")
    assert (low.relative, high.relative) == (False, True)


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "macs",
        "macs <=",
        "<= 5",
        "5 <= 6",
        "macs == 5",
        "macs = 5",
        "macs => 5",
        "macs =< 5",
        "macs <= five",
        "macs <= 5X",
        "macs <= 5 6",
        "macs <= 1e",
        "macs <= --5",
        "macs <= 5,000",
        "macs <= 1_000",
        "macs <= 0x10",
        "macs <= nan",
        "macs <= inf",
        "macs <= 1e400",
        "macs <= baseline / 0",
        "macs <= baseline / baseline",
        "macs <= baseline * baseline",
        "macs <= 2 / baseline",
        "macs <= baseline + 1",
        "macs <= baselines",
        "macs <= 0.5 baseline * 2",
        "macs <= params",
        "baseline <= 5",
        "baseline <= baseline",
        "macs params <= 5",
        "30M <= macs <= 20M",
        "0.5 * baseline <= macs <= 0.4 * baseline",
        "1 <= macs >= 5",
        "1 <= macs <= 5 <= 7",
        "macs <= 1 <= params",
        "macs <= 0.5 * baseline; import os",
        "macs\n<= 5\n<=",
        "macs << 5",
        "mäcs <= 5",
    ],
)
def test_wrong_constraint(text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_constraint(text)
    assert caught.value.hint
    assert repr(text) in caught.value.message or text in caught.value.message


@pytest.mark.parametrize("seed", range(20))
def test_random_text_is_read_or_refused_in_order(seed: int) -> None:
    """Strings of likely tokens: either finite bounds, or a ConfigError; never another exception."""
    rng = np.random.default_rng(seed)
    tokens = ["macs", "top1", "baseline", "<=", ">=", "<", ">", "=", "*", "/", "%", "of", "0.5", "40M", "0", "1e999"]
    tokens += ["-3", " ", "", "K", "(", ")", "\n", "é", "\x00", "5%", "nan", "+", "."]
    read = 0
    for _ in range(2000):
        text = rng.choice(["", " "]).join(rng.choice(tokens, rng.integers(0, 8)))
        try:
            bounds = parse_constraint(text)
        except ConfigError:
            continue
        read += 1
        assert 1 <= len(bounds) <= 2
        assert all(math.isfinite(bound.value) for bound in bounds)
        for bound in bounds:
            assert parse_constraint(str(bound))[0].op == bound.op
    assert read > 0


@pytest.mark.parametrize("seed", range(5))
def test_what_is_printed_reads_back(seed: int) -> None:
    rng = np.random.default_rng(seed)
    for _ in range(200):
        value = float(f"{10 ** rng.uniform(-6, 12):g}")
        bound = Constraint("params", str(rng.choice(["<=", ">="])), value, bool(rng.integers(2)))
        assert parse_constraint(str(bound)) == [bound]
    objective = Objective("top1", "max")
    assert parse_objective(str(objective)) == objective
