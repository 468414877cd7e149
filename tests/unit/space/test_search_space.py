"""Rules, widths and the cost view of a space."""

from __future__ import annotations

import pickle

import numpy as np
import pytest

from autoprune.config.schema import RuleConfig
from autoprune.cost.table import CostTable, Cut, Term
from autoprune.errors import ConfigError
from autoprune.space import Dimension, SearchSpace
from autoprune.types import Candidate, ChannelGroup

GROUPS = (
    ChannelGroup("stem", 20, ()),
    ChannelGroup("layer1.conv1", 16, ()),
    ChannelGroup("layer1.conv2", 24, (), unit=3),
)


def chain(groups: tuple[ChannelGroup, ...] = GROUPS) -> CostTable:
    """stem -> layer1.conv1 -> layer1.conv2, 1x1 convolutions on 10 positions from 3 inputs."""
    terms, before = [], (3, None)
    for at, group in enumerate(groups):
        cuts = [Cut(0, at, group.unit)]
        if before[1] is not None:
            cuts.append(Cut(1, before[1], groups[before[1]].unit))
        terms.append(Term(group.name, (group.channels, before[0], 1, 1), 10, tuple(cuts)))
        before = (group.channels, at)
    channels = np.array([group.channels for group in groups])
    return CostTable(tuple(g.name for g in groups), channels, np.array([g.unit for g in groups]), tuple(terms), ("x",))


def build(*rules: RuleConfig, left_out: dict[str, str] | None = None) -> SearchSpace:
    return SearchSpace.build(GROUPS, chain(), rules, left_out)


def widths(space: SearchSpace) -> dict[str, tuple[int, ...]]:
    return {item.name: item.allowed for item in space.dimensions}


def test_without_rules_every_width_is_allowed() -> None:
    assert widths(build()) == {
        "stem": tuple(range(1, 21)),
        "layer1.conv1": tuple(range(1, 17)),
        "layer1.conv2": (3, 6, 9, 12, 15, 18, 21, 24),
    }
    assert build().size == 20 * 16 * 8


def test_the_last_matching_rule_that_names_a_key_wins() -> None:
    space = build(
        RuleConfig(multiple=8, floor=0.5),
        RuleConfig(match="layer1.*", multiple=4),
        RuleConfig(match="*.conv2", floor=6),
    )
    assert widths(space) == {"stem": (16, 20), "layer1.conv1": (8, 12, 16), "layer1.conv2": (12, 24)}


@pytest.mark.parametrize(
    ("multiple", "floor", "expected"),
    [
        (1, 0.9, (18, 19, 20)),
        (8, None, (8, 16, 20)),  # full width although no multiple
        (8, 17, (20,)),
        (1, 1e6, (20,)),  # a floor above the channels
        (1, 0.0001, tuple(range(1, 21))),
        (64, None, (20,)),
        (5, 0.25, (5, 10, 15, 20)),  # 0.25 * 20 is exactly 5
        (1, 0.85, (17, 18, 19, 20)),  # 0.85 * 20 is 17 in floats
        (2, 1, tuple(range(2, 21, 2))),  # 1 is a count, not a share
        (1, 18.5, (19, 20)),
    ],
)
def test_multiple_and_floor(multiple: int, floor: float | None, expected: tuple[int, ...]) -> None:
    assert widths(build(RuleConfig(match="stem", multiple=multiple, floor=floor)))["stem"] == expected


def test_share_of_the_floor_is_not_raised_by_float_noise() -> None:
    space = SearchSpace.build(GROUPS[:1], chain(GROUPS[:1]), [RuleConfig(floor=0.35)])
    assert 0.35 * 20 <= 7.0
    assert space.dimensions[0].allowed[0] == 7
    ten = (ChannelGroup("stem", 10, ()),)
    assert SearchSpace.build(ten, chain(ten), [RuleConfig(floor=0.1 + 0.2)]).dimensions[0].allowed[0] == 3


def test_grouped_channels_leave_together() -> None:
    assert widths(build(RuleConfig(multiple=4)))["layer1.conv2"] == (12, 24)


def test_excluded_groups_are_no_dimensions_and_cost_their_full_width() -> None:
    space = build(RuleConfig(match="layer1.conv1", exclude=True))
    assert space.names == ("stem", "layer1.conv2")
    assert [group.name for group in space.groups] == ["stem", "layer1.conv2"]
    assert space.left_out == {"layer1.conv1": "excluded by rule 'layer1.conv1'"}
    candidate = Candidate({"stem": 5, "layer1.conv2": 9})
    whole = chain().measure(Candidate({"stem": 5, "layer1.conv1": 16, "layer1.conv2": 9}))
    assert space.cost.measure(candidate)["macs"] == whole["macs"] == 10 * (3 * 5 + 5 * 16 + 16 * 9)
    assert space.cost.measure(candidate)["params"] == whole["params"]
    assert space.cost.measure(candidate)["keep_ratio"] == (5 + 9) / (20 + 24)
    assert space.cost.baseline["macs"] == chain().baseline["macs"]
    assert space.cost.uncounted == ("x",)


def test_a_later_rule_takes_a_group_back_in() -> None:
    space = build(RuleConfig(exclude=True), RuleConfig(match="stem", exclude=False))
    assert space.names == ("stem",)


def test_cost_table_in_another_order_and_with_more_groups() -> None:
    space = SearchSpace.build((GROUPS[2], GROUPS[0]), chain())
    assert space.cost.groups == ("layer1.conv2", "stem")
    macs = space.cost.macs(space.vector(Candidate({"stem": 5, "layer1.conv2": 9}))[None])
    assert macs.tolist() == [10 * (3 * 5 + 5 * 16 + 16 * 9)]


def test_rule_without_a_match_names_the_nearest() -> None:
    with pytest.raises(ConfigError, match=r"'layer1\.conv3' matches none of the 3 groups.*'layer1\.conv"):
        build(RuleConfig(match="layer1.conv3", floor=0.5))


def test_rule_may_match_only_what_is_left_out() -> None:
    space = build(RuleConfig(match="shortcut*", floor=0.5), left_out={"shortcut": "fails the check"})
    assert space.left_out == {"shortcut": "fails the check"}


def test_nothing_left_to_search() -> None:
    with pytest.raises(ConfigError, match=r"no group is left.*stem: excluded by rule '\*'"):
        build(RuleConfig(exclude=True))
    with pytest.raises(ConfigError, match="the model has no groups"):
        SearchSpace.build((), CostTable((), np.array([]), np.array([]), ()))


def test_corners_and_uniform() -> None:
    space = build(RuleConfig(multiple=4, floor=0.25))
    assert space.full().widths == {"stem": 20, "layer1.conv1": 16, "layer1.conv2": 24}
    assert space.minimum().widths == {"stem": 8, "layer1.conv1": 4, "layer1.conv2": 12}
    assert space.uniform(0.5).widths == {"stem": 12, "layer1.conv1": 8, "layer1.conv2": 12}  # 10: the larger of 8, 12
    assert space.uniform(1.0) == space.full()
    assert space.uniform(1e-9) == space.minimum()
    for wrong in (0.0, -1.0, 1.01, float("nan")):
        with pytest.raises(ConfigError, match="keep_ratio"):
            space.uniform(wrong)


def test_nearest() -> None:
    space = build(RuleConfig(multiple=4))
    assert space.nearest({"stem": 9.9}).widths == {"stem": 8, "layer1.conv1": 16, "layer1.conv2": 24}
    assert space.nearest({"stem": -5, "layer1.conv1": 1e9}).widths["stem"] == 4
    with pytest.raises(ConfigError, match=r"no group 'stm'.*'stem'"):
        space.nearest({"stm": 4})
    with pytest.raises(ConfigError, match="not a finite number"):
        space.nearest({"stem": float("nan")})
    assert Dimension("a", 8, (4, 8)).nearest(6) == 8


def test_validate_says_what_is_allowed() -> None:
    space = build(RuleConfig(multiple=2), RuleConfig(match="layer1.conv2", exclude=True))
    good = {"stem": 10, "layer1.conv1": 16}
    space.validate(Candidate(good))
    with pytest.raises(ConfigError, match=r"group 'stem': width 7 is not allowed; allowed are 2, 4, \.\.\., 20"):
        space.validate(Candidate(good | {"stem": 7}))
    with pytest.raises(ConfigError, match=r"'layer1\.conv1' has no width"):
        space.validate(Candidate({"stem": 10}))
    with pytest.raises(ConfigError, match=r"'layer1\.conv2' is not searched: excluded by rule"):
        space.validate(Candidate(good | {"layer1.conv2": 24}))


def test_vector_and_candidate_are_inverse() -> None:
    space = build()
    candidate = Candidate({"layer1.conv2": 9, "stem": 5, "layer1.conv1": 1})
    assert space.vector(candidate).tolist() == [5, 1, 9]
    assert space.vector(candidate).dtype == np.int64
    assert space.candidate(space.vector(candidate)).digest == candidate.digest


def test_survives_pickle() -> None:
    copy = pickle.loads(pickle.dumps(build(RuleConfig(multiple=4))))  # noqa: S301
    assert widths(copy) == widths(build(RuleConfig(multiple=4)))
