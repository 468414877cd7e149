"""``autoprune submit`` from the command line, against a stand-in for the cluster; and what the job does there."""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from autoprune.api import submitting
from autoprune.cli.main import main
from autoprune.cli.progress import SilentProgress
from autoprune.cluster.jobs import Unreachable
from autoprune.errors import ConfigError, NotFound
from autoprune.store import new_owner, open_store
from tests.jobs.fake_job_server import FakeCluster

STORE = "sqlite:////data/autoprune.db"
SPACE = {"model": {"kind": "builtin", "name": "resnet8"}, "data": {"kind": "digits"}}


@pytest.fixture
def launch(tmp_path: Path) -> str:
    path = tmp_path / "s.yaml"
    path.write_text(json.dumps({"name": "s", "space": SPACE, "executor": {"kind": "ray", "address": "10.0.0.1:6379"}}))
    return str(path)


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Callable[..., SimpleNamespace]:
    def call(*arguments: str) -> SimpleNamespace:
        with pytest.raises(SystemExit) as leaving:
            main(["submit", *arguments])
        said = capsys.readouterr()
        return SimpleNamespace(code=leaving.value.code or 0, out=said.out, err=said.err)

    return call


def ending(cluster: FakeCluster, state: str, text: str = "", **details: Any) -> threading.Thread:
    """End the one job as soon as it is there."""

    def wait() -> None:
        while not cluster.jobs:
            time.sleep(0.01)
        (job_id,) = cluster.jobs
        cluster.logs[job_id] += text
        cluster.end(job_id, state, **details)

    thread = threading.Thread(target=wait)
    thread.start()
    return thread


# --- submitting ------------------------------------------------------------------------------------------------------


def test_a_search_that_is_done(cluster: FakeCluster, launch: str, run: Callable[..., Any]) -> None:
    thread = ending(cluster, "SUCCEEDED", "the front\n", driver_exit_code=0)
    found = run(launch, "--address", cluster.address, "--store", STORE, "--set", "limits.trials=7")
    thread.join()
    assert found.code == 0
    (job_id,) = cluster.jobs
    assert found.out == f"Running entrypoint for job {job_id}\nthe front\n"
    assert f"as job {job_id}" in found.err
    assert "/data/autoprune.db on the head node" in found.err
    files = cluster.files(job_id)
    sent = json.loads(files["submission.json"])
    assert sent["store"] == STORE
    assert (sent["config"]["limits"]["trials"], sent["config"]["executor"]["address"]) == (7, None)
    assert "autoprune/cli/submit.py" in files
    assert cluster.jobs[job_id]["entrypoint"] == "exec python -m autoprune run-submission"


@pytest.mark.parametrize(
    ("state", "details", "code", "said"),
    [
        ("FAILED", {"driver_exit_code": 5}, 5, "its log says why"),
        ("FAILED", {"driver_exit_code": -9}, 4, "killed by signal 9.\nhint: Submit the search again"),
        ("FAILED", {"message": "Its node died.", "error_type": "JOB_SUPERVISOR_ACTOR_DIED"}, 4, "lost: Its node died."),
        (
            "FAILED",
            {"message": "setup failed\nOSError: no disk", "error_type": "RUNTIME_ENV_SETUP_FAILURE"},
            4,
            "could not begin job",
        ),
        ("STOPPED", {"driver_exit_code": None}, 130, "was stopped"),
    ],
)
def test_the_exit_code_is_that_of_the_search(
    cluster: FakeCluster,
    launch: str,
    run: Callable[..., Any],
    state: str,
    details: dict[str, Any],
    code: int,
    said: str,
) -> None:
    thread = ending(cluster, state, **details)
    found = run(launch, "--address", cluster.address, "--store", STORE)
    thread.join()
    assert found.code == code
    assert said in found.err


def test_json_and_not_waiting(cluster: FakeCluster, launch: str, run: Callable[..., Any]) -> None:
    made = json.loads(run(launch, "--address", cluster.address, "--store", STORE, "--no-wait", "--json").out)
    assert made == {"id": next(iter(cluster.jobs)), "search": "s", "state": "submitted", "exit_code": None}
    cluster.end(made["id"], "FAILED", driver_exit_code=3)
    followed = run("--follow", made["id"], "--address", cluster.address, "--json")
    assert json.loads(followed.out) == {"id": made["id"], "search": "s", "state": "failed", "exit_code": 3}
    assert "Running entrypoint" in followed.err
    assert followed.code == 3


def test_ctrl_c_ends_the_following_alone(
    cluster: FakeCluster, launch: str, run: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(_: float) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(submitting, "time", SimpleNamespace(**{**vars(time), "sleep": interrupt}))
    found = run(launch, "--address", cluster.address, "--store", STORE)
    (job_id,) = cluster.jobs
    assert found.code == 130
    assert f"autoprune submit --follow {job_id} --address {cluster.address}" in found.err
    assert f"autoprune submit --stop {job_id} --address {cluster.address}" in found.err
    assert cluster.stopped == []
    assert run("--stop", job_id, "--address", cluster.address).code == 0
    assert cluster.stopped == [job_id]
    assert "had ended" in run("--stop", job_id, "--address", cluster.address).err


def test_a_password_is_in_no_argument_no_variable_and_no_message(
    cluster: FakeCluster, launch: str, run: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    url = "postgresql://me:hidden@db/autoprune"
    monkeypatch.setenv("AUTOPRUNE_STORE", url)
    found = run(launch, "--address", cluster.address, "--no-wait", "--json")
    (job,) = cluster.jobs.values()
    assert "hidden" not in json.dumps(job) + found.out + found.err
    assert "postgresql://me:***@db/autoprune" in found.err
    files = cluster.files(job["submission_id"])
    assert json.loads(files.pop("submission.json"))["store"] == url
    assert not any(b"me:hidden@db/autoprune" in content for content in files.values())


def test_without_a_store_the_cluster_names_one(cluster: FakeCluster, launch: str, run: Callable[..., Any]) -> None:
    found = run(launch, "--address", cluster.address, "--no-wait")
    assert "the one that AUTOPRUNE_STORE names on the head node" in found.err
    assert json.loads(cluster.files(next(iter(cluster.jobs)))["submission.json"])["store"] is None


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--store", "sqlite:///results/autoprune.db"], "is a relative path"),
        (["--set", "limits.trails=3"], "unknown key 'limits.trails'"),
        (["--follow", "job"], "expected one of CONFIG"),
        (["--include", "none.py"], "no such file"),
    ],
)
def test_mistakes_are_found_before_anything_is_sent(
    cluster: FakeCluster, launch: str, run: Callable[..., Any], arguments: list[str], said: str
) -> None:
    found = run(launch, "--address", cluster.address, *arguments)
    assert found.code == 2
    assert said in found.err
    assert cluster.jobs == {}


def test_no_cluster_is_named(launch: str, run: Callable[..., Any]) -> None:
    assert (found := run(launch)).code == 2
    assert "Pass --address" in found.err
    assert run(launch, "--address", "http://127.0.0.1:1", "--store", STORE).code == 4


# --- following -------------------------------------------------------------------------------------------------------


def test_a_silence_is_waited_out_and_nothing_is_written_twice(cluster: FakeCluster) -> None:
    cluster.answer("POST", "/api/jobs/", json.dumps({"submission_id": "j", "runtime_env": {}}).encode())
    written: list[str] = []
    said: list[str] = []

    def write(text: str) -> None:
        written.append(text)
        if len(written) == 1:
            cluster.silent = True

    def say(text: str) -> None:
        said.append(text)
        cluster.silent = False
        cluster.logs["j"] += "more\n"
        cluster.end("j")

    job = submitting.follow("j", address=cluster.address, write=write, say=say)
    assert (written, job.state.value) == (["Running entrypoint for job j\n", "more\n"], "SUCCEEDED")
    assert "does not answer; asking again" in said[0]


def test_a_long_silence_is_an_error_and_a_new_head_node_knows_no_job(cluster: FakeCluster) -> None:
    cluster.silent = True
    with pytest.raises(Unreachable):
        submitting.follow("j", address=cluster.address, write=print, patience_seconds=0.05)
    cluster.silent = False
    with pytest.raises(NotFound, match="goes on where it stopped"):
        submitting.follow("j", address=cluster.address, write=print)


# --- what the job does -----------------------------------------------------------------------------------------------


@pytest.fixture
def searched(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, str]]:
    calls: list[tuple[Any, str]] = []

    def search(config: Any, *, store: str, progress: Any) -> str:
        calls.append((config, store))
        return "result"

    monkeypatch.setattr("autoprune.api.searching.search", search)
    return calls


def submission(folder: Path, store: str | None, **content: Any) -> Path:
    config = {"name": "s", "space": SPACE, **content}
    (folder / "submission.json").write_text(json.dumps({"config": config, "store": store}))
    return folder


def test_a_job_joins_its_cluster_and_keeps_its_report(
    tmp_path: Path, searched: list[tuple[Any, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "10.0.0.1:6379")
    monkeypatch.delenv("AUTOPRUNE_RAY_ADDRESS", raising=False)
    url = f"sqlite:///{tmp_path / 'kept' / 'a.db'}"
    submitting.run_submission(submission(tmp_path, url), SilentProgress())
    config, store = searched[0]
    assert store == url
    assert config.output == str(tmp_path / "kept" / "results")
    assert config.executor.address is None, "what is recorded names no cluster"
    assert os.environ.pop("AUTOPRUNE_RAY_ADDRESS") == "10.0.0.1:6379"


def test_a_job_uses_the_store_of_its_cluster(
    tmp_path: Path, searched: list[tuple[Any, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    submission(tmp_path, None, output="/reports")
    with pytest.raises(ConfigError, match="head node has no AUTOPRUNE_STORE"):
        submitting.run_submission(tmp_path, SilentProgress())
    monkeypatch.setenv("AUTOPRUNE_STORE", f"sqlite:///{tmp_path / 'b.db'}")
    submitting.run_submission(tmp_path, SilentProgress())
    config, store = searched[0]
    assert (store, config.output) == (f"sqlite:///{tmp_path / 'b.db'}", "/reports")


def test_a_job_waits_for_the_lease_of_a_lost_driver(tmp_path: Path, searched: list[tuple[Any, str]]) -> None:
    url = f"sqlite:///{tmp_path / 'a.db'}"
    with open_store(url) as opened:
        opened.create_search("s", config={}, digest="d", evaluation_digest="e", baseline={}, channels={})
        opened.claim("s", owner=new_owner(), ttl_seconds=1.0)
    began = time.monotonic()
    submitting.run_submission(submission(tmp_path, url), SilentProgress())
    assert time.monotonic() - began > 0.3
    assert len(searched) == 1


def test_outside_of_a_job_there_is_nothing_to_run(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"no submission\.json here: this command is run by a cluster"):
        submitting.run_submission(tmp_path, SilentProgress())


def test_a_search_without_an_address_joins_the_cluster_that_the_variable_names(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from autoprune.config.schema import RayExecutorConfig
    from autoprune.executors import ray_cluster

    joined: list[str] = []
    monkeypatch.setattr(ray_cluster, "_join", lambda config, address, training: joined.append(address))
    monkeypatch.setattr(ray_cluster, "_start", lambda folder: joined.append("own"))
    for named in ("10.0.0.1:6379", ""):
        monkeypatch.setenv("AUTOPRUNE_RAY_ADDRESS", named)
        for config in (RayExecutorConfig(), RayExecutorConfig(address="10.0.0.2:6379")):
            with ray_cluster.connected(config):
                pass
    assert joined == ["10.0.0.1:6379", "10.0.0.2:6379", "own", "10.0.0.2:6379"]
