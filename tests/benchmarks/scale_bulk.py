"""Finished trials written around the driver, in the form that it writes: a big store in minutes. For ``scale.py``."""

from __future__ import annotations

import json
import sqlite3
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent))

from scale_search import NAME, Pretended, space_of

from autoprune.controllers.drawing import Aim
from autoprune.space import Decoder
from autoprune.store import new_owner, open_store
from autoprune.types import Candidate, Objective

__all__ = ["fill"]

_BATCH = 5_000
_TRIAL = (
    "search_id, number, digest, widths, state, reason, attempt, note, timings, worker, duplicate_of, "
    "started_at, finished_at"
)
_Rows = list[tuple[Any, ...]]


def fill(path: Path, trials: int, groups: int) -> dict[str, int]:
    """Random candidates, as random search spreads them over the costs, up to so many trials; then packed by a claim."""
    with open_store(f"sqlite:///{path}") as store:
        found = store.search(NAME)
        begin = sum(found.trial_counts.values())
        raw = sqlite3.connect(path, isolation_level=None)
        raw.execute("PRAGMA synchronous=OFF")
        late = raw.execute("SELECT name, sql FROM sqlite_master WHERE type = 'index' AND sql LIKE '% ON %'").fetchall()
        late = [(name, sql) for name, sql in late if name in ("metrics_by_value", "ix_trials_digest")]
        for name, _ in late:  # made anew at the end: their entries come in no order
            raw.execute(f"DROP INDEX {name}")
        for rows, measured in _batches(begin, trials, groups):
            raw.execute("BEGIN IMMEDIATE")
            raw.executemany(f"INSERT INTO trials ({_TRIAL}) VALUES ({','.join('?' * 13)})", rows)
            raw.executemany("INSERT INTO metrics (search_id, number, name, value, added) VALUES (?,?,?,?,0)", measured)
            raw.execute("COMMIT")
        for _, sql in late:
            raw.execute(sql)
        raw.close()
        store.release(store.claim(NAME, owner=new_owner(), ttl_seconds=3600))
    return {"written_around_the_driver": trials - begin}


def _batches(begin: int, end: int, groups: int) -> Iterator[tuple[_Rows, _Rows]]:
    space = space_of(groups)
    objectives = (Objective("top1", "max"), Objective("macs", "min"))
    aim, evaluator = Aim(Decoder(space, (), objectives=objectives), objectives), Pretended(space)
    for start in range(begin, end, _BATCH):
        count = min(_BATCH, end - start)
        rng = np.random.default_rng((0, start))
        widths = aim.widths(rng.uniform(-1.0, 1.0, (count, len(space.dimensions))), rng.uniform(size=count))
        top1, seconds = evaluator.measured(widths, rng.uniform(1e-9, 1.0, (count, 2)))
        costs = space.cost.metrics(widths)
        columns = {"top1": top1, "loss": 1.2 * (1 - top1), **costs}
        rows: _Rows = []
        measured: _Rows = []
        for at in range(count):
            candidate, number = space.candidate(widths[at]), start + at
            timings = json.dumps(dict(Pretended.measurement(float(top1[at]), float(seconds[at])).timings))
            rows.append(_row(number, candidate, timings))
            measured += [(1, number, name, float(values[at])) for name, values in columns.items()]
        yield rows, measured


def _row(number: int, candidate: Candidate, timings: str) -> tuple[Any, ...]:
    text = json.dumps(dict(candidate.widths))
    times = (1.7e9 + number, 1.7e9 + number + 1000.5)  # before any of the driver's, which are of today
    return (1, number, candidate.digest, text, "complete", "", 1, "{}", timings, "simulated", "", *times)


if __name__ == "__main__":
    print(json.dumps(fill(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))))
