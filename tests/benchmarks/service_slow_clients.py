"""Clients that send a byte a second, or take no answers: what a server of ``autoprune serve`` holds against them.

    python tests/benchmarks/service_slow_clients.py results/service-security/result.json [--connections 200]

The server runs in a process of its own with its usual limits, but for those of rates. For three quarters of a minute
each, connections from one address send heads, send bodies, or ask for answers that they do not read; closed ones are
opened anew. A client at the same address asks for a page of trials meanwhile, on a connection of its own each time.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import socket
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from tests.benchmarks.service_security import Server, server  # noqa: E402

HEAD = b"GET /api/v1/searches HTTP/1.1\r\nHost: 127.0.0.1\r\nX-Slow: "
BODY = b"POST /api/v1/validate HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: text/yaml\r\nContent-Length: 100000\r\n\r\n"
ANSWERS = 300 * b"GET /api/v1/openapi.json HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
SECONDS = 45.0


class Crowd:
    """Connections that begin with the same bytes; those that were closed begin again."""

    def __init__(self, url: str, start: bytes, count: int, *, reads: bool = True) -> None:
        self._where, self._start, self._reads = urlsplit(url), start, reads
        self._open: list[tuple[socket.socket, float]] = []
        self._count = count
        self.closed: list[float] = []

    def step(self) -> None:
        """A byte of each, and new ones in the place of those that are gone."""
        still = []
        for made, since in self._open:
            try:
                if self._reads:
                    made.send(b"x")
                    made.recv(4096)
                elif made.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) or not made.send(b"\r\n"):
                    raise OSError
            except BlockingIOError:
                still.append((made, since))
            except OSError:
                made.close()
                self.closed.append(time.monotonic() - since)
            else:
                if self._reads:
                    made.close()
                    self.closed.append(time.monotonic() - since)
                else:
                    still.append((made, since))
        while len(still) < self._count:
            made = socket.socket()
            if not self._reads:
                made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            made.settimeout(10)
            made.connect((self._where.hostname, self._where.port))
            made.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                made.send(self._start)
            still.append((made, time.monotonic()))
        self._open = still

    def close(self) -> None:
        for made, _ in self._open:
            made.close()


def attack(made: Server, start: bytes, connections: int, *, reads: bool = True) -> dict[str, Any]:
    """Some time of it, with small requests and the memory meanwhile."""
    crowd, before, peak = Crowd(made.url, start, connections, reads=reads), made.rss_mb(), 0.0
    times, refused, began = [], 0, time.monotonic()
    while time.monotonic() - began < SECONDS:
        crowd.step()
        for _ in range(5):
            asked = time.perf_counter()
            try:
                refused += httpx.get(f"{made.url}/api/v1/searches/s/trials", timeout=10).status_code != 200
            except httpx.HTTPError:
                refused += 1
            times.append(1000 * (time.perf_counter() - asked))
            time.sleep(0.18)
        peak = max(peak, made.rss_mb())
    crowd.close()
    return {
        "connections": connections,
        "closed_by_the_server": len(crowd.closed),
        "median_seconds_until_closed": round(statistics.median(crowd.closed), 1) if crowd.closed else None,
        "requests_beside": len(times),
        "refused_beside": refused,
        "median_ms": round(statistics.median(times), 1),
        "p99_ms": round(sorted(times)[int(0.99 * (len(times) - 1))], 1),
        "memory_growth_mb": round(peak - before, 1),
    }


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("out", type=Path)
    parser.add_argument("--connections", type=int, default=200)
    parser.add_argument("--only", default="", help="some of: nobody,heads,bodies,answers_not_read")
    given = parser.parse_args()
    kinds: dict[str, Callable[[Server], dict[str, Any]]] = {
        "nobody": lambda made: attack(made, b"", 0),
        "heads": lambda made: attack(made, HEAD, given.connections),
        "bodies": lambda made: attack(made, BODY, given.connections),
        "answers_not_read": lambda made: attack(made, ANSWERS, given.connections // 10, reads=False),
    }
    found = json.loads(given.out.read_text()) if given.out.exists() else {}
    result = found.setdefault("slow_clients", {"what": "Clients that send a byte a second, or take no answers."})
    for kind in given.only.split(",") if given.only else kinds:
        with server() as made:
            result[kind] = {"load": round(os.getloadavg()[0], 1), **kinds[kind](made)}
        sys.stderr.write(f"{kind}: {json.dumps(result[kind])}\n")
        given.out.write_text(json.dumps(found, indent=2) + "\n")


if __name__ == "__main__":
    main()
