"""What goes over a network is compressed where a client takes that, with tags of its own."""

from __future__ import annotations

from collections.abc import Callable

import httpx
import pytest
from fastapi.testclient import TestClient

from autoprune.store import open_store

STYLE = "/static/css/base.css"
SCHEMA = "/api/v1/schema"
FRONT = "/api/v1/searches/s/front?others=10"
PLAIN = {"accept-encoding": "identity"}


@pytest.mark.parametrize("path", [STYLE, SCHEMA, FRONT])
def test_compressed_and_plain_answers_are_told_apart(client: TestClient, path: str) -> None:
    small, plain = client.get(path, headers={"accept-encoding": "gzip"}), client.get(path, headers=PLAIN)
    assert small.content == plain.content
    assert (small.headers["content-encoding"], plain.headers.get("content-encoding")) == ("gzip", None)
    assert int(small.headers["content-length"]) < 0.7 * int(plain.headers["content-length"])
    assert small.headers["vary"] == plain.headers["vary"] == "Accept-Encoding"
    if path != SCHEMA:
        tags = small.headers["etag"], plain.headers["etag"]
        assert tags[0] == tags[1][:-1] + '-gzip"'
        for tag, accepted in zip(tags, ("gzip", "identity"), strict=True):
            again = client.get(path, headers={"if-none-match": tag, "accept-encoding": accepted})
            assert (again.status_code, again.headers["etag"], again.content) == (304, tag, b"")


def test_compressed_bytes_are_kept_for_their_tag_alone(client: TestClient, store: str) -> None:
    first = client.get(FRONT)
    with open_store(store) as opened:
        opened.add_metrics("s", 5, {"test_top1": 0.625})
    second = client.get(FRONT)
    assert first.headers["content-encoding"] == second.headers["content-encoding"] == "gzip"
    assert first.headers["etag"] != second.headers["etag"]
    assert second.json()["front"][0]["metrics"]["test_top1"] == 0.625


def test_short_answers_errors_and_heads_are_not_compressed(client: TestClient) -> None:
    for answer in (client.get("/api/v1/health"), client.get("/api/v1/searches/no"), client.head(STYLE)):
        assert "content-encoding" not in answer.headers


def test_clients_on_this_machine_get_the_api_as_it_is(listening: Callable[..., str]) -> None:
    url = listening()
    assert "content-encoding" not in httpx.get(url + SCHEMA).headers
    assert httpx.get(url + STYLE).headers["content-encoding"] == "gzip"
    assert httpx.get(listening(compress_here=True) + SCHEMA).headers["content-encoding"] == "gzip"
