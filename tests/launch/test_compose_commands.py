"""What compose.yaml runs, run: its commands as processes of this machine, with a PostgreSQL server of the tests' own.

Addresses, ports and folders of the containers are replaced by ours; nothing else is. On this stand: a search is
submitted, one is launched by the service, which is killed meanwhile, and one goes on when the Ray cluster was lost.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

import autoprune
from autoprune import api
from autoprune.store import open_store
from autoprune.testing.postgres_server import PostgresServer
from autoprune.testing.ray_nodes import RayNode
from autoprune.types import LaunchState, SearchState
from tests.launch.stand_ins import _APART, install

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1500)]
ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "launch" / "cluster"
SPACE = {"model": {"kind": "builtin", "name": "resnet8"}, "data": {"kind": "digits"}}


class Stand:
    """Services of the compose file as sessions of processes."""

    def __init__(self, folder: Path, server: PostgresServer) -> None:
        self.folder = folder
        self.services = yaml.safe_load((FOLDER / "compose.yaml").read_text())["services"]
        self.running: dict[str, RayNode] = {}
        self.url = server.new_database()
        self.password = server.password
        self.gcs, self.jobs, self.page = free_port(), free_port(), free_port()
        database = self.url.rpartition("/")[2]
        self._ours = {
            "postgresql://autoprune@postgres/autoprune": f"postgresql://autoprune@127.0.0.1:{server.port}/{database}",
            "http://head:8265": f"http://127.0.0.1:{self.jobs}",
            "--address=head:6379": f"--address=127.0.0.2:{self.gcs}",
            "127.0.0.1:6379": f"127.0.0.2:{self.gcs}",
            "--port=6379": f"--port={self.gcs}",
            "8265": str(self.jobs),
            "8642": str(self.page),
            "0.0.0.0": "127.0.0.1",
            "/run/secrets": str(folder / "secrets"),
            "/state": str(folder / "state"),
        }
        for name in ("secrets", "state/results", "state/data"):
            (folder / name).mkdir(parents=True)
        (folder / "secrets" / "postgres_password").write_text(self.password)
        (folder / "secrets" / "ray_token").write_text(secrets.token_hex(32))
        install(folder / "bin")

    def start(self, service: str, ip: str = "") -> None:
        command = [self._mine(text) for text in self.services[service]["command"]]
        if command[:2] == ["ray", "start"]:
            command += [*_APART, f"--node-ip-address={ip}", f"--temp-dir={self.folder / ip}"]
        with (self.folder / f"{service}.log").open("ab") as log:
            process = subprocess.Popen(
                [str(FOLDER / "entrypoint.sh"), *command],
                cwd=self.folder / "state",
                env=self.environment(service),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self.running[service + ip] = RayNode(ip, process, self.folder / f"{service}.log")

    def start_ray(self) -> None:
        self.start("head", "127.0.0.2")
        self.wait_until_healthy("head")
        for last in (3, 4):
            self.start("worker", f"127.0.0.{last}")

    def kill(self, *services: str) -> None:
        for name in [name for name in self.running if name.startswith(services)]:
            node = self.running.pop(name)
            node.kill()
            node.process.wait()

    def kill_ray(self) -> None:
        self.kill("head", "worker")

    def wait_until_healthy(self, service: str, seconds: float = 180) -> None:
        """By the healthcheck of the compose file."""
        command = [self._mine(text) for text in self.services[service]["healthcheck"]["test"][1:]]
        deadline = time.monotonic() + seconds
        while subprocess.run(command, env=self.environment(service), capture_output=True).returncode:
            assert time.monotonic() < deadline, (self.folder / f"{service}.log").read_text()
            time.sleep(0.5)

    def environment(self, service: str) -> dict[str, str]:
        given = {key: self._mine(value) for key, value in self.services[service]["environment"].items()}
        gone = ("RAY_ADDRESS", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH", "PGPASSWORD", "AUTOPRUNE_STORE")
        base = {key: value for key, value in os.environ.items() if key not in gone}
        return {
            **base,
            "PATH": f"{self.folder / 'bin'}:{os.environ['PATH']}",
            "PYTHONPATH": str(ROOT),
            "OMP_NUM_THREADS": "1",
            "RAY_USAGE_STATS_ENABLED": "0",
            **given,
        }

    def measured(self, search: str) -> int:
        with contextlib.suppress(autoprune.errors.NotFound), open_store(self.url, read_only=True) as opened:
            return sum(trial.state.finished for trial in opened.trials(search))
        return 0

    def check(self, search: str, trials: int) -> None:
        with open_store(self.url, read_only=True) as opened:
            assert opened.search(search).state is SearchState.COMPLETE
            numbers = [trial.number for trial in opened.trials(search) if trial.state.finished]
        assert sorted(numbers) == list(range(trials))
        nodes = {figures.node.partition("/")[0] for figures in api.nodes(search, store=self.url)}
        assert nodes <= {"127.0.0.3", "127.0.0.4"}, "the head runs no trials, nor does any Ray but this one"

    def job_list(self) -> list[dict[str, Any]]:
        token = (self.folder / "secrets" / "ray_token").read_text()
        asked = urllib.request.Request(
            f"http://127.0.0.1:{self.jobs}/api/jobs/", headers={"authorization": f"Bearer {token}"}
        )
        with urllib.request.urlopen(asked, timeout=30) as answer:
            found: list[dict[str, Any]] = json.load(answer)
        return [job for job in found if job["type"] == "SUBMISSION"]

    def _mine(self, text: str) -> str:
        for theirs, ours in self._ours.items():
            text = text.replace(theirs, ours)
        return text


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


@pytest.fixture
def stand() -> Iterator[Stand]:
    pytest.importorskip("aiohttp", reason="the job server needs ray[default]: pip install 'autoprune[cluster]'")
    pytest.importorskip("psycopg", reason="pip install 'autoprune[postgres]'")
    folder = Path(f"/tmp/apc{os.getpid()}")  # short: Ray's sockets lie below
    folder.mkdir()
    try:
        with PostgresServer() as server:
            made = Stand(folder, server)
            try:
                made.start_ray()
                made.start("service")
                made.wait_until_healthy("service")
                yield made
            finally:
                made.kill("")
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def until(condition: Callable[[], object], seconds: float = 400) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.2)


def test_the_deployment(stand: Stand) -> None:
    submitting(stand)
    tokens = (stand.folder / "state" / "tokens.txt").read_text().splitlines()
    token = next(line.split()[1] for line in tokens if line.startswith("launch "))
    with autoprune.Client(f"http://127.0.0.1:{stand.page}", token) as client:
        a_service_that_is_killed(stand, client)
        a_cluster_that_is_lost(stand, client)
    shown = json.dumps(stand.job_list())
    shown += "".join(path.read_text() for path in stand.folder.glob("*.log"))
    assert stand.password not in shown
    assert "launch-" in shown


def submitting(stand: Stand) -> None:
    command = [sys.executable, "-m", "autoprune", "submit", "launch/quickstart.yaml"]
    command += ["--address", f"http://127.0.0.1:{stand.jobs}", "--set", "limits.trials=6", "--set", "name=submitted"]
    environment = {key: value for key, value in stand.environment("worker").items() if key != "AUTOPRUNE_STORE"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=400)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "submitted: " in done.stdout
    assert "the one that AUTOPRUNE_STORE names on the head node" in done.stderr
    stand.check("submitted", 6)


def a_service_that_is_killed(stand: Stand, client: autoprune.Client) -> None:
    launch = client.launch({"name": "adopted", "space": SPACE, "limits": {"trials": 16}})
    until(lambda: stand.measured("adopted") >= 2)
    stand.kill("service")
    stand.start("service")
    stand.wait_until_healthy("service")
    until(lambda: client.launches("adopted")[0].state.ended)
    found = client.launches("adopted")[0]
    assert found.state is LaunchState.COMPLETE, found.message
    assert sum(job["metadata"].get("launch") == str(launch.id) for job in stand.job_list()) == 1
    log = client.log(launch.id)
    assert log.count("Running entrypoint") == 1
    assert "16 trials; report, plot and table are in" in log
    stand.check("adopted", 16)


def a_cluster_that_is_lost(stand: Stand, client: autoprune.Client) -> None:
    launch = client.launch({"name": "moved", "space": SPACE, "limits": {"trials": 50}})
    until(lambda: stand.measured("moved") >= 2)
    stand.kill_ray()
    before = stand.measured("moved")
    assert before < 50
    stand.start_ray()
    until(lambda: client.launches("moved")[0].state.ended)
    found = client.launches("moved")[0]
    assert found.state is LaunchState.COMPLETE, found.message
    (job,) = stand.job_list()
    assert job["submission_id"].endswith(f"-launch-{launch.id}-attempt-2")
    stand.check("moved", 50)
