"""What a trial is given on a cluster, and how many fit: nodes are counted one by one."""

from __future__ import annotations

from typing import Any

import pytest
import ray
from hypothesis import given
from hypothesis import strategies as st

from autoprune.config.executors import RayExecutorConfig
from autoprune.errors import ConfigError
from autoprune.executors.ray_capacity import Room, fits, slot_count, trial_share


@pytest.fixture
def nodes(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, float]]:
    """Resources of the nodes of a cluster that is not there."""
    found: list[dict[str, float]] = []
    total = lambda: {name: sum(node.get(name, 0) for node in found) for node in found for name in node}  # noqa: E731
    monkeypatch.setattr(ray, "nodes", lambda: [{"Alive": True, "Resources": node} for node in found])
    monkeypatch.setattr(ray, "cluster_resources", total)
    return found


def _config(**settings: Any) -> RayExecutorConfig:
    return RayExecutorConfig.model_validate(settings)


def test_two_halves_on_two_nodes_hold_no_whole(nodes: list[dict[str, float]]) -> None:
    nodes += [{"CPU": 1.5}, {"CPU": 1.5}]
    assert slot_count(_config(cpus_per_trial=1.5)) == 2
    with pytest.raises(ConfigError, match=r"cpus_per_trial is 2, but the Ray cluster has no node with more than 1\.5"):
        slot_count(_config(cpus_per_trial=2))


def test_what_is_there_but_not_on_one_node(nodes: list[dict[str, float]]) -> None:
    nodes += [{"CPU": 4}, {"CPU": 1, "GPU": 1}]
    with pytest.raises(ConfigError, match=r"needs 2 CPU and 1 GPU on one node"):
        slot_count(_config(cpus_per_trial=2, gpus_per_trial=1))


def test_custom_resources_say_where_trials_run(nodes: list[dict[str, float]]) -> None:
    nodes += [{"CPU": 8}, {"CPU": 8, "disk": 3}]
    assert slot_count(_config(resources_per_trial={"disk": 1})) == 3
    with pytest.raises(ConfigError, match=r"executor\.resources_per_trial\.tape is 1, but .* more than 0 of tape"):
        slot_count(_config(resources_per_trial={"tape": 1}))


@given(
    need=st.floats(0.25, 8),
    cpus=st.lists(st.integers(0, 64).map(lambda each: each / 4), min_size=1, max_size=6),
)
def test_never_more_than_each_node_holds(need: float, cpus: list[float]) -> None:
    count = fits({"CPU": need}, [{"CPU": each} for each in cpus])
    assert count == sum(fits({"CPU": need}, [{"CPU": each}]) for each in cpus)
    assert count * need <= sum(cpus) + 1e-6


class TestTraining:
    def test_takes_a_gpu_where_there_are_some(self, nodes: list[dict[str, float]]) -> None:
        nodes += [{"CPU": 8}, {"CPU": 4, "GPU": 2}]
        assert trial_share(_config()).needs == {"CPU": 1}
        share = trial_share(_config(), training=True)
        assert (share.needs, share.hides_gpus, share.requires_gpu) == ({"CPU": 1, "GPU": 1}, False, False)
        assert slot_count(_config(), training=True) == 2

    def test_does_without_where_there_are_none(self, nodes: list[dict[str, float]]) -> None:
        nodes += [{"CPU": 8}]
        share = trial_share(_config(), training=True)
        assert (share.needs, share.hides_gpus) == ({"CPU": 1}, True)

    def test_is_given_what_is_said(self, nodes: list[dict[str, float]]) -> None:
        nodes += [{"CPU": 8, "GPU": 1, "disk": 1}]
        config = _config(
            resources_per_trial={"disk": 1}, training={"cpus": 4, "gpus": 0.5, "resources": {}}, cpus_per_trial=2
        )
        share = trial_share(config, training=True)
        assert (share.needs, share.requires_gpu) == ({"CPU": 4, "GPU": 0.5}, True)
        assert trial_share(config).needs == {"CPU": 2, "disk": 1}

    def test_a_gpu_that_is_not_there(self, nodes: list[dict[str, float]]) -> None:
        nodes += [{"CPU": 8}]
        with pytest.raises(ConfigError, match=r"executor\.training\.gpus is 1, but .* no node with more than 0 GPUs"):
            slot_count(_config(training={"gpus": 1}), training=True)

    def test_none_although_there_are_some(self, nodes: list[dict[str, float]]) -> None:
        nodes += [{"CPU": 8, "GPU": 1}]
        share = trial_share(_config(training={"gpus": 0}), training=True)
        assert (share.needs, share.hides_gpus) == ({"CPU": 1}, True)


def test_room_follows_the_nodes(nodes: list[dict[str, float]], monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [0.0]
    monkeypatch.setattr("time.monotonic", lambda: clock[0])
    nodes += [{"CPU": 2}]
    room = Room(_config(max_parallel=5), trial_share(_config()))
    counts = []
    for more in ([], [{"CPU": 2}], [{"CPU": 9}]):
        nodes += more
        clock[0] += 60.0
        counts.append(room())
    assert counts == [2, 4, 5]


@pytest.mark.parametrize(
    "settings",
    [
        {"gpus_per_trial": 1.5},
        {"gpus_per_trial": -1},
        {"training": {"gpus": -1}},
        {"training": {"cpus": 0}},
        {"training": {"gpus": "some"}},
        {"resources_per_trial": {"GPU": 1}},
        {"resources_per_trial": {"disk": 0}},
        {"address": ""},
        {"address": "nonsense"},
        {"address": "host:99999"},
        {"address": "ray://host"},
    ],
    ids=str,
)
def test_refused_when_it_is_read(settings: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="validation error"):
        _config(**settings)
