"""PostgreSQL beside SQLite, in one run: ``python tests/benchmarks/store_servers.py [--trials N] [--out FILE]``.

Starts a server of its own, twice: without flushing to the disk (``fsync=off``) and with. Every measurement goes through
the stores in turn, so that a busy machine slows all alike; read the ratios.
"""

from __future__ import annotations

import argparse
import json
import os
import sqlite3
import statistics
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import psycopg
from query_speed import machine

from autoprune.bench import big_store
from autoprune.errors import AutopruneError
from autoprune.store import Store, new_owner, open_store
from autoprune.store.queue import LaunchQueue
from autoprune.testing.postgres_server import PostgresServer
from autoprune.testing.store_contract import create, finished, started
from autoprune.types import LaunchState, TrialState

GROUPS = {f"layer{group}.0.conv1": 8 + group for group in range(20)}
METRICS = {"top1": 0.5, "loss": 1.0, "macs": 1.0, "flops": 2.0, "params": 3.0, "keep_ratio": 0.5}


def milliseconds(seconds: list[float]) -> dict[str, Any]:
    ordered = sorted(each * 1e3 for each in seconds)
    return {
        "median_ms": round(statistics.median(ordered), 3),
        "p5_ms": round(ordered[len(ordered) // 20], 3),
        "p99_ms": round(ordered[int(len(ordered) * 0.99)], 3),
        "n": len(ordered),
    }


def in_turn(stores: Mapping[str, Any], act: Callable[[Any], object], repeats: int) -> dict[str, Any]:
    """Wall-clock and this process's own time of ``act``, one call of each store after the other."""
    wall: dict[str, list[float]] = {name: [] for name in stores}
    busy: dict[str, list[float]] = {name: [] for name in stores}
    for _ in range(repeats):
        for name, store in stores.items():
            began, began_cpu = time.perf_counter(), time.process_time()
            act(store)
            wall[name].append(time.perf_counter() - began)
            busy[name].append(time.process_time() - began_cpu)
    first = statistics.median(wall["sqlite"])
    return {
        name: {
            **milliseconds(wall[name]),
            "client_cpu_ms": milliseconds(busy[name])["median_ms"],
            "ratio": round(statistics.median(wall[name]) / first, 2),
        }
        for name in stores
    }


# --- one driver ------------------------------------------------------------------------------------------------------


def a_trial(stores: Mapping[str, Store], repeats: int) -> dict[str, Any]:
    leases, numbers = {}, {store: iter(range(repeats)) for store in stores.values()}
    for store in stores.values():
        create(store)
        leases[store] = store.claim("one", owner=new_owner(), ttl_seconds=3600)

    def act(store: Store) -> None:
        trial = started(next(numbers[store]), **GROUPS)
        store.start_trial(leases[store], trial, {"asked": trial.number})
        assert store.finish_trial(leases[store], finished(trial, **METRICS), {"told": trial.number})

    return {
        "start_and_finish": in_turn(stores, act, repeats),
        "renew": in_turn(stores, lambda store: store.renew(leases[store]), 100),
        "lookup": in_turn(stores, lambda store: store.lookup("e", "0" * 16), 100),
        "claim_and_release": in_turn(stores, lambda store: _claim(store), 50),
        "launch_claimed_and_finished": in_turn(stores, _launch, 50),
    }


def _claim(store: Store) -> None:
    create(store, "claimed")
    store.release(store.claim("claimed", owner=new_owner(), ttl_seconds=60))


def _launch(store: Store) -> None:
    queue = LaunchQueue(store)
    queue.add("two", {})
    claim = queue.claim(new_owner(), 60.0)
    assert claim is not None
    queue.finish(claim, LaunchState.COMPLETE)


# --- very many trials ------------------------------------------------------------------------------------------------


def queries(urls: Mapping[str, str], trials: int, repeats: int) -> dict[str, Any]:
    for name, url in urls.items():
        _fill(name, url, trials)
    results: dict[str, Any] = {"trials": trials}
    for what in big_store.user_queries(urls["sqlite"]):
        calls = {name: big_store.user_queries(url)[what] for name, url in urls.items()}
        for call in calls.values():
            call()
        results[what] = in_turn(calls, lambda call: call(), repeats)
    return results


def _fill(name: str, url: str, trials: int) -> None:
    if name == "sqlite":
        big_store.build(Path(url.removeprefix("sqlite:///")), trials)
        return
    with open_store(url) as store, psycopg.connect(url) as raw:
        store.create_search(
            big_store.NAME, config={}, digest="d", evaluation_digest="e", baseline=dict(big_store._BASELINE)
        )
        for rows, measured in big_store.rows_of(trials):
            _copy(raw, f"trials ({big_store._TRIAL})", rows)
            _copy(raw, f"metrics ({big_store._METRIC})", [(*row[:4], bool(row[4])) for row in measured])
        raw.commit()
        store.release(store.claim(big_store.NAME, owner=new_owner(), ttl_seconds=3600))
        raw.autocommit = True
        raw.execute("ANALYZE")


def _copy(raw: psycopg.Connection[Any], where: str, rows: list[tuple[Any, ...]]) -> None:
    with raw.cursor() as cursor, cursor.copy(f"COPY {where} FROM STDIN".encode()) as copy:
        for row in rows:
            copy.write_row(row)


# --- twenty writers, twenty readers ----------------------------------------------------------------------------------


def crowd(url: str, count: int, trials: int) -> dict[str, Any]:
    """``count`` drivers of a search each, and as many readers, a thread and a store each."""
    errors: list[str] = []
    ended, reads = threading.Event(), [0] * count

    def write(index: int) -> None:
        try:
            with open_store(url) as store:
                create(store, f"crowd{index}")
                lease = store.claim(f"crowd{index}", owner=new_owner(), ttl_seconds=60)
                for number in range(trials):
                    store.start_trial(lease, started(number), {"asked": number})
                    assert store.finish_trial(lease, finished(started(number), **METRICS), {"told": number})
                store.release(lease)
        except (AutopruneError, AssertionError) as error:
            errors.append(repr(error))

    def read(index: int) -> None:
        try:
            with open_store(url, read_only=True) as store:
                while not ended.is_set():
                    for record in store.searches()[:3]:
                        found = store.metric_columns(record.name, ["top1", "macs"])
                        assert len(found.numbers) <= trials
                    reads[index] += 1
                    ended.wait(0.05)
        except (AutopruneError, AssertionError) as error:
            errors.append(repr(error))

    open_store(url).close()
    writers = [threading.Thread(target=write, args=(index,)) for index in range(count)]
    readers = [threading.Thread(target=read, args=(index,)) for index in range(count)]
    began = time.perf_counter()
    for thread in [*writers, *readers]:
        thread.start()
    for thread in writers:
        thread.join()
    seconds = time.perf_counter() - began
    ended.set()
    for thread in readers:
        thread.join()
    with open_store(url, read_only=True) as store:
        kept = sum(len(store.trials(f"crowd{n}", states=[TrialState.COMPLETE])) for n in range(count))
    return {
        "writers": count,
        "readers": count,
        "trials_written": count * trials,
        "trials_kept": kept,
        "errors": errors,
        "seconds": round(seconds, 2),
        "trials_per_s": round(count * trials / seconds),
        "reads": sum(reads),
    }


# --- the run ---------------------------------------------------------------------------------------------------------


def urls_for(folder: Path, servers: Mapping[str, PostgresServer]) -> Iterator[dict[str, str]]:
    """An empty store of every kind, again and again."""
    for number in range(100):
        yield {
            "sqlite": f"sqlite:///{folder}/{number}.db",
            **{name: server.new_database() for name, server in servers.items()},
        }


def run(given: argparse.Namespace, folder: Path, servers: Mapping[str, PostgresServer]) -> dict[str, Any]:
    fresh = urls_for(folder, servers)
    opened = {name: open_store(url) for name, url in next(fresh).items()}
    result: dict[str, Any] = {"one_driver": a_trial(opened, given.repeats)}
    for store in opened.values():
        store.close()
    crowds = next(fresh)
    result["crowd"] = {name: crowd(url, given.crowd, given.each) for name, url in crowds.items()}
    big = next(fresh)
    result["queries"] = queries({name: big[name] for name in ("sqlite", "postgresql")}, given.trials, 7)
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--trials", type=int, default=100_000)
    parser.add_argument("--repeats", type=int, default=300)
    parser.add_argument("--crowd", type=int, default=20)
    parser.add_argument("--each", type=int, default=25)
    parser.add_argument("--out", help="also write the JSON there")
    given = parser.parse_args()
    with (
        tempfile.TemporaryDirectory() as folder,
        PostgresServer() as quick,
        PostgresServer(fsync="on", full_page_writes="on") as flushing,
    ):
        result = {
            "machine": {**machine(), "postgresql": quick.execute("SHOW server_version")[0][0]},
            "psycopg": psycopg.__version__,
            "sqlite": sqlite3.sqlite_version,
            **run(given, Path(folder), {"postgresql": quick, "postgresql_fsync": flushing}),
            "load_at_end": [round(value, 2) for value in os.getloadavg()],
        }
    text = json.dumps(result, indent=2)
    print(text)
    if given.out:
        Path(given.out).write_text(text + "\n")


if __name__ == "__main__":
    main()
