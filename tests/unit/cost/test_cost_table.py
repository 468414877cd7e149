"""CostTable against costs computed term by term, by hand and by brute force."""

from __future__ import annotations

import pickle

import numpy as np
import pytest

from autoprune.cost.table import CostTable, Cut, Term
from autoprune.errors import ConfigError
from autoprune.types import Candidate


@pytest.fixture
def table() -> CostTable:
    """Two groups: 'a' of single channels, 'g' of six channels that leave three at a time; a concat feeds the head."""
    terms = (
        Term("a.weight", (4, 3, 3, 3), 25, (Cut(0, 0, 1),)),
        Term("a.bias", (4,), 0, (Cut(0, 0, 1),)),
        Term("g.weight", (6, 2, 1, 1), 25, (Cut(0, 1, 3), Cut(1, 1, 1))),
        Term("head.weight", (5, 25 * 10), 1, (Cut(1, 0, 25), Cut(1, 1, 75))),
        Term("fixed.weight", (7, 7), 2),
    )
    return CostTable(("a", "g"), np.array([4, 6]), np.array([1, 3]), terms, ("attention: bmm",))


def brute_force(table: CostTable, widths: list[int]) -> tuple[int, int]:
    macs = params = 0
    for term in table.terms:
        shape = list(term.shape)
        for cut in term.cuts:
            dropped = (int(table.channels[cut.group]) - widths[cut.group]) // int(table.unit[cut.group])
            shape[cut.dim] -= dropped * cut.positions
        numel = int(np.prod(shape))
        macs += numel * term.applications
        params += numel
    return macs, params


def test_hand_computed(table: CostTable) -> None:
    # a keeps 2 of 4, g keeps 3 of 6: a (2,3,3,3), g (3,1,1,1), head 5 x 25*(2+3), fixed 49.
    assert table.macs(np.array([[2, 3]]))[0] == 54 * 25 + 3 * 25 + 5 * 125 + 98
    assert table.params(np.array([[2, 3]]))[0] == 54 + 2 + 3 + 5 * 125 + 49
    assert table.keep_ratio(np.array([[2, 3]]))[0] == 0.5


def test_equals_brute_force_everywhere(table: CostTable) -> None:
    widths = np.array([[a, g] for a in range(1, 5) for g in (3, 6)])
    expected = np.array([brute_force(table, row.tolist()) for row in widths])
    np.testing.assert_array_equal(table.macs(widths), expected[:, 0])
    np.testing.assert_array_equal(table.params(widths), expected[:, 1])


def test_random_tables_are_integer_exact() -> None:
    rng = np.random.default_rng(0)
    count = 20
    channels = rng.integers(3, 512, count)
    terms = tuple(
        Term(f"w{i}", (int(channels[i]), int(channels[j]), 3, 3), int(rng.integers(1, 50_000)), cuts)
        for i in range(count)
        for j in [int(rng.integers(count))]
        for cuts in [(Cut(0, i, 1), Cut(1, j, 1))]
    )
    table = CostTable(tuple(f"g{i}" for i in range(count)), channels, np.ones(count, int), terms)
    widths = rng.integers(1, channels + 1, (500, count))
    expected = [brute_force(table, row.tolist())[0] for row in widths]
    np.testing.assert_array_equal(table.macs(widths), expected)


def test_metrics_measure_and_baseline_agree(table: CostTable) -> None:
    metrics = table.metrics(np.array([[4, 6], [1, 3]]))
    assert set(metrics) == {"macs", "flops", "params", "keep_ratio"}
    np.testing.assert_array_equal(metrics["flops"], 2 * metrics["macs"])
    assert table.measure(Candidate({"a": 1, "g": 3})) == {name: value[1] for name, value in metrics.items()}
    assert table.measure(Candidate({})) == table.baseline == {name: value[0] for name, value in metrics.items()}


def test_unknown_group_is_named_with_the_nearest(table: CostTable) -> None:
    named = CostTable(("conv1",), np.array([4]), np.array([1]), ())
    with pytest.raises(ConfigError, match=r"no group 'conv2'.*Did you mean 'conv1'"):
        named.measure(Candidate({"conv2": 3}))


def test_without_groups() -> None:
    table = CostTable((), np.array([]), np.array([]), (Term("fc.weight", (10, 4), 1),))
    assert table.metrics(np.zeros((2, 0), int))["macs"].tolist() == [40.0, 40.0]
    assert table.baseline == {"macs": 40.0, "flops": 80.0, "params": 40.0, "keep_ratio": 1.0}
    assert table.share().shape == (0,)


def test_no_candidates(table: CostTable) -> None:
    assert all(values.shape == (0,) for values in table.metrics(np.zeros((0, 2), int)).values())


def test_wrong_shape_is_refused(table: CostTable) -> None:
    with pytest.raises(ValueError, match=r"\(N, 2\)"):
        table.macs(np.array([4, 6]))


def test_share_counts_touched_layers(table: CostTable) -> None:
    total = table.baseline["macs"]
    np.testing.assert_allclose(table.share(), [(2700 + 1250) / total, (300 + 1250) / total], rtol=1e-12)


@pytest.mark.parametrize("metric", ["macs", "flops", "params", "keep_ratio"])
def test_form_gives_the_costs(table: CostTable, metric: str) -> None:
    form = table.form(metric)
    for widths in (np.array([2, 3]), np.array([4, 6])):
        cost = form.constant + form.linear @ widths + widths @ form.matrix @ widths
        assert cost == pytest.approx(table.metrics(widths[None])[metric][0], rel=1e-12)


def test_form_of_an_unknown_metric(table: CostTable) -> None:
    with pytest.raises(ConfigError, match="top1"):
        table.form("top1")


def test_survives_pickle(table: CostTable) -> None:
    widths = np.array([[3, 3], [4, 6]])
    copy = pickle.loads(pickle.dumps(table))  # noqa: S301
    assert copy.groups == table.groups
    assert copy.uncounted == table.uncounted
    np.testing.assert_array_equal(copy.macs(widths), table.macs(widths))
    np.testing.assert_array_equal(copy.params(widths), table.params(widths))


def test_three_cut_dimensions_are_refused() -> None:
    cube = Term("cube", (4, 4, 4), 1, (Cut(0, 0, 1), Cut(1, 0, 1), Cut(2, 0, 1)))
    with pytest.raises(ConfigError, match="cube"):
        _ = CostTable(("a",), np.array([4]), np.array([1]), (cube,)).baseline
