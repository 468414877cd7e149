"""Faults of a store on a PostgreSQL server: outages, a storm of restarts, connections cut at random.

Drivers are processes of their own (faults_drive.py); the server is started here (testing/postgres_server.py).
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from faults_stores import StoreBench, bench, clocks, survived, writers
from faults_watch import RAY, end

from autoprune.testing.postgres_server import PostgresServer

__all__ = ["cut", "outage", "server_clocks", "server_writers", "storm"]

SERIAL = {"kind": "serial"}


@contextmanager
def _searching(trials: int, executor: Any) -> Iterator[tuple[PostgresServer, StoreBench, Any]]:
    """A server, a bench on it, and a driver that has finished a tenth of its trials."""
    with PostgresServer() as server, bench(server.new_database()) as place:
        spec: dict[str, Any] = {"assets": {"seconds": [0.02, 0.05]}, "session": {"trials": trials}}
        driver = place.start(executor=executor, **spec)
        place.wait_for(lambda: place.finished() >= trials // 10, driver)
        place.look()
        yield server, place, driver


def _judged(place: StoreBench, driver: Any, trials: int, **more: Any) -> dict[str, Any]:
    alive = driver.poll() is None
    code, _, err = end(driver)
    found = place.verdict(trials)
    said = [line.replace(place.url.rpartition("@")[2], "SERVER") for line in err.splitlines() if line.strip()]
    errors = sum(line.startswith("error") or "Traceback" in line for line in said)
    done = {"driver_alive_after": alive, "exit_code": code, "errors_to_the_user": errors, "lines_said": len(said)}
    return {**more, **done, "said": said[:2], "survived": survived(found) and code == 0, **found}


def outage(seconds: float = 30.0, trials: int = 300, executor: Any = RAY, how: str = "immediate") -> dict[str, Any]:
    """R8: the server goes away in mid-search (``immediate`` as in a crash, ``kill`` by SIGKILL), and comes back."""
    with _searching(trials, executor) as (server, place, driver):
        before = place.finished()
        server.kill() if how == "kill" else server.stop(immediate=True)
        time.sleep(seconds)
        server.start()
        began = time.monotonic()
        place.wait_for(lambda: place.finished() > before + 2, driver)
        after = round(time.monotonic() - began, 2)
        return _judged(place, driver, trials, how=how, down_seconds=seconds, first_result_after_seconds=after)


def _again_and_again(
    act: Callable[[PostgresServer], object], times: int, pause: float, trials: int, executor: Any
) -> dict[str, Any]:
    rng = random.Random(0)
    with _searching(trials, executor) as (server, place, driver):
        done = 0
        for _ in range(times):
            if driver.poll() is not None:
                break
            act(server)
            done += 1
            time.sleep(pause * rng.uniform(0.5, 1.5))
        return _judged(place, driver, trials, faults=done)


def storm(restarts: int = 10, trials: int = 900, executor: Any = SERIAL) -> dict[str, Any]:
    """R8: the server crashes and restarts, again and again."""

    def restart(server: PostgresServer) -> None:
        server.stop(immediate=True)
        server.start()

    return _again_and_again(restart, restarts, 1.0, trials, executor)


def cut(times: int = 50, trials: int = 700, executor: Any = SERIAL) -> dict[str, Any]:
    """R8: every connection is ended by pg_terminate_backend, at random moments."""
    return _again_and_again(lambda server: server.cut_connections(), times, 0.3, trials, executor)


def server_writers(processes: int = 16, transactions: int = 200, pause: float = 0.0) -> dict[str, Any]:
    """Processes that write to one server at once."""
    with PostgresServer() as server:
        return writers(processes, transactions, pause, server.new_database())


def server_clocks(jumps: tuple[float, ...] = (3600.0, -3600.0, 86400.0, -86400.0)) -> dict[str, Any]:
    """The driver's clock jumps; leases and times are the server's."""
    with PostgresServer() as server:
        return clocks(jumps, new_store=server.new_database)
