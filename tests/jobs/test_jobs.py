"""The client of a cluster's job server: what it asks, and what it says when the answer is no."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from autoprune.cluster.jobs import Job, JobState, RayJobs, Unreachable
from autoprune.errors import ConfigError, NotFound, ServiceError
from tests.jobs.fake_job_server import FakeCluster


def test_a_package_is_sent_once_and_a_job_once(cluster: FakeCluster) -> None:
    jobs = RayJobs(cluster.address)
    assert jobs.check() == "2.60.0"
    package = jobs.upload(b"archive")
    assert jobs.upload(b"archive") == package
    assert sum(request.startswith("PUT") for request in cluster.asked) == 1
    assert jobs.submit("a", "exec true", package, {"search": "s"})
    assert not jobs.submit("a", "exec true", package, {"search": "s"}), "it is there already"
    sent = cluster.jobs["a"]
    assert sent["runtime_env"]["working_dir"] == package
    assert sent["runtime_env"]["env_vars"]["RAY_JOB_STOP_SIGNAL"] == "SIGINT"
    assert jobs.job("a") == Job("a", JobState.RUNNING, metadata={"search": "s"})
    assert jobs.stop("a")
    assert not jobs.stop("a"), "it had ended"
    assert jobs.job("a").state is JobState.STOPPED


def test_a_job_that_is_not_known(cluster: FakeCluster) -> None:
    with pytest.raises(NotFound, match=r"knows no job 'x/y'.*goes on where it stopped"):
        RayJobs(cluster.address).job("x/y")
    assert cluster.asked == ["GET /api/jobs/x%2Fy"], "an id is no path"


def test_tokens(cluster: FakeCluster, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    cluster.token = "secret"
    with pytest.raises(ServiceError, match=r"asks for a token \(HTTP 401\).*Set RAY_AUTH_TOKEN"):
        RayJobs(cluster.address).check()
    folder = tmp_path / "home" / ".ray"
    folder.mkdir(parents=True)
    (folder / "auth_token").write_text("secret\n")
    RayJobs(cluster.address).check()
    (tmp_path / "token").write_text("other")
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(tmp_path / "token"))
    with pytest.raises(ServiceError, match=r"does not accept this token \(HTTP 403\)") as refused:
        RayJobs(cluster.address).check()
    assert "other" not in str(refused.value)
    monkeypatch.setenv("RAY_AUTH_TOKEN", "secret")
    RayJobs(cluster.address).check()
    monkeypatch.delenv("RAY_AUTH_TOKEN")
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(tmp_path / "none"))
    with pytest.raises(ConfigError, match=r"RAY_AUTH_TOKEN_PATH names .*No such file"):
        RayJobs(cluster.address)


@pytest.mark.parametrize("version", ["2.9.3", "1.13.0", ""])
def test_a_cluster_that_is_too_old(cluster: FakeCluster, version: str) -> None:
    cluster.version = version
    with pytest.raises(ConfigError, match=r"runs Ray .*autoprune needs 2\.40 or newer"):
        RayJobs(cluster.address).check()


@pytest.mark.parametrize("address", ["ray://head:10001", "auto", "", "http://", "head:port", "http://head:8265/?a=b"])
def test_addresses_that_are_none(address: str) -> None:
    with pytest.raises(ConfigError, match=r"is no address of a job server.*http://head:8265"):
        RayJobs(address)


def test_a_password_in_an_address_is_not_repeated() -> None:
    with pytest.raises(ConfigError) as refused:
        RayJobs("http://me:hidden@head:8265")
    assert "hidden" not in str(refused.value)


def test_nobody_answers(cluster: FakeCluster) -> None:
    with pytest.raises(Unreachable, match=r"no job server answers at http://127\.0\.0\.1:1"):
        RayJobs("127.0.0.1:1").check()
    cluster.silent = True
    with pytest.raises(Unreachable, match="HTTP 503"):
        RayJobs(cluster.address).check()


def test_another_kind_of_server(cluster: FakeCluster, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster, "answer", lambda *_: (200, "<html>hello"))
    with pytest.raises(ServiceError, match="no job server of Ray"):
        RayJobs(cluster.address).check()
    monkeypatch.setattr(cluster, "answer", lambda *_: (404, "Not Found"))
    with pytest.raises(ServiceError, match=r"HTTP 404: Not Found.*needs 'ray\[default\]'"):
        RayJobs(cluster.address).check()
    monkeypatch.setattr(cluster, "answer", lambda *_: (200, {"status": "SUSPENDED"}))
    with pytest.raises(ServiceError, match="a state that is not known here: 'SUSPENDED'"):
        RayJobs(cluster.address).job("a")


def test_a_job_that_is_refused(cluster: FakeCluster, monkeypatch: pytest.MonkeyPatch) -> None:
    text = "Traceback:\n  File ...\nValueError: entrypoint is empty\n.\n"
    monkeypatch.setattr(cluster, "answer", lambda *_: (400, text))
    with pytest.raises(ServiceError, match=r"refused the job: ValueError: entrypoint is empty"):
        RayJobs(cluster.address).submit("a", "", "gcs://p", {})


def test_too_many_files(cluster: FakeCluster, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("autoprune.cluster.jobs._MOST_BYTES", 3 * 2**20)
    with pytest.raises(ConfigError, match=r"have 4 MiB; a cluster takes 3 .*a disk that its nodes share"):
        RayJobs(cluster.address).upload(bytes(4 * 2**20))
    assert cluster.asked == []


def test_the_cause_is_the_line_that_names_an_error() -> None:
    message = (
        "runtime_env setup failed: Failed to set up runtime environment.\n[Node 10.0.0.1] Traceback (most recent):\n"
        '  File "packaging.py", line 957\nOSError: Failed to download package\nThen more.'
    )
    assert Job("a", JobState.FAILED, message=message).cause == "OSError: Failed to download package"
    assert Job("a", JobState.FAILED, message="Its node died.\nSorry.").cause == "Its node died."
    assert json.dumps(Job("a", JobState.FAILED).cause) == '"no reason is given."'
