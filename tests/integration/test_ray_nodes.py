"""A Ray cluster of several nodes, which lack autoprune and the folder of the driver."""

from __future__ import annotations

import importlib.util
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from sleepy_evaluator import Naps, Sleepy, bare, by_value, fake_torch

from autoprune import api
from autoprune.config.executors import RayExecutorConfig
from autoprune.config.schema import DigitsData
from autoprune.data import sources
from autoprune.driver.observers import Silent
from autoprune.errors import ConfigError, SearchAborted
from autoprune.executors import ray_slots
from autoprune.executors.ray_tune import RayTuneExecutor
from autoprune.testing.ray_nodes import RayCluster, ray_nodes
from autoprune.training.scoring import score


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Ray tells workers the driver's folder, from which they could import autoprune."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    with by_value():
        yield


def _run(
    cluster: RayCluster,
    trials: int,
    *,
    seconds: float = 0.3,
    trains: bool = False,
    torch: bool = False,
    address: str = "",
    **settings: object,
) -> Sleepy:
    config = RayExecutorConfig.model_validate({"address": address or cluster.address, **settings})
    session = Sleepy(trials)
    assets = {"seconds": seconds, "torch": torch}
    RayTuneExecutor(config, assets, Naps, 60.0, training=trains).run(session)
    assert session.done
    assert sorted(session.outcomes) == list(range(trials))
    return session


def test_trials_run_on_all_nodes_though_they_lack_autoprune(tmp_path: Path) -> None:
    with ray_nodes(1, head_cpus=1, environment=bare(tmp_path)) as cluster:
        session = _run(cluster, 40)
        assert set(session.nodes) == {node.ip for node in cluster.nodes}
    metrics = [outcome.metrics for outcome in session.outcomes.values()]
    assert {each["shipped"] for each in metrics} == {1.0}
    nodes = {outcome.worker.rpartition(":")[0] for outcome in session.outcomes.values()}
    assert all(len(node.rpartition("/")[2]) == 8 for node in nodes), "Ray's id tells nodes of one address apart"


@pytest.mark.slow
def test_nodes_that_join_are_used_and_those_that_leave_cost_nothing(tmp_path: Path) -> None:
    with ray_nodes(1, environment=bare(tmp_path)) as cluster:
        first = cluster.workers[0]

        def change() -> None:
            second = cluster.add(cpus=1)
            deadline = time.monotonic() + 120
            while not session.nodes[second.ip] and time.monotonic() < deadline:
                time.sleep(0.1)
            first.kill()

        session = Sleepy(400)
        thread = threading.Thread(target=change)
        thread.start()
        config = RayExecutorConfig(address=cluster.address)
        RayTuneExecutor(config, {"seconds": 0.1}, Naps, 60.0).run(session)
        thread.join()
        second = cluster.workers[1]
    assert sorted(session.outcomes) == list(range(400))
    assert set(session.nodes) == {first.ip, second.ip}
    assert all(reason.startswith("worker process died") for _, reason in session.accidents)
    assert len(session.accidents) <= 1


@pytest.mark.slow
def test_when_all_nodes_have_left_it_waits_and_then_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray_slots, "ROOMLESS_SECONDS", 3.0)
    with ray_nodes(1, environment=bare(tmp_path)) as cluster:
        session = Sleepy(1000)

        def kill() -> None:
            while not session.nodes:
                time.sleep(0.1)
            cluster.workers[0].kill()

        threading.Thread(target=kill).start()
        executor = RayTuneExecutor(RayExecutorConfig(address=cluster.address), {"seconds": 0.1}, Naps, 60.0)
        with pytest.raises(SearchAborted, match="no node of the Ray cluster has held a trial for 3 seconds"):
            executor.run(session)


@pytest.fixture(scope="module")
def various(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RayCluster]:
    """Node 1 has processors, node 2 also two GPUs that are none, node 3 a resource of its own."""
    with ray_nodes(1, cpus=2, environment=bare(tmp_path_factory.mktemp("bare"))) as cluster:
        cluster.add(cpus=2, gpus=2)
        cluster.add(cpus=1, resources={"disk": 1})
        yield cluster


@pytest.mark.slow
class TestPlacement:
    def test_trainings_go_to_gpus_and_calibrations_anywhere(self, various: RayCluster) -> None:
        training = _run(various, 20, trains=True)
        assert set(training.nodes) == {various.nodes[2].ip}
        assert {outcome.metrics["gpus"] for outcome in training.outcomes.values()} == {1.0}
        assert len({outcome.worker for outcome in training.outcomes.values()}) == 2, "a GPU each"
        calibrating = _run(various, 60)
        assert len(set(calibrating.nodes)) == 3
        assert {outcome.metrics["gpus"] for outcome in calibrating.outcomes.values()} == {0.0}

    def test_shares_of_a_gpu(self, various: RayCluster) -> None:
        settings = {"training": {"gpus": 0.5, "cpus": 0.25}}
        session = _run(various, 24, trains=True, **settings)
        assert len({outcome.worker for outcome in session.outcomes.values()}) == 4

    def test_trainings_on_processors_see_no_gpu(self, various: RayCluster) -> None:
        session = _run(various, 10, trains=True, **{"training": {"gpus": 0, "cpus": 2}})
        metrics = [outcome.metrics for outcome in session.outcomes.values()]
        assert {(each["sees_all_gpus"], each["threads"]) for each in metrics} == {(0.0, 2.0)}

    def test_custom_resources(self, various: RayCluster) -> None:
        session = _run(various, 5, **{"resources_per_trial": {"disk": 1}})
        assert set(session.nodes) == {various.nodes[3].ip}

    def test_a_gpu_that_torch_does_not_see_is_said(self, various: RayCluster) -> None:
        with pytest.raises(SearchAborted, match=r"GPU was asked for and granted .* but torch .* sees none on node"):
            _run(various, 5, trains=True, torch=True, **{"training": {"gpus": 1}})

    def test_more_than_a_node_holds(self, various: RayCluster) -> None:
        with pytest.raises(ConfigError, match=r"cpus_per_trial is 3, but the Ray cluster has no node with more than 2"):
            _run(various, 1, **{"cpus_per_trial": 3})


@pytest.mark.slow
def test_another_torch_on_the_nodes_is_said_before_any_trial(tmp_path: Path) -> None:
    with ray_nodes(1, environment={"PYTHONPATH": fake_torch(tmp_path, "1.0.0")}) as cluster:
        session = Sleepy(1)
        executor = RayTuneExecutor(RayExecutorConfig(address=cluster.address), {"seconds": 0.1}, Naps, 60.0)
        with pytest.raises(ConfigError, match=r"torch differs .* but 127\.0\.0\.3/\w{8} has 1\.0\.0"):
            executor.run(session)
        assert session.asks == 0


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("grpc") is None, reason="Ray Client needs grpcio")
class TestClient:
    @pytest.fixture
    def port(self) -> int:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            return int(free.getsockname()[1])

    def test_trials_run_there_and_the_session_stays_here(self, port: int, tmp_path: Path) -> None:
        with ray_nodes(2, environment=bare(tmp_path), client_port=port) as cluster:
            address = f"ray://{cluster.head.ip}:{port}"
            session = _run(cluster, 40, address=address)
            assert set(session.nodes) == {node.ip for node in cluster.workers}
            assert {outcome.metrics["shipped"] for outcome in session.outcomes.values()} == {1.0}

    def test_a_lost_connection_ends_the_run_in_words(self, port: int, tmp_path: Path) -> None:
        with ray_nodes(1, environment=bare(tmp_path), client_port=port) as cluster:
            session = Sleepy(1000)

            def kill() -> None:
                while not session.nodes:
                    time.sleep(0.1)
                cluster.head.kill()

            threading.Thread(target=kill).start()
            config = RayExecutorConfig(address=f"ray://{cluster.head.ip}:{port}")
            began = time.monotonic()
            with pytest.raises(SearchAborted, match="connection to the Ray cluster was lost"):
                RayTuneExecutor(config, {"seconds": 0.1}, Naps, 60.0).run(session)
            assert time.monotonic() - began < 120


OWN = {
    "own.py": """
from torch import nn
from own_parts import block

def make(num_classes, in_channels):
    layers = [block(in_channels, 16), block(16, 32), block(32, 32), nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    return nn.Sequential(*layers, nn.Linear(32, num_classes))
""",
    "own_parts.py": """
from torch import nn

def block(a, b):
    return nn.Sequential(nn.Conv2d(a, b, 3, padding=1), nn.BatchNorm2d(b), nn.ReLU())
""",
    "own.yaml": """
name: own
space:
  model: {kind: file, path: own.py, factory: make}
  data: {kind: digits}
  base: {recipe: {epochs: 1}}
controller: {kind: random}
constraints: [macs <= 0.8 * baseline]
limits: {trials: 600}
store: sqlite:///own.db
""",
}


@pytest.mark.slow
def test_a_search_with_a_model_file_that_nodes_lack(tmp_path: Path) -> None:
    """The command line, a head and two workers, a model file beside the driver alone; figures of each node."""
    for name, text in OWN.items():
        (tmp_path / name).write_text(text)
    code = "import sys; from autoprune.cli.main import main; sys.exit(main())"
    with ray_nodes(2, head_cpus=1, environment=bare(tmp_path)) as cluster:
        command = [sys.executable, "-c", code, "search", "own.yaml", "--set", "executor.kind=ray"]
        command += ["--set", f"executor.address={cluster.address}"]
        root = str(Path(__file__).resolve().parents[2])
        environment = {**os.environ, **cluster.driver_environment, "PYTHONPATH": root}
        done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=280)
        ips = {node.ip for node in cluster.nodes}
    assert done.returncode == 0, done.stderr
    assert "3 nodes: " in done.stderr
    nodes = api.nodes("own", store=f"sqlite:///{tmp_path / 'own.db'}")
    assert {node.node.partition("/")[0] for node in nodes} == ips
    trials = api.trials("own", store=f"sqlite:///{tmp_path / 'own.db'}")
    assert len(trials) == 600
    assert sum(node.trials for node in nodes) == sum(not trial.duplicate_of for trial in trials)
    assert "<h3>Nodes</h3>" in (tmp_path / "results/own/report.html").read_text()


@pytest.mark.slow
def test_a_model_is_trained_to_its_end_on_the_cluster(tmp_path: Path) -> None:
    """The weights come back, are scored and exported here; the model's file and autoprune are sent there."""
    for name, text in OWN.items():
        (tmp_path / name).write_text(text.replace("trials: 600", "trials: 4"))
    notes: list[str] = []

    class Noting(Silent):
        def note(self, text: str) -> None:
            notes.append(text)

    with ray_nodes(1, environment=bare(tmp_path)) as cluster:
        overrides = ["executor.kind=ray", f"executor.address={cluster.address}"]
        found = api.search("own.yaml", overrides=overrides)
        trial = found.front.trials[0].number
        trained = api.retrain(
            "own", trial, tmp_path / "model", arm="finetune", store="sqlite:///own.db", progress=Noting()
        )
        (node,) = (text for text in notes if text.startswith("training on node"))
        assert cluster.workers[0].ip in node
    again = api.load_model(tmp_path / "model", allow_code=True)
    data = sources.load(DigitsData())
    scored = score(again, data.open_test(), mean=data.mean, std=data.std, batch_size=500)
    assert scored["top1"] == pytest.approx(trained.metrics["test_top1"], abs=0.005)
