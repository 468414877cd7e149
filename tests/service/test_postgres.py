"""A PostgreSQL server that restarts under a service: said while it is down, and forgotten afterwards."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from autoprune.testing.postgres_server import PostgresMissing, PostgresServer
from tests.service.conftest import fill

FRONT = "/api/v1/searches/s/front?others=10"
PATHS = ("/api/v1/searches", FRONT, "/api/v1/searches/s/trials?sort=-top1", "/api/v1/launches", "/api/v1/metrics")


@pytest.fixture
def server() -> Iterator[PostgresServer]:
    try:
        with PostgresServer() as made:
            yield made
    except PostgresMissing as error:
        pytest.skip(str(error))


@pytest.mark.slow
@pytest.mark.timeout(240)
def test_a_restart_is_survived(server: PostgresServer, listening: Callable[..., str]) -> None:
    url = server.new_database()
    fill(url)
    base = listening(store=url)
    with httpx.Client(base_url=base, timeout=60) as client:
        before = {path: client.get(path) for path in PATHS}
        assert {answer.status_code for answer in before.values()} == {200}
        server.cut_connections(url)
        assert {client.get(path).status_code for path in PATHS} == {200}, "connections that are lost are made anew"
        server.stop(immediate=True)
        began = time.monotonic()
        with ThreadPoolExecutor(20) as threads:
            answers = list(threads.map(lambda path: httpx.get(base + path, timeout=60), 20 * PATHS[:-1]))
        assert time.monotonic() - began < 30
        for answer in answers:
            error = answer.json()["error"]
            assert (answer.status_code, error["code"]) == (503, "store_unavailable")
            assert server.password not in answer.text
            assert error["message"]
        assert client.get("/static/css/base.css").status_code == 200
        assert client.get("/api/v1/health").json()["store"] == "unavailable"
        with client.stream("GET", "/api/v1/events?once=true") as stream:
            assert "event: error" in stream.read().decode()
        server.start()
        time.sleep(1.1)
        for path in PATHS[:3]:
            assert client.get(path).json() == before[path].json()
        assert client.get("/api/v1/health").json()["store"] == "ok"
        posted = client.post("/api/v1/launches", content=LAUNCH, headers={"content-type": "text/yaml"})
        assert posted.status_code == 202, posted.text
        assert server.password not in client.get("/api/v1/searches/s").text


LAUNCH = "name: later\nspace: {model: {kind: builtin, name: resnet8}, data: {kind: digits}}\n"
