"""A store with very many finished trials, and the queries that users make of it."""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from autoprune.api import queries
from autoprune.errors import NothingFeasible
from autoprune.store import new_owner, open_store
from autoprune.types import Candidate

__all__ = ["NAME", "NEVER", "WHERE", "build", "rows_of", "user_queries"]

NAME = "big"
WHERE = ["macs <= 0.5 * baseline", "params <= 200k"]
NEVER = ["macs <= 0.01 * baseline", "top1 >= 0.9"]
_METRICS = ("top1", "loss", "macs", "flops", "params", "keep_ratio")
_BASELINE = {"top1": 0.92, "loss": 0.3, "macs": 40.6e6, "flops": 81.1e6, "params": 270e3, "keep_ratio": 1.0}
_BATCH = 20_000
_TRIAL = (
    "search_id, number, digest, widths, state, reason, attempt, note, timings, worker, duplicate_of, "
    "started_at, finished_at"
)
_METRIC = "search_id, number, name, value, added"
_Rows = list[tuple[Any, ...]]


def build(path: Path, trials: int, on_rows: Callable[[int], None] = lambda count: None) -> dict[str, float]:
    """A search with ``trials`` finished trials, written around the driver's way in; then packed by a claim.

    Twelve groups and six metrics a trial, about 730 bytes. ``on_rows`` is told how many trials were added. Returns the
    seconds of inserting and packing, and the megabytes of the file.
    """
    url, began = f"sqlite:///{path}", time.perf_counter()
    with open_store(url) as store:
        store.create_search(NAME, config={}, digest="d", evaluation_digest="e", baseline=_BASELINE)
        _insert(path, trials, on_rows)
        inserted = time.perf_counter()
        store.release(store.claim(NAME, owner=new_owner(), ttl_seconds=3600))
    packed = time.perf_counter()
    return {
        "insert_s": round(inserted - began, 1),
        "pack_s": round(packed - inserted, 2),
        "file_mb": round(path.stat().st_size / 1e6),
    }


def _insert(path: Path, trials: int, on_rows: Callable[[int], None]) -> None:
    raw = sqlite3.connect(path, isolation_level=None)
    raw.execute("PRAGMA synchronous=OFF")
    indices = raw.execute("SELECT name, sql FROM sqlite_master WHERE type = 'index' AND sql LIKE '% ON %'").fetchall()
    late = [(name, sql) for name, sql in indices if name in ("metrics_by_value", "ix_trials_digest")]
    for name, _ in late:
        raw.execute(f"DROP INDEX {name}")
    for rows, measured in rows_of(trials):
        raw.execute("BEGIN")
        raw.executemany(f"INSERT INTO trials ({_TRIAL}) VALUES ({','.join('?' * 13)})", rows)
        raw.executemany(f"INSERT INTO metrics ({_METRIC}) VALUES (?,?,?,?,?)", measured)
        raw.execute("COMMIT")
        on_rows(len(rows))
    for _, sql in late:
        raw.execute(sql)
    raw.close()


def rows_of(trials: int) -> Iterator[tuple[_Rows, _Rows]]:
    """Rows of ``trials`` and ``metrics``. Accuracy saturates with the MACs, is noisy, and counts 2,000 images."""
    rng = np.random.default_rng(0)
    groups = [f"layer{i}.conv1" for i in range(12)]
    for begin in range(0, trials, _BATCH):
        count = min(_BATCH, trials - begin)
        widths = rng.integers(4, 65, (count, len(groups)))
        keep = widths.mean(axis=1) / 64
        macs = _BASELINE["macs"] * keep * rng.uniform(0.3, 1.0, count)
        params = _BASELINE["params"] * keep * rng.uniform(0.6, 1.2, count)
        top1 = 0.92 * (1 - np.exp(-macs / 5e6)) - np.abs(rng.normal(0, 0.08, count))
        top1 = np.round(np.clip(top1, 0.1, 1) * 2000) / 2000
        columns = (top1, 1 - top1, np.round(macs), 2 * np.round(macs), np.round(params), keep)
        values = dict(zip(_METRICS, (column.tolist() for column in columns), strict=True))
        states = np.where(rng.random(count) < 0.95, "complete", "stopped").tolist()
        rows: _Rows = []
        measured: _Rows = []
        for i, row in enumerate(widths.tolist()):
            candidate = Candidate(dict(zip(groups, row, strict=True)))
            text, number = json.dumps(candidate.widths), begin + i
            rows.append((1, number, candidate.digest, text, states[i], "", 1, "{}", "{}", "", "", 1.0, 2.0 + number))
            measured += [(1, number, name, values[name][i], 0) for name in _METRICS]
        yield rows, measured


def user_queries(url: str) -> dict[str, Callable[[], object]]:
    """Calls as users make them: each opens the store, reads, and loads the trials that it answers with."""
    return {
        "front_two_constraints": lambda: queries.front(NAME, where=WHERE, store=url),
        "front_unconstrained": lambda: queries.front(NAME, store=url),
        "select_two_constraints": lambda: queries.select(NAME, where=WHERE, store=url),
        "select_nothing_feasible": lambda: _refused(lambda: queries.select(NAME, where=NEVER, store=url)),
        "hypervolume_history": lambda: queries.history(NAME, store=url),
    }


def _refused(call: Callable[[], object]) -> None:
    try:
        call()
    except NothingFeasible:
        return
    raise RuntimeError("expected no feasible trial")
