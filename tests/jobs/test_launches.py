"""Launches of a service as jobs of a cluster: one job an attempt, whoever looks after it."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from autoprune.api import launches, ray_drivers
from autoprune.api.working import Worker
from autoprune.config.schema import SearchConfig
from autoprune.errors import ConfigError
from autoprune.store import open_store
from autoprune.store.queue import LaunchQueue
from autoprune.types import Launch, LaunchState
from tests.jobs.fake_job_server import FakeCluster

SPACE = {"model": {"kind": "builtin", "name": "resnet8"}, "data": {"kind": "digits"}}


@pytest.fixture
def store(tmp_path: Path) -> str:
    url = f"sqlite:///{tmp_path / 'a.db'}"
    open_store(url).close()
    return url


@pytest.fixture
def work(store: str, cluster: FakeCluster) -> Iterator[Callable[..., Callable[[], None]]]:
    """Start a worker; what is returned ends it in good order."""
    ends: list[Callable[[], None]] = []

    def start(**settings: Any) -> Callable[[], None]:
        worker = Worker(store, **{"ray_address": cluster.address, **settings})
        thread = threading.Thread(target=worker.run)
        thread.start()

        def end() -> None:
            worker.stop()
            thread.join()

        ends.append(end)
        return end

    yield start
    for end in ends:
        end()


def enqueue(store: str, name: str = "a", **content: Any) -> Launch:
    config = {"name": name, "space": {**SPACE, **content}, "executor": {"kind": "serial"}}
    return launches.enqueue(SearchConfig.model_validate(config), store=store)


def until(condition: Callable[[], object], seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def running(store: str, launch_id: int, attempts: int = 1) -> Launch:
    def is_so() -> bool:
        found = launches.launch(launch_id, store=store)
        return found.state is LaunchState.RUNNING and found.attempts == attempts

    until(is_so)
    return launches.launch(launch_id, store=store)


def ended(store: str, launch_id: int) -> Launch:
    until(lambda: launches.launch(launch_id, store=store).state.ended)
    return launches.launch(launch_id, store=store)


def job_of(launch: Launch) -> str:
    return launch.driver.removeprefix("ray-job::")


def test_a_launch_is_a_job_with_its_log(store: str, work: Callable[..., Any], cluster: FakeCluster) -> None:
    made = enqueue(store)
    work()
    job_id = job_of(running(store, made.id))
    assert list(cluster.jobs) == [job_id]
    assert cluster.jobs[job_id]["metadata"] == {"search": "a", "launch": str(made.id)}
    sent = json.loads(cluster.files(job_id)["submission.json"])
    assert (sent["store"], sent["config"]["name"]) == (store, "a")
    log = launches.log_file(made.id, store=store)
    until(log.exists)
    cluster.logs[job_id] += "searching\n"
    until(lambda: "searching" in log.read_text())
    cluster.logs[job_id] += "é done\n"
    cluster.end(job_id, driver_exit_code=0)
    assert ended(store, made.id).state is LaunchState.COMPLETE
    assert log.read_text() == f"--- Ray job {job_id} ---\nRunning entrypoint for job {job_id}\nsearching\né done\n"


def test_a_search_that_fails_fails_with_its_last_words(
    store: str, work: Callable[..., Any], cluster: FakeCluster
) -> None:
    made = enqueue(store)
    work()
    job_id = job_of(running(store, made.id))
    cluster.logs[job_id] += "error: the data are not there.\nhint: put them there.\n"
    cluster.end(job_id, "FAILED", driver_exit_code=2)
    found = ended(store, made.id)
    assert (found.state, found.message) == (LaunchState.FAILED, "the data are not there.\nhint: put them there.")


def test_stopping_is_ctrl_c_in_the_job(store: str, work: Callable[..., Any], cluster: FakeCluster) -> None:
    made = enqueue(store)
    work()
    job_id = job_of(running(store, made.id))
    launches.stop("a", store=store)
    found = ended(store, made.id)
    assert (found.state, found.message, cluster.stopped) == (LaunchState.STOPPED, "stopped on request.", [job_id])


def test_a_worker_that_ends_leaves_its_job_to_the_next_at_once(
    store: str, work: Callable[..., Any], cluster: FakeCluster
) -> None:
    made = enqueue(store)
    said: list[str] = []
    first = work()
    job_id = job_of(running(store, made.id))
    log = launches.log_file(made.id, store=store)
    until(log.exists)
    first()
    assert (cluster.stopped, launches.launch(made.id, store=store).state) == ([], LaunchState.RUNNING)
    cluster.logs[job_id] += "while nobody looked\n"
    work(say=said.append)
    until(lambda: "while nobody looked" in log.read_text())
    assert said == [f"launch {made.id}: adopted the driver of 'a'."]
    assert log.read_text().count("Running entrypoint") == 1
    cluster.end(job_id)
    found = ended(store, made.id)
    assert (found.state, found.attempts, list(cluster.jobs)) == (LaunchState.COMPLETE, 1, [job_id])


def test_a_job_that_ended_while_no_worker_was_there_is_not_run_again(
    store: str, work: Callable[..., Any], cluster: FakeCluster
) -> None:
    made = enqueue(store)
    first = work()
    job_id = job_of(running(store, made.id))
    first()
    cluster.end(job_id, driver_exit_code=0)
    work()
    found = ended(store, made.id)
    assert (found.state, found.attempts, list(cluster.jobs)) == (LaunchState.COMPLETE, 1, [job_id])


def test_a_worker_that_died_before_it_wrote_the_job_down(
    store: str, work: Callable[..., Any], cluster: FakeCluster
) -> None:
    made = enqueue(store)
    with open_store(store) as opened:
        claim = LaunchQueue(opened).claim("elsewhere/1:1:0.0", ttl_seconds=0.0)
        assert claim is not None
        driver = ray_drivers.RayJobDrivers(store, cluster.address).start(claim.launch)
    work()
    assert running(store, made.id).driver == driver
    assert len(cluster.jobs) == 1
    assert cluster.asked.count("POST /api/jobs/") == 2


@pytest.mark.parametrize("lost", ["killed", "node", "head"])
def test_a_job_that_is_lost_is_begun_again(
    store: str, work: Callable[..., Any], cluster: FakeCluster, lost: str
) -> None:
    made = enqueue(store)
    work()
    job_id = job_of(running(store, made.id))
    until(launches.log_file(made.id, store=store).exists)
    if lost == "killed":
        cluster.end(job_id, "FAILED", driver_exit_code=-9)
    elif lost == "node":
        cluster.end(job_id, "FAILED", message="The node died.", error_type="JOB_SUPERVISOR_ACTOR_DIED")
    else:
        cluster.jobs.clear()  # a new head node
    second = job_of(running(store, made.id, attempts=2))
    assert second == job_id.replace("attempt-1", "attempt-2")
    cluster.end(second)
    found = ended(store, made.id)
    assert (found.state, found.attempts) == (LaunchState.COMPLETE, 2)
    headings = [line for line in launches.log_file(made.id, store=store).read_text().splitlines() if "---" in line]
    assert headings == [f"--- Ray job {each} ---" for each in (job_id, second)]


def test_a_job_that_cannot_be_set_up_is_not_begun_again(
    store: str, work: Callable[..., Any], cluster: FakeCluster
) -> None:
    made = enqueue(store)
    work()
    job_id = job_of(running(store, made.id))
    cluster.end(job_id, "FAILED", message="OSError: no disk", error_type="RUNTIME_ENV_SETUP_FAILURE")
    found = ended(store, made.id)
    assert (found.state, found.attempts) == (LaunchState.FAILED, 1)
    assert found.message == "the cluster could not begin it: OSError: no disk"


def test_a_cluster_that_is_away_costs_no_attempt(
    store: str, work: Callable[..., Any], cluster: FakeCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    cluster.silent = True
    made = enqueue(store)
    work()
    until(lambda: "tried again" in launches.launch(made.id, store=store).message)
    assert launches.launch(made.id, store=store).state is LaunchState.QUEUED
    cluster.silent = False
    job_id = job_of(running(store, made.id))
    cluster.silent = True
    time.sleep(0.1)
    assert launches.launch(made.id, store=store).attempts == 1, "silence alone is not the end of a job"
    monkeypatch.setattr(ray_drivers, "_GIVEN_UP_SECONDS", 0.0)
    until(lambda: launches.launch(made.id, store=store).state is LaunchState.QUEUED)
    cluster.silent = False
    assert job_of(running(store, made.id, attempts=2)) == job_id.replace("attempt-1", "attempt-2")


def test_what_the_cluster_could_not_read_is_refused(store: str, work: Callable[..., Any], cluster: FakeCluster) -> None:
    made = enqueue(store, data={"kind": "cifar10", "root": "images"})
    work()
    found = ended(store, made.id)
    assert found.state is LaunchState.FAILED
    assert "data do not travel" in found.message
    assert cluster.jobs == {}


def test_launches_of_other_stores_have_other_jobs(tmp_path: Path, cluster: FakeCluster) -> None:
    for name in ("a.db", "b.db"):
        url = f"sqlite:///{tmp_path / name}"
        ray_drivers.RayJobDrivers(url, cluster.address).start(enqueue(url))
    assert len(cluster.jobs) == 2


def test_an_address_that_is_none(store: str) -> None:
    with pytest.raises(ConfigError, match="no address of a job server"):
        Worker(store, ray_address="ray://head:10001")


def test_a_server_says_what_is_wrong_with_the_address(
    store: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from autoprune.cli.main import main

    arguments = ["serve", "--store", store, "--port", "0", "--ray-address"]
    for address, said in (("head:port", "'head:port' is no address"), ("http://head:8265", "cannot be read")):
        with pytest.raises(SystemExit) as leaving:
            main([*arguments, address])
        assert leaving.value.code == 2
        assert said in capsys.readouterr().err
        monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", "/no/token")
