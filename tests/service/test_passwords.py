"""The password of a store's URL: in no answer, message, file, stored row or list of processes."""

from __future__ import annotations

import json
import logging
import socket
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from autoprune.api import launches
from autoprune.api.artifacts import Exporter
from autoprune.api.working import Worker
from autoprune.cli.main import main
from autoprune.config.loading import load_search
from autoprune.config.schema import SearchConfig
from autoprune.service.run import _welcome
from autoprune.service.settings import Settings
from autoprune.store import open_store
from autoprune.testing.postgres_server import PostgresServer
from autoprune.types import LaunchState
from tests.service.conftest import fill

SEARCH = {"name": "new", "space": "search_spaces/digits_resnet8.yaml", "controller": {"kind": "random"}}
DRIVER = """
import os, sys
print("arguments", sys.argv[1:], "store given", bool(os.environ.get("AUTOPRUNE_STORE")))
sys.exit(2)
"""


@pytest.fixture
def store(postgres_url: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> str:
    """In place of the file that the fixture ``serve`` serves."""
    for place in ("launches", "artifacts"):
        monkeypatch.setattr(f"autoprune.api.{place}.store_file", lambda url: tmp_path / "beside.db")
    fill(postgres_url)
    return postgres_url


def secrets(server: PostgresServer) -> list[str]:
    return [server.password, server.password.split("/")[1]]


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    with pytest.raises(SystemExit):
        main(arguments)
    return "".join(capsys.readouterr())


def test_no_command_prints_it(
    store: str, postgres: PostgresServer, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("autoprune.store.connect.OPENING_SECONDS", 0.0)
    wrong = postgres.url_of("nowhere")
    said = ""
    for url in (store, wrong, store.replace("127.0.0.1", "no.host.invalid"), store.replace("postgresql:", "mysql:")):
        monkeypatch.setenv("AUTOPRUNE_STORE", url)
        for command in (
            ["searches", "--format", "json"],
            ["trials", "s", "--format", "json"],
            ["front", "s"],
            ["front", "none"],
            ["select", "s", "--where", "macs <= 0.6 * baseline"],
            ["resume", "none"],
            ["delete", "none", "--yes"],
            ["--debug", "searches"],
        ):
            said += run(capsys, *command)
    assert "'postgresql://autoprune:***@127.0.0.1" in said
    assert "no such database" in said
    for secret in secrets(postgres):
        assert secret not in said


def test_no_answer_of_the_service_has_it(
    store: str, postgres: PostgresServer, serve: Callable[..., TestClient], capsys: pytest.CaptureFixture[str]
) -> None:
    client = serve(spaces=Path("search_spaces").resolve())
    paths = ["", "/s", "/s/trials", "/s/front", "/s/select?where=macs<=60", "/s/history", "/none"]
    said = "".join(client.get(f"/api/v1/searches{path}").text for path in paths)
    made = client.post("/api/v1/launches", json=SEARCH)
    assert made.status_code in (200, 201, 202), made.text
    said += made.text + client.get("/api/v1/launches").text + client.get("/metrics").text
    with open_store(store) as opened:
        config = load_search({**SEARCH, "store": store})
        assert config.store == store
        opened.create_search(
            "kept", config=config.model_dump(mode="json"), digest="d", evaluation_digest="e", baseline={}
        )
        assert opened.config("kept")["store"].startswith("postgresql://autoprune:***@")
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        _welcome(Settings(store=store), listening, None)
    said += capsys.readouterr().err
    assert "autoprune serves postgresql://autoprune:***@" in said
    for secret in secrets(postgres):
        assert secret not in said


def test_no_process_is_started_with_it(
    store: str, postgres: PostgresServer, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    launch = launches.enqueue(load_search(SEARCH), store=store)
    said: list[str] = []
    with caplog.at_level(logging.DEBUG):
        Worker(store, command=[sys.executable, "-c", DRIVER], say=said.append).run(until_idle=True)
    log = launches.log_file(launch.id, store=store).read_text()
    assert f"arguments ['{launch.id}'] store given True" in log
    with open_store(store) as opened:
        exporter = Exporter(store, command=[sys.executable, "-c", "import sys; sys.exit(str(sys.argv))"])
        made = exporter.start(opened.search("s"), opened.trial("s", 0), format="onnx")
        exporter._pool.shutdown()
        message = exporter.find(made.id).message
    exporter.close()
    assert "'--format', 'onnx'" in message
    assert launches.launch(launch.id, store=store).state is LaunchState.FAILED
    everything = (
        log + message + caplog.text + "".join(said) + json.dumps(dict(launches.launch(launch.id, store=store).config))
    )
    for secret in secrets(postgres):
        assert secret not in everything


def test_a_configuration_in_hand_keeps_it() -> None:
    url = "postgresql://me:secret@host/db"
    config = load_search({**SEARCH, "store": url})
    assert config.store == url
    assert load_search(config).store == url
    assert load_search(config, ["seed=3"]).store == url
    assert config.model_dump()["store"] == url
    assert config.model_dump(mode="json")["store"] == "postgresql://me:***@host/db"
    assert SearchConfig.model_validate(config.model_dump()).digest() == config.digest()
