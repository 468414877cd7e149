"""Predictions against a latency that is known exactly."""

from __future__ import annotations

import pickle
from dataclasses import replace

import numpy as np
import pytest
from latency_fixtures import between_ms, make_space, make_table, noisy, true_ms

from autoprune.errors import ConfigError
from autoprune.latency.attach import attached
from autoprune.latency.predictor import LatencyModel
from autoprune.latency.surface import Surface, alignment
from autoprune.space.space import SearchSpace
from autoprune.testing.toy import toy_space


def all_widths(space: SearchSpace) -> np.ndarray:
    grid = np.meshgrid(*[item.allowed for item in space.dimensions], indexing="ij")
    return np.stack([axis.ravel() for axis in grid], axis=1)


def model_of(space: SearchSpace, **changes: object) -> LatencyModel:
    table = replace(make_table(space), _surfaces={}, **changes)
    return LatencyModel(table, space.cost, [item.allowed for item in space.dimensions])


def test_every_candidate_is_predicted_from_few_networks() -> None:
    space = make_space()
    widths = all_widths(space)
    errors = np.abs(model_of(space).metrics(widths)["latency_ms"] / true_ms(widths) - 1)
    assert len(make_table(space).widths) < len(widths) / 5
    assert np.median(errors) < 0.01
    assert errors.max() < 0.06


def test_the_staircase_is_kept() -> None:
    """60 channels cost as much as 64, and 56 much less: no straight line says so."""
    space = make_space()
    times = model_of(space).metrics(np.array([[16, 32, 56], [16, 32, 60], [16, 32, 64]]))["latency_ms"]
    steps = np.diff(times)
    true = np.diff(true_ms(np.array([[16, 32, 56], [16, 32, 60], [16, 32, 64]])))
    assert true[0] > 3 * true[1]
    assert steps[0] > 2 * steps[1]


def test_noise_is_averaged_out() -> None:
    space = make_space()
    widths = all_widths(space)
    table = noisy(make_table(space), 0.05)
    model = LatencyModel(table, space.cost, [item.allowed for item in space.dimensions])
    errors = np.abs(model.metrics(widths)["latency_ms"] / true_ms(widths) - 1)
    assert np.median(errors) < 0.03


def test_intercept_and_scale() -> None:
    space = make_space()
    widths = all_widths(space)[:50]
    plain, changed = model_of(space), model_of(space, intercept=0.25, scale=1.5)
    expected = 0.25 + 1.5 * plain.metrics(widths)["latency_ms"]
    assert changed.metrics(widths)["latency_ms"] == pytest.approx(expected, rel=1e-12)


def test_what_runs_between_layers_may_count_less() -> None:
    space = make_space()
    widths = all_widths(space)[:50]
    plain, none, half = (model_of(space, between=share).metrics(widths)["latency_ms"] for share in (1.0, 0.0, 0.5))
    assert half == pytest.approx((plain + none) / 2, rel=1e-9)
    glue = sum(between_ms(column) for column in widths.T)
    assert plain - none == pytest.approx(glue, rel=0.05)


def test_ceilings_are_never_below_and_grow_with_every_width() -> None:
    space = make_space()
    table = noisy(make_table(space), 0.2)  # so noisy that some wider networks look faster
    model = LatencyModel(table, space.cost, [item.allowed for item in space.dimensions])
    shape = [len(item.allowed) for item in space.dimensions]
    widths = all_widths(space)
    ceilings = model.ceilings(widths)["latency_ms"].reshape(shape)
    times = model.metrics(widths)["latency_ms"].reshape(shape)
    assert (ceilings >= times - 1e-12).all()
    assert ceilings[0, 0, 0] == pytest.approx(times[0, 0, 0])
    assert any((np.diff(times, axis=axis) < 0).any() for axis in range(3))
    for axis in range(3):
        assert (np.diff(ceilings, axis=axis) >= -1e-12).all()


def test_groups_that_are_not_searched_stay_full() -> None:
    space = make_space()
    table = make_table(space)
    fewer = toy_space((16, 32, 64))
    cost = SearchSpace.build(fewer.groups[1:], fewer.cost, ()).cost
    model = LatencyModel(table, cost, [item.allowed for item in space.dimensions[1:]])
    some = all_widths(space)[all_widths(space)[:, 0] == 16]
    whole = LatencyModel(table, space.cost, [item.allowed for item in space.dimensions])
    assert model.metrics(some[:, 1:])["latency_ms"] == pytest.approx(whole.metrics(some)["latency_ms"], rel=1e-9)


def test_a_width_that_is_not_allowed_counts_as_the_next_one_above() -> None:
    space = make_space()
    model = model_of(space)
    one, other = model.metrics(np.array([[13, 32, 64], [16, 32, 64]]))["latency_ms"]
    assert one == other


def test_attached_to_a_space_it_is_a_cost_like_macs() -> None:
    space = attached(make_space(), make_table())
    measured = space.cost.measure(space.full())
    assert measured["latency_ms"] == pytest.approx(float(true_ms(np.array([[16, 32, 64]]))[0]), rel=0.02)
    assert measured == space.cost.baseline
    assert measured["macs"] == make_space().cost.baseline["macs"]
    copy = pickle.loads(pickle.dumps(space))  # noqa: S301 - written a moment ago
    assert copy.cost.measure(space.minimum()) == space.cost.measure(space.minimum())


@pytest.mark.parametrize(
    ("space", "why"),
    [
        (toy_space((16, 32, 32)), "its layers or the size of its input differ"),
        (toy_space((16, 32, 64), pixels=64), "its layers or the size of its input differ"),
    ],
)
def test_a_table_of_another_network_is_refused(space: SearchSpace, why: str) -> None:
    with pytest.raises(ConfigError, match=f"for another space \\(toy\\): {why}"):
        attached(space, make_table())


def test_a_group_that_was_not_varied_is_refused() -> None:
    table = make_table()
    fewer = {name: shape for name, shape in table.groups.items() if name != "conv1"}
    with pytest.raises(ConfigError, match="group 'conv1' was not varied"):
        replace(table, groups=fewer).check(make_space().cost)


def test_surface_recovers_a_bilinear_function() -> None:
    rng = np.random.default_rng(0)
    sizes = rng.integers(1, 65, (40, 2))
    truth = 3.0 + 0.2 * sizes[:, 0] + 0.1 * sizes[:, 1] + 0.05 * sizes[:, 0] * sizes[:, 1]
    others = rng.integers(1, 65, (200, 2))
    expected = 3.0 + 0.2 * others[:, 0] + 0.1 * others[:, 1] + 0.05 * others[:, 0] * others[:, 1]
    errors = np.abs(Surface.fit(sizes, truth).times(others) / expected - 1)
    assert errors.max() < 0.05
    assert np.median(errors) < 0.005


def test_surface_of_one_point_and_of_constant_sizes() -> None:
    assert Surface.fit(np.array([[3, 3]]), np.array([2.0])).times(np.array([[3, 3]])) == pytest.approx([2.0], rel=0.01)
    flat = Surface.fit(np.array([[3, 0]] * 4), np.array([1.0, 2.0, 3.0, 2.0]))
    assert flat.times(np.array([[3, 0]])) == pytest.approx([2.0], rel=0.01)


def test_alignment() -> None:
    assert alignment(np.array([1, 2, 6, 8, 24, 16, 48, 64, 0])).tolist() == [1, 2, 2, 8, 8, 16, 16, 32, 32]
