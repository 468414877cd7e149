"""A small store, and an application over it that is asked in process."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from autoprune.service.app import create_app
from autoprune.service.run import Server, listen
from autoprune.service.settings import Limits, Settings
from autoprune.store import new_owner, open_store
from autoprune.types import Candidate, SearchState, Trial, TrialState

BASELINE = {"top1": 0.9, "loss": 0.3, "macs": 100.0, "params": 10.0}
CONFIG = {
    "objectives": ["top1 max", "macs min"],
    "constraints": [],
    "controller": {"kind": "random"},
    "limits": {"trials": 9},
}
# number -> top1, macs; 3 is stopped, 4 failed, 5 has a loss that is not a number
MEASURED = {0: (0.9, 100.0), 1: (0.8, 60.0), 2: (0.5, 60.0), 3: (0.1, 50.0), 5: (0.7, 40.0), 6: (0.6, 45.0)}


def fill(url: str, name: str = "s") -> None:
    with open_store(url) as opened:
        channels = {"a": 8, "b": 16}
        opened.create_search(
            name, config=CONFIG, digest="d", evaluation_digest="e", baseline=BASELINE, channels=channels
        )
        lease = opened.claim(name, owner=new_owner(), ttl_seconds=60)
        for number in range(7):
            note = {"origin": "uniform"} if number == 1 else {}
            widths = {"a": 8 - number, "b": 16}
            trial = Trial(number, Candidate(widths), TrialState.RUNNING, note=note, started_at=100.0 + number)
            opened.start_trial(lease, trial)
            opened.finish_trial(lease, ended(trial), {})
        opened.set_search_state(name, SearchState.COMPLETE, lease=lease)
        opened.release(lease)


def ended(trial: Trial) -> Trial:
    number, state = trial.number, {3: TrialState.STOPPED, 4: TrialState.FAILED}
    top1, macs = MEASURED.get(number, (0.0, 0.0))
    metrics = {} if number == 4 else {"top1": top1, "macs": macs, "params": macs / 10, "loss": float("nan")}
    reason = "<script>alert(1)</script>" if number == 4 else ""
    return Trial(
        number,
        trial.candidate,
        state.get(number, TrialState.COMPLETE),
        metrics,
        reason,
        started_at=trial.started_at,
        finished_at=200.0 + number,
    )


@pytest.fixture
def store(tmp_path: Path) -> str:
    url = f"sqlite:///{tmp_path / 'a.db'}"
    fill(url)
    return url


@pytest.fixture
def serve(store: str, tmp_path: Path) -> Iterator[Callable[..., TestClient]]:
    """Make a client of an application with settings of its own; ``launching`` starts what runs launches."""
    opened = []

    def make(**settings: Any) -> TestClient:
        chosen = {"store": store, "data_root": tmp_path / "data", "output": tmp_path / "out", "parallel": 0}
        chosen["limits"] = Limits(launches_per_minute=10_000)
        client = TestClient(
            create_app(Settings(**{**chosen, **settings})),
            base_url="http://127.0.0.1:8642",
            raise_server_exceptions=False,
        )
        client.__enter__()
        opened.append(client)
        return client

    yield make
    for client in opened:
        client.__exit__(None, None, None)


@pytest.fixture
def client(serve: Callable[..., TestClient]) -> TestClient:
    return serve()


@pytest.fixture
def listening(store: str, tmp_path: Path) -> Iterator[Callable[..., str]]:
    """Serve on a socket of this process; gives the URL."""
    running: list[tuple[Server, threading.Thread]] = []

    def start(**settings: Any) -> str:
        (tmp_path / "data").mkdir(exist_ok=True)
        chosen = {"store": store, "data_root": tmp_path / "data", "output": tmp_path / "out", "parallel": 0}
        chosen["limits"] = Limits(launches_per_minute=10_000)
        app = create_app(Settings(**{**chosen, **settings}))
        socket = listen("127.0.0.1", 0)
        server = Server(app, log_level="error", timeout_graceful_shutdown=1)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [socket]})
        thread.start()
        running.append((server, thread))
        while not server.started:
            time.sleep(0.01)
        return f"http://127.0.0.1:{socket.getsockname()[1]}"

    yield start
    for server, thread in running:
        server.should_exit = True
        thread.join()
