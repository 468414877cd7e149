"""Clients that send slowly, or do not take their answers, on real sockets: they do not keep others out."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Callable, Iterator
from urllib.parse import urlsplit

import httpx
import pytest

from autoprune.service.settings import Limits

SLOW = 200
HEAD = b"GET /api/v1/health HTTP/1.1\r\nHost: 127.0.0.1\r\n"
BODY = HEAD.replace(b"GET /api/v1/health", b"POST /api/v1/validate") + (
    b"Content-Type: application/yaml\r\nContent-Length: 500\r\n\r\n"
)
SOME = {"launches_per_minute": 10_000}


class Slow:
    """Connections that send a start at once and then a byte each, again and again."""

    def __init__(self, url: str, start: bytes, count: int = SLOW) -> None:
        where = urlsplit(url)
        self.open: dict[socket.socket, float] = {}
        self.lived: list[float] = []
        self.received: list[bytes] = []
        for _ in range(count):
            made = socket.create_connection((where.hostname, where.port))
            made.setblocking(False)
            made.send(start)
            self.open[made] = time.monotonic()

    def drip(self) -> None:
        """One more byte of each; those that the server closed are counted."""
        for each, since in list(self.open.items()):
            try:
                each.send(b"x")
                received = each.recv(1000)
            except BlockingIOError:
                continue
            except OSError:
                received = b""
            self.received.append(received)
            self.lived.append(time.monotonic() - since)
            each.close()
            del self.open[each]

    def close(self) -> None:
        for each in self.open:
            each.close()


@pytest.fixture
def slow() -> Iterator[Callable[..., Slow]]:
    made: list[Slow] = []

    def start(*arguments: object) -> Slow:
        made.append(Slow(*arguments))  # type: ignore[arg-type]
        return made[-1]

    yield start
    for each in made:
        each.close()


def test_slow_heads_are_cut_off(listening: Callable[..., str], slow: Callable[..., Slow]) -> None:
    url = listening(limits=Limits(head_seconds=2.0, waiting=50, **SOME))
    with httpx.Client(base_url=url) as kept:
        kept.get("/api/v1/health")
        many = slow(url, HEAD)
        until = time.monotonic() + 20
        while many.open and time.monotonic() < until:
            many.drip()
            assert kept.get("/api/v1/searches").status_code == 200
            assert httpx.get(f"{url}/api/v1/searches").status_code == 200, "a new connection too"
            time.sleep(0.1)
    assert not many.open
    assert sum(each < 1.9 for each in many.lived) >= SLOW - 50, "more than 50 at once made the oldest ones go"
    assert max(many.lived) >= 1.9


def test_slow_bodies_are_refused_where_they_are_many(listening: Callable[..., str], slow: Callable[..., Slow]) -> None:
    url = listening(limits=Limits(body_seconds=2.0, bodies=20, **SOME))
    many = slow(url, BODY, 60)
    refused = 0
    until = time.monotonic() + 20
    while many.open and time.monotonic() < until:
        many.drip()
        answer = httpx.post(f"{url}/api/v1/validate", content=b"name: x", headers={"content-type": "application/yaml"})
        assert answer.status_code == 200
        time.sleep(0.1)
    refused = sum(b" 408 " in each for each in many.received)
    assert (len(many.open), refused) == (0, 60)
    assert sum(each < 1.9 for each in many.lived) >= 40, "more than 20 at once made the oldest ones go"


def test_connections_between_requests_are_kept(listening: Callable[..., str]) -> None:
    url = listening(limits=Limits(head_seconds=0.3, **SOME))
    where = urlsplit(url)
    with socket.create_connection((where.hostname, where.port)) as one:
        for pause in (0.0, 0.6):
            time.sleep(pause)
            one.sendall(HEAD + b"\r\n")
            received = b""
            while b"}" not in received:
                received += one.recv(65536)
            assert received.startswith(b"HTTP/1.1 200")


def test_what_is_not_http_is_answered_like_any_mistake(listening: Callable[..., str]) -> None:
    where = urlsplit(listening())
    for wrong in (b"NONSENSE\r\n\r\n", HEAD + b"X: " + 70_000 * b"a", HEAD + b"Content-Length: x\r\n\r\n"):
        with socket.create_connection((where.hostname, where.port)) as one:
            one.sendall(wrong)
            head, _, body = b"".join(iter(lambda: one.recv(65536), b"")).partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 400"), wrong[:40]
        assert json.loads(body)["error"]["code"] == "bad_request"


def test_who_does_not_take_an_answer_is_cut_off(listening: Callable[..., str]) -> None:
    where = urlsplit(listening(limits=Limits(stalled_seconds=0.3, **SOME)))
    with socket.socket() as one:
        one.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        one.settimeout(60)
        one.connect((where.hostname, where.port))
        with pytest.raises(ConnectionError):
            one.sendall(300_000 * (HEAD.replace(b"health", b"openapi.json") + b"\r\n"))
